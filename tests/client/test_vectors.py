"""Our Python clients pass the conformance kit: the rules alone, `Viewer`, and `tidegate watch`."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.client.scripted_gateway import Over, ScriptedGateway
from tests.client.vectors import OPERATION, Case, cases, seen, texts_of
from tests.harness import clock
from tidegate import Viewer
from tidegate.cli import watch
from tidegate.cli.watch_views import JsonView
from tidegate.client import following
from tidegate.client.watching import Decision, Return, WatchFinished, Watching
from tidegate.model.errors import ViewerRefused
from tidegate.model.folded_state import is_entry
from tidegate.model.frame_parsing import parse_frame

CASES = cases()
BASE = "ws://gateway"
CASES_OF = {
    file: [case for case in CASES if case.file == file] for file in {case.file for case in CASES}
}
FOR_EVER_S = 1e9
SHOWN = frozenset({"current_state", "gap", "skipped", "stale", "live"})
each_file = pytest.mark.parametrize("file", sorted(CASES_OF))
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


class Least(random.Random):
    """Draws the lower bound."""

    def uniform(self, a: float, b: float) -> float:
        return a


class Most(random.Random):
    """Draws the upper bound."""

    def uniform(self, a: float, b: float) -> float:
        return b


def once_told_the_state(shown: list[list[Any]]) -> list[list[Any]]:
    """`Viewer` hands out the state of its first connection only."""
    told = ["current_state", None]
    first = shown.index(told) if told in shown else 0
    return [row for at, row in enumerate(shown) if row != told or at == first]


def close_code(code: int) -> int:
    """An HTTP status of a refusal means the close code 4000 above it."""
    return 4000 + code if code < 1000 else code


def check(decision: Decision, expected: dict[str, Any], watching: Watching, bound: int) -> None:
    match expected["do"]:
        case "finish":
            assert decision == WatchFinished(expected["status"], decision.text)
        case "refuse":
            assert isinstance(decision, WatchFinished)
            assert decision.refused is not None
            assert close_code(decision.refused) == expected["close"]
        case "return":
            assert isinstance(decision, Return)
            assert decision.delay_s * 1000 == pytest.approx(expected["after_ms"][bound])
            assert watching.cursor == expected["last_event_id"]


def step_of(step: dict[str, Any], watching: Watching) -> Decision:
    if "close" in step:
        return watching.closed(step["close"])
    retry_after = step.get("retry_after", "")
    seconds = float(retry_after) if retry_after.isdigit() else None
    return watching.not_connected("words", status=step["http"], retry_after_s=seconds)


@each_case
def test_the_rules(case: Case) -> None:
    for bound, rng in enumerate((Least(), Most())):
        watching = Watching(OPERATION, [BASE], after=case.after, renewable=case.renewable, rng=rng)
        shown = []
        for step in case.steps:
            if "then" in step:
                check(step_of(step, watching), step["then"], watching, bound)
                continue
            frame = parse_frame(texts_of(step) or "")
            if frame is not None and watching.received(frame, 0.0):
                shown.append([frame.get("type"), frame.get("id") if is_entry(frame) else None])
        assert shown == case.shown
        assert seen(watching.state) == case.state


@each_file
def test_the_viewer(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for case in CASES_OF[file]:
        gateway = ScriptedGateway(case)
        monkeypatch.setattr(following, "connect", gateway.connect)
        viewer = Viewer(
            OPERATION,
            BASE,
            token=(lambda: "token") if case.renewable else None,
            last_event_id=case.after,
            patience_s=FOR_EVER_S,
        )
        shown: list[list[Any]] = []
        end: dict[str, Any] | None = None

        async def look(viewer: Viewer = viewer, shown: list[list[Any]] = shown) -> None:
            async for frame in viewer:
                # What came before the case is over counts.
                shown.append([frame.raw.get("type"), frame.id])  # noqa: PERF401

        try:
            clock.run(look())
            end = {"do": "finish", "status": viewer.status}
        except ViewerRefused as refused:
            end = {"do": "refuse", "close": close_code(refused.code)}
        except Over:
            pass
        assert shown == once_told_the_state(case.shown), case.name
        assert viewer.cursor == case.state["cursor"], case.name
        assert seen(viewer.state) == case.state, case.name
        assert end == gateway.expected_end, case.name
        gateway.check_waits()


@each_file
def test_the_command_watch(
    file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for case in CASES_OF[file]:
        gateway = ScriptedGateway(case)
        monkeypatch.setattr(following, "connect", gateway.connect)
        watching = Watching(OPERATION, [BASE], after=case.after, renewable=case.renewable)
        end: dict[str, Any] | None = None
        try:
            told = clock.run(watch._show(watching, JsonView(), FOR_EVER_S, None))
            end = {"do": "refuse"}
            if isinstance(told, WatchFinished):
                end = {"do": "finish", "status": told.status}
        except Over:
            pass
        lines = [parse_frame(line) or {} for line in capsys.readouterr().out.splitlines()]
        shown = [
            [line.get("type"), line.get("id") if is_entry(line) else None]
            for line in lines
            if is_entry(line) or str(line.get("type")) in SHOWN
        ]
        assert shown == case.shown, case.name
        assert seen(watching.state) == case.state, case.name
        expected = gateway.expected_end
        assert end == (expected and {k: v for k, v in expected.items() if k != "close"}), case.name
        gateway.check_waits()


def test_there_are_as_many_cases_as_are_promised() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))
    assert len(names) >= 380
