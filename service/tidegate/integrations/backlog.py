"""What a reporter has still to send: pure, bounded, and in order for each operation.

| what       | when the buffer is full                        | while it waits                    |
|------------|------------------------------------------------|-----------------------------------|
| a progress | kept                                           | replaced by the next one          |
| an entry   | refused and counted; an `entries_lost` says so | stays, in order                   |
| a step     | kept: start, retry and end are few and small   | stays, behind the progress before |

One batch of an operation is with Redis at a time, and one that failed is the next one again,
unchanged: whoever sends it may do so under the same idempotency key. Of operations that wait only
the newest `max_operations` are kept.
"""

from __future__ import annotations

import enum
import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from tidegate.model.ids import OperationId

MAX_BYTES = 8 * 1_048_576
MAX_OPERATIONS = 10_000
BATCH_MAX_ENTRIES = 200
BATCH_MAX_BYTES = 262_144
#: Lanes remembered before those with nothing to send are forgotten.
TIDY_ABOVE = 256


class ItemKind(enum.Enum):
    """What an item is, and with it how it is written."""

    PROGRESS = "may be written twice"
    ENTRY = "once"
    START = "once for each run"
    STEP = "only while the operation has not ended"


class TaskPart(NamedTuple):
    """One task of an operation of many.

    Attributes:
        of: how many there are.
        result: data of the end, if this is the last one to end.
    """

    name: str
    fraction: float
    of: int
    result: bytes | None = None


@dataclass(frozen=True, slots=True)
class WaitingItem:
    """One entry. `run` names the run of a START; with `part` the text is made when it is sent; of a
    retry `attempt` is the one to come: once that has started, there is nothing to say.
    """

    kind: ItemKind
    text: bytes
    run: str = ""
    part: TaskPart | None = None
    attempt: int = 0


class Lane(NamedTuple):
    """What is sent in order: an operation, or one part of it."""

    operation: OperationId
    part: str = ""


@dataclass(frozen=True, slots=True)
class ItemBatch:
    """Items that are written together. `number` tells batches apart."""

    lane: Lane
    items: tuple[WaitingItem, ...]
    number: int

    @property
    def texts(self) -> list[bytes]:
        return [item.text for item in self.items]

    def has(self, kind: ItemKind) -> bool:
        return any(item.kind is kind for item in self.items)

    @property
    def entry_bytes(self) -> int:
        return sum(len(item.text) for item in self.items if item.kind is ItemKind.ENTRY)


class _Waiting:
    """Of one lane."""

    __slots__ = ("failed", "free_at", "held", "is_away", "items", "lost")

    def __init__(self) -> None:
        self.items: deque[WaitingItem] = deque()
        #: The newest progress, which goes out when the interval is over.
        self.held: WaitingItem | None = None
        self.free_at = 0.0
        #: A batch is with Redis.
        self.is_away = False
        self.failed: ItemBatch | None = None
        self.lost = 0

    @property
    def is_empty(self) -> bool:
        return not (self.items or self.held or self.is_away or self.failed or self.lost)


