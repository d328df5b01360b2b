"""The backend of ``tidegate run``: operations of several lengths, some of which do not end well.

``python -m tidegate.cli.demo_backend OPERATIONS [SEED]`` reads its settings as every command does
and uses nothing but plain ``XADD``, as a backend in any language would, and ``EXISTS`` to see
whether a viewer wants an operation to stop. Each new operation is announced on an ordinary
operation named ``demo``, which is how the page learns of it; what the page asks for comes on
another one. On SIGTERM the streams that it wrote are deleted: they may be in a server that was
there before.
"""

from __future__ import annotations

import heapq
import random
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from itertools import chain, islice, repeat
from types import FrameType
from typing import Any, NoReturn

from tidegate.cli.demo_plans import WORK, DemoPlan, Step, plan_kind, plan_operation
from tidegate.model.errors import RedisUnavailable
from tidegate.model.ids import OperationId
from tidegate.redis.publishing import EntryWriter, Listener, message
from tidegate.web.demo.requests import INDEX, REQUESTS, Kind, Wanted, read_request

INDEX_MAXLEN = 200
_FIRST_LENGTHS_S = (3.0, 8.0, 20.0, 45.0, 90.0, 180.0)
#: Of those that someone asked for; what is above ends at once.
REQUESTED_MAX = 20
KEPT = 60
STOPPED = "stopped by a viewer"
RETRY_S = 0.5
#: A stop is noticed by its signal; this bounds one wait for a request.
LISTEN_S = 1.0
#: As often it is looked whether a viewer wants an operation to stop.
LOOK_EVERY_S = 1.0


class _Stop(Exception):
    """SIGTERM or SIGINT came."""


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise _Stop


class DemoBackend:
    """Keeps so many operations going, each an iterator of steps in a heap by due time."""

    def __init__(
        self,
        publisher: EntryWriter,
        index: EntryWriter,
        requests: Listener,
        rng: random.Random,
        operations: int,
    ) -> None:
        self._wanted = operations
        self._publisher = publisher
        self._index = index
        self._requests = requests
        self._rng = rng
        self._titles = rng.sample(list(WORK), len(WORK))
        # Ids of an earlier run may still be in the server and in someone's browser.
        self._run = f"{int(time.time()):x}"
        self._count = 0
        self._pushed = 0
        self._due: list[tuple[float, int, OperationId, Iterator[Step], Step]] = []
        self._running: set[OperationId] = set()
        self._requested: set[OperationId] = set()
        self._ended: deque[OperationId] = deque()
        self._look_at: dict[OperationId, float] = {}

    def run(self) -> NoReturn:
        # The first ones show all lengths at once, and an end within seconds.
        for length_s in islice(chain(_FIRST_LENGTHS_S, repeat(None)), self._wanted):
            self._begin(length_s)
        while True:
            self._listen(self._due[0][0] - time.monotonic() if self._due else LISTEN_S)
            if not self._due or self._due[0][0] > time.monotonic():
                continue
            _, _, operation, steps, step = heapq.heappop(self._due)
            stopped = self._is_stopped(operation)
            if stopped:
                step = Step(0.0, "operation_cancelled", {"status": "cancelled", "message": STOPPED})
            self._write(self._publisher, operation, step.type, step.data)
            following = None if stopped else next(steps, None)
            if following is None:
                self._end(operation)
            else:
                self._push(operation, steps, following)

    def _is_stopped(self, operation: OperationId) -> bool:
        """Whether a viewer wants it to stop; looked for once a second at the most."""
        now = time.monotonic()
        if now < self._look_at.get(operation, now):
            return False
        self._look_at[operation] = now + LOOK_EVERY_S
        try:
            return self._publisher.cancel_requested(operation)
        except RedisUnavailable:
            return False  # writing will say it

    def _listen(self, wait_s: float) -> None:
        """Begin what is asked for within this time."""
        if wait_s <= 0:
            return
        wait_s = min(wait_s, LISTEN_S)
        try:
            texts = self._requests.wait(wait_s)
        except RedisUnavailable:
            time.sleep(min(wait_s, RETRY_S))  # writing will say it
            return
        for wanted in map(read_request, texts):
            known = None if wanted is None else wanted.operation
            if wanted is not None and known not in self._running and known not in self._ended:
                self._begin_requested(wanted)

    def _begin(self, length_s: float | None = None) -> None:
        self._count += 1
        operation = OperationId(f"demo-{self._run}-{self._count:04d}")
        if self._count % 6 == 4:  # among the first ones too
            kind: Kind = "text" if self._rng.random() < 0.5 else "rows"
            plan = plan_kind(operation, self._rng, kind, length_s or 30.0)
        else:
            title = self._titles[self._count % len(self._titles)]  # what runs differs
            plan = plan_operation(operation, self._rng, length_s, title=title)
        self._announce(plan)

    def _begin_requested(self, wanted: Wanted) -> None:
        plan = plan_kind(wanted.operation, self._rng, wanted.kind, wanted.seconds)
        if len(self._requested) >= REQUESTED_MAX:
            error = f"the demo runs at most {REQUESTED_MAX} of these at a time; retry later"
            failed = Step(0.0, "operation_failed", {"status": "failed", "error": error})
            plan = DemoPlan(plan.operation, plan.title, 0.0, "failed", (plan.steps[0], failed))
        self._requested.add(plan.operation)
        self._announce(plan)

    def _announce(self, plan: DemoPlan) -> None:
        self._running.add(plan.operation)
        data = {
            "operation": plan.operation,
            "title": plan.title,
            "expected_s": round(plan.length_s, 1),
        }
        self._write(self._index, INDEX, "operation_listed", data)
        steps = iter(plan.steps)
        self._push(plan.operation, steps, next(steps))

    def _end(self, operation: OperationId) -> None:
        self._running.discard(operation)
        self._look_at.pop(operation, None)
        self._ended.append(operation)
        if operation in self._requested:
            self._requested.discard(operation)
        else:
            self._begin()
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
            for operation in (*self._running, *self._ended, INDEX, REQUESTS):
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
    operations = int(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else None
    with (
        EntryWriter(settings) as publisher,
        EntryWriter(settings, maxlen=INDEX_MAXLEN) as index,
        Listener(settings, REQUESTS) as requests,
    ):
        backend = DemoBackend(publisher, index, requests, random.Random(seed), operations)
        try:
            # Before this a signal ends the process, which has written nothing yet.
            signal.signal(signal.SIGTERM, _stop)
            signal.signal(signal.SIGINT, _stop)
            backend.run()
        except _Stop:
            backend.clean_up()


if __name__ == "__main__":
    main()
