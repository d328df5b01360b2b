"""The conformance kit (`clients/vectors`) as Python reads it: cases, and states as in them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from tidegate.model.folded_state import FoldedState, LastGap

FOLDER = Path(__file__).parents[2] / "clients" / "vectors"
OPERATION = "42"
#: What a case may leave out; in FoldedState it is how numbers are read, no part of the state.
_INSIDE = {"in_percent"}


class Case(NamedTuple):
    """One case; see clients/vectors/README.md."""

    file: str
    name: str
    after: str | None
    renewable: bool
    steps: list[dict[str, Any]]
    shown: list[list[Any]]
    state: dict[str, Any]


def texts_of(step: dict[str, Any]) -> str | None:
    """The text that a client receives in this step; None for a step that is none."""
    if "frame" in step:
        return json.dumps(step["frame"])
    text: str | None = step.get("text")
    return text


def cases() -> list[Case]:
    return [
        Case(
            path.stem,
            f"{path.stem}: {case['name']}",
            case.get("after"),
            case.get("renewable", False),
            case["steps"],
            case["shown"],
            {**seen(FoldedState(cursor=case.get("after"))), **case["state"]},
        )
        for path in sorted(FOLDER.glob("*.json"))
        for case in map(_expanded, json.loads(path.read_text("utf-8"))["cases"])
    ]


def _expanded(case: dict[str, Any]) -> dict[str, Any]:
    """The case with its long texts, which are written as names."""
    text = json.dumps(case, ensure_ascii=False)
    for name, (part, times) in case.get("repeated", {}).items():
        text = text.replace(name, part * times)
    expanded: dict[str, Any] = json.loads(text)
    return expanded


def seen(state: FoldedState) -> dict[str, Any]:
    """A state as the vectors write it."""
    whole = {name: value for name, value in asdict(state).items() if name not in _INSIDE}
    if isinstance(state.gap, LastGap):
        whole["gap"] = state.gap._asdict()
    return whole