class Backlog:
    """Not safe to use from several threads at once; `TaskReporter` has the lock.

    Args:
        interval_s: least time between two progress entries of a lane.
        lost: the text of the entry that says how many were refused.
    """

    def __init__(
        self,
        interval_s: float,
        lost: Callable[[int], bytes],
        *,
        max_bytes: int = MAX_BYTES,
        max_operations: int = MAX_OPERATIONS,
    ) -> None:
        self._interval_s = interval_s
        self._lost_text = lost
        self._max_bytes = max_bytes
        self._max_operations = max_operations
        self._lanes: dict[Lane, _Waiting] = {}
        #: Have something that may be sent now; a dict keeps their order.
        self._ready: dict[Lane, None] = {}
        self._timed: list[tuple[float, Lane]] = []
        self._bytes = 0
        self._number = 0
        self._tidy_at = TIDY_ABOVE
        #: Entries and operations that were refused or dropped so far.
        self.dropped = 0

    def progress(self, lane: Lane, item: WaitingItem, now: float) -> bool:
        """Take an update instead of the one before; whether there is something new to do."""
        waiting = self._lane(lane, now)
        known = waiting.held is not None
        waiting.held = item
        if known or waiting.is_away or waiting.failed:
            return False
        return self._schedule(lane, waiting, now)

    def add(self, lane: Lane, item: WaitingItem, now: float) -> bool:
        """Take an entry or a step; False: it was refused, because the buffer is full."""
        waiting = self._lane(lane, now)
        if item.kind is ItemKind.ENTRY:
            if self._bytes + len(item.text) > self._max_bytes:
                waiting.lost += 1
                self.dropped += 1
                if not waiting.is_away:
                    self._ready[lane] = None  # to say so
                return False
            self._tell_lost(waiting)
            self._bytes += len(item.text)
        else:
            self._tell_lost(waiting)
            if waiting.held is not None:
                waiting.items.append(waiting.held)
                waiting.held = None
        waiting.items.append(item)
        if not waiting.is_away:
            self._ready[lane] = None
        return True

    def take(self, now: float) -> ItemBatch | None:
        """What to send next; say then what became of it, with `sent` or `put_back`."""
        while self._timed and self._timed[0][0] <= now:
            lane = heapq.heappop(self._timed)[1]
            waiting = self._lanes.get(lane)
            if waiting is not None and waiting.held is not None and not waiting.is_away:
                self._ready[lane] = None
        while self._ready:
            lane = next(iter(self._ready))
            del self._ready[lane]
            waiting = self._lanes[lane]
            batch = waiting.failed or self._batch(lane, waiting, now)
            waiting.failed = None
            if batch is not None:
                waiting.is_away = True
                return batch
            self._schedule(lane, waiting, now)
        return None

    def sent(self, batch: ItemBatch, now: float) -> None:
        """It is written, or never will be."""
        self._bytes -= batch.entry_bytes
        waiting = self._lanes.get(batch.lane)
        if waiting is not None:
            waiting.is_away = False
            self._schedule(batch.lane, waiting, now)

    def put_back(self, batch: ItemBatch) -> None:
        """It was not written, or perhaps: it is the lane's next batch again."""
        waiting = self._lanes.get(batch.lane)
        if waiting is None:  # dropped in the meantime
            self._bytes -= batch.entry_bytes
            return
        waiting.is_away = False
        waiting.failed = batch
        self._ready[batch.lane] = None

    def next_due(self) -> float | None:
        """When `take` will have something: 0 for now; None: there is nothing."""
        if self._ready:
            return 0.0
        while self._timed:
            at, lane = self._timed[0]
            waiting = self._lanes.get(lane)
            if waiting is not None and waiting.held is not None:
                return at
            heapq.heappop(self._timed)
        return None

    def hurry(self) -> None:
        """Progress that is held may go out now."""
        for lane, waiting in self._lanes.items():
            if waiting.held is not None:
                waiting.free_at = 0.0
                if not waiting.is_away:
                    self._ready[lane] = None

    def is_waiting(self, operation: OperationId | None = None) -> bool:
        """Whether anything (of this operation) is not written yet."""
        return any(
            not waiting.is_empty
            for lane, waiting in self._lanes.items()
            if operation is None or lane.operation == operation
        )

    # -- inside -----------------------------------------------------------------------------------

    def _lane(self, lane: Lane, now: float) -> _Waiting:
        waiting = self._lanes.get(lane)
        if waiting is None:
            if len(self._lanes) >= self._tidy_at:
                self._tidy(now)
            waiting = self._lanes[lane] = _Waiting()
        return waiting

    def _tidy(self, now: float) -> None:
        quiet = [lane for lane, one in self._lanes.items() if one.is_empty and one.free_at <= now]
        for lane in quiet:
            del self._lanes[lane]
        # Twice as many before the next look, so that it costs little for each.
        self._tidy_at = min(self._max_operations, max(TIDY_ABOVE, 2 * len(self._lanes)))
        if len(self._lanes) >= self._max_operations:
            oldest = next(iter(self._lanes))
            waiting = self._lanes.pop(oldest)
            self._ready.pop(oldest, None)
            left = [*waiting.items, *(waiting.failed.items if waiting.failed else ())]
            self._bytes -= sum(len(item.text) for item in left if item.kind is ItemKind.ENTRY)
            self.dropped += max(1, len(left))

    def _tell_lost(self, waiting: _Waiting) -> None:
        if waiting.lost:
            waiting.items.append(WaitingItem(ItemKind.STEP, self._lost_text(waiting.lost)))
            waiting.lost = 0

    def _schedule(self, lane: Lane, waiting: _Waiting, now: float) -> bool:
        if waiting.items or waiting.failed or waiting.lost:
            self._ready[lane] = None
        elif waiting.held is None:
            return False
        elif now >= waiting.free_at:
            self._ready[lane] = None
        else:
            heapq.heappush(self._timed, (waiting.free_at, lane))
        return True

    def _batch(self, lane: Lane, waiting: _Waiting, now: float) -> ItemBatch | None:
        items: list[WaitingItem] = []
        size = 0
        if not waiting.items:
            self._tell_lost(waiting)
        while waiting.items and len(items) < BATCH_MAX_ENTRIES:
            first = waiting.items[0]
            alone = first.kind is ItemKind.START or first.part is not None
            if items and (alone or size + len(first.text) > BATCH_MAX_BYTES):
                break
            items.append(waiting.items.popleft())
            size += len(first.text)
            if alone or first.kind is ItemKind.STEP:
                break
        if not items and waiting.held is not None and now >= waiting.free_at:
            items.append(waiting.held)
            waiting.held = None
        if not items:
            return None
        if items[-1].kind is ItemKind.PROGRESS:
            waiting.free_at = now + self._interval_s
        self._number += 1
        return ItemBatch(lane, tuple(items), self._number)
