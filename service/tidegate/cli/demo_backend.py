"""The backend of ``tidegate run``: operations of several lengths, some of which do not end well.

``python -m tidegate.cli.demo_backend`` reads its settings as every command does and uses nothing
but plain ``XADD``, as a backend in any language would. Each new operation is announced on an
ordinary operation named ``demo``, which is how the page learns of it. On SIGTERM the streams that
it wrote are deleted: they may be in a server that was there before.
"""

from __future__ import annotations

import heapq
import random
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from tidegate.model.errors import RedisUnavailable
from tidegate.model.ids import OperationId
from tidegate.redis.publishing import EntryWriter, message

INDEX = OperationId("demo")
INDEX_MAXLEN = 200
SHORTEST_S = 3.0
LONGEST_S = 180.0
RUNNING = 6
KEPT = 60
RETRY_S = 0.5

_WORK = {
    "Encode video": ("read source", "encode", "write segments", "upload"),
    "Import customers": ("read file", "check rows", "match", "insert"),
    "Train model": ("load data", "epoch 1", "epoch 2", "epoch 3", "evaluate"),
    "Render report": ("query", "lay out", "render pages"),
    "Restore backup": ("fetch", "verify", "unpack", "replay log"),
    "Index documents": ("list", "extract text", "build index", "swap in"),
}
_OUTCOMES = ("completed",) * 7 + ("failed",) * 2 + ("cancelled",)
_FAULTS = ("the disk is full", "a worker was lost", "row 4711 has no key", "timed out upstream")


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
    operation: OperationId, rng: random.Random, length_s: float | None = None
) -> DemoPlan:
    """Make up one operation; lengths are spread evenly over their logarithm."""
    title = rng.choice(list(_WORK))
    if length_s is None:
        length_s = SHORTEST_S * (LONGEST_S / SHORTEST_S) ** rng.random()
    outcome = rng.choice(_OUTCOMES)
    # What does not complete ends somewhere on the way.
    reach = 1.0 if outcome == "completed" else rng.uniform(0.25, 0.9)
    steps = tuple(_steps(title, length_s, outcome, reach, rng))
    return DemoPlan(operation, title, length_s, outcome, steps)


def _steps(
    title: str, length_s: float, outcome: str, reach: float, rng: random.Random
) -> Iterator[Step]:
    stages = _WORK[title]
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


class _Stop(Exception):
    """SIGTERM or SIGINT came."""


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise _Stop


class DemoBackend:
    """Keeps ``RUNNING`` operations going, each an iterator of steps in a heap by due time."""

    def __init__(self, publisher: EntryWriter, index: EntryWriter, rng: random.Random) -> None:
        self._publisher = publisher
        self._index = index
        self._rng = rng
        # Ids of an earlier run may still be in the server and in somebody's browser.
        self._run = f"{int(time.time()):x}"
        self._count = 0
        self._pushed = 0
        self._due: list[tuple[float, int, OperationId, Iterator[Step], Step]] = []
        self._running: set[OperationId] = set()
        self._ended: deque[OperationId] = deque()

    def run(self) -> NoReturn:
        # The first ones show all lengths at once, and an end within seconds.
        for length_s in (3.0, 8.0, 20.0, 45.0, 90.0, 180.0)[:RUNNING]:
            self._begin(length_s)
        while True:
            due, _, operation, steps, step = heapq.heappop(self._due)
            time.sleep(max(0.0, due - time.monotonic()))
            self._write(self._publisher, operation, step.type, step.data)
            following = next(steps, None)
            if following is None:
                self._end(operation)
                self._begin()
            else:
                self._push(operation, steps, following)

    def _begin(self, length_s: float | None = None) -> None:
        self._count += 1
        operation = OperationId(f"demo-{self._run}-{self._count:04d}")
        plan = plan_operation(operation, self._rng, length_s)
        self._running.add(operation)
        self._write(
            self._index,
            INDEX,
            "operation_listed",
            {"operation": operation, "title": plan.title, "expected_s": round(plan.length_s, 1)},
        )
        steps = iter(plan.steps)
        self._push(operation, steps, next(steps))

    def _end(self, operation: OperationId) -> None:
        self._running.discard(operation)
        self._ended.append(operation)
        if len(self._ended) > KEPT:
            oldest = self._ended.popleft()
            try:
                self._publisher.remove(oldest)
            except RedisUnavailable:
                self._ended.append(oldest)  # later, or at the end

    def _push(self, operation: OperationId, steps: Iterator[Step], step: Step) -> None:
        due = time.monotonic() + step.delay_s
        self._pushed += 1  # so that steps of one instant never compare further than this
        heapq.heappush(self._due, (due, self._pushed, operation, steps, step))

    def _write(
        self, publisher: EntryWriter, operation: OperationId, type_: str, data: dict[str, Any]
    ) -> None:
        """Until it is written: a demo of a dead Redis should go on where it was."""
        said = False
        while True:
            try:
                publisher.publish(operation, message(type_, data))
            except RedisUnavailable as error:
                if not said:
                    _say(f"waits for Redis ({error})")
                    said = True
                time.sleep(RETRY_S)
            else:
                if said:
                    _say("has Redis again")
                return

    def clean_up(self) -> None:
        try:
            for operation in (*self._running, *self._ended, INDEX):
                self._publisher.remove(operation)
        except RedisUnavailable:
            # The server goes down with us, or is away: then nothing can be done here.
            return


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def main() -> None:
    from tidegate.cli.settings_source import load_settings

    settings = load_settings().settings.redis
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else None
    with EntryWriter(settings) as publisher, EntryWriter(settings, maxlen=INDEX_MAXLEN) as index:
        backend = DemoBackend(publisher, index, random.Random(seed))
        try:
            # Before this a signal ends the process, which has written nothing yet.
            signal.signal(signal.SIGTERM, _stop)
            signal.signal(signal.SIGINT, _stop)
            backend.run()
        except _Stop:
            backend.clean_up()


if __name__ == "__main__":
    main()
