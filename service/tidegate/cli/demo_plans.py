"""What the demo backend makes up: operations of several kinds and lengths, some ending badly.

Pure: the same random generator gives the same plans, and writing them is someone else's.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tidegate.model.ids import OperationId
from tidegate.web.demo.requests import LONGEST_S, SHORTEST_S, Kind

WORK = {
    "Encode video": ("read source", "encode", "write segments", "upload"),
    "Import customers": ("read file", "check rows", "match", "insert"),
    "Train model": ("load data", "epoch 1", "epoch 2", "epoch 3", "evaluate"),
    "Render report": ("query", "lay out", "render pages"),
    "Restore backup": ("fetch", "verify", "unpack", "replay log"),
    "Index documents": ("list", "extract text", "build index", "swap in"),
}
_OUTCOMES = ("completed",) * 7 + ("failed",) * 2 + ("cancelled",)
_FAULTS = ("the disk is full", "a worker was lost", "row 4711 has no key", "timed out upstream")
_ROWS = "Archive orders"
_TEXT = "Write an answer"
_WORDS = """\
A backend appends this text to a Redis Stream, a few characters at a time, with plain XADD. \
Every viewer receives all of it, in order and exactly once.

The replica that delivers it keeps nothing that is not in Redis. Kill it: your browser connects \
to another one, sends the id of the last entry that it received, and the text continues in the \
middle of a word. Reload the page, or open it on a second device: the text is the same, byte by \
byte.

Redis needed no configuration for this, and the operation was not registered anywhere. If an \
update cannot be recovered, the viewer receives a gap frame instead of a text that only looks \
complete.
"""
TOKEN_CHARS = 4


@dataclass(frozen=True, slots=True)
class Step:
    """What the backend writes next: ``delay_s`` after the step before."""

    delay_s: float
    type: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """One operation as it will happen; the same seed gives the same plans."""

    operation: OperationId
    title: str
    length_s: float
    outcome: str
    steps: tuple[Step, ...]


def plan_operation(
    operation: OperationId,
    rng: random.Random,
    length_s: float | None = None,
    *,
    title: str | None = None,
) -> DemoPlan:
    """Make up work in stages; lengths are spread evenly over their logarithm."""
    title = title or rng.choice(list(WORK))
    if length_s is None:
        length_s = SHORTEST_S * (LONGEST_S / SHORTEST_S) ** rng.random()
    return _in_stages(operation, rng, title, length_s, rng.choice(_OUTCOMES))


def plan_kind(operation: OperationId, rng: random.Random, kind: Kind, length_s: float) -> DemoPlan:
    """One operation of a kind that someone has chosen."""
    title = rng.choice(list(WORK))
    match kind:
        case "text":
            steps = tuple(_text(length_s))
            return DemoPlan(operation, _TEXT, length_s, "completed", steps)
        case "rows":
            steps = tuple(_rows(length_s, rng))
            return DemoPlan(operation, _ROWS, length_s, "completed", steps)
        case "failure":
            return _in_stages(operation, rng, title, length_s, "failed")
        case _:
            return _in_stages(operation, rng, title, length_s, "completed")


def _in_stages(
    operation: OperationId, rng: random.Random, title: str, length_s: float, outcome: str
) -> DemoPlan:
    # What does not complete ends somewhere on the way.
    reach = 1.0 if outcome == "completed" else rng.uniform(0.25, 0.9)
    steps = tuple(_stages(title, length_s, outcome, reach, rng))
    return DemoPlan(operation, title, length_s, outcome, steps)


def _stages(
    title: str, length_s: float, outcome: str, reach: float, rng: random.Random
) -> Iterator[Step]:
    stages = WORK[title]
    yield Step(0.0, "operation_started", {"status": "running", "title": title})
    # Between four updates a second and one in two seconds.
    interval_s = min(2.0, max(0.25, length_s / 80))
    count = max(2, int(length_s * reach / interval_s))
    stage = ""
    for n in range(1, count + 1):
        progress = reach * n / count
        now = stages[min(len(stages) - 1, int(progress * len(stages)))]
        delay_s = interval_s * rng.uniform(0.7, 1.3)
        if now != stage:
            stage = now
            yield Step(delay_s, "stage", {"message": stage})
            delay_s = 0.0
        yield Step(delay_s, "progress", {"progress": round(progress, 4), "message": stage})
    data: dict[str, Any] = {"status": outcome}
    if outcome == "completed":
        data["progress"] = 1.0
        data["message"] = f"{title}: done"
    elif outcome == "failed":
        data["error"] = rng.choice(_FAULTS)
    else:
        data["message"] = "cancelled by its owner"
    yield Step(interval_s, f"operation_{outcome}", data)


def _text(length_s: float) -> Iterator[Step]:
    """Token by token, as a language model writes; how much is to come is not known."""
    yield Step(0.0, "operation_started", {"status": "running", "title": _TEXT})
    tokens = [_WORDS[at : at + TOKEN_CHARS] for at in range(0, len(_WORDS), TOKEN_CHARS)]
    for token in tokens:
        yield Step(length_s / len(tokens), "append", {"text": token})
    said = {"status": "completed", "message": f"{len(_WORDS.split())} words"}
    yield Step(0.1, "operation_completed", said)


def _rows(length_s: float, rng: random.Random) -> Iterator[Step]:
    """So many of so many."""
    total = rng.randint(2_000, 60_000)
    data = {"status": "running", "title": _ROWS, "current": 0, "total": total}
    yield Step(0.0, "operation_started", data)
    interval_s = min(1.0, max(0.2, length_s / 100))
    count = max(2, int(length_s / interval_s))
    for n in range(1, count + 1):
        row = total * n // count
        message = f"{row:,} of {total:,} rows"
        yield Step(
            interval_s * rng.uniform(0.7, 1.3), "progress", {"current": row, "message": message}
        )
    said = {"status": "completed", "message": f"{total:,} rows copied"}
    yield Step(interval_s, "operation_completed", said)
