"""Two ways in which a stream's turn comes without a ring.

`DueTimes` is one timer over all streams that wait for a moment of their own (`Arming.due`).
`PeriodicCheck` goes round all streams at an even pace, a few at each tick.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from math import inf

from tidegate.core.loop_clock import TICK_S
from tidegate.redis.subscription import StreamSubscription


class DueTimes:
    """Calls `act` for each stream whose `arming.due` has come; one that was changed lapses."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, act: Callable[[StreamSubscription], None]
    ) -> None:
        self._loop = loop
        self._act = act
        self._heap: list[tuple[float, int, StreamSubscription]] = []
        self._order = count()
        # uvloop has no TimerHandle for less than half a millisecond: it has a plain Handle.
        self._timer: asyncio.Handle | None = None
        self._timer_due = inf  # loop time

    def add(self, watch: StreamSubscription) -> None:
        """Its due time was set."""
        due = watch.arming.due
        if due is None:
            return
        heapq.heappush(self._heap, (due, next(self._order), watch))
        if due < self._timer_due:
            self._set_timer()

    def clear(self) -> None:
        """Nothing is due any more."""
        self._heap.clear()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_due = None, inf
        if self._heap:
            self._timer_due = self._heap[0][0]
            self._timer = self._loop.call_at(self._timer_due, self._ring)

    def _ring(self) -> None:
        until = self._loop.time() + TICK_S
        while self._heap and self._heap[0][0] <= until:
            _, _, watch = heapq.heappop(self._heap)
            if watch.arming.is_due(until):
                self._act(watch)
        self._set_timer()


class PeriodicCheck:
    """Round and round over all streams."""

    def __init__(self) -> None:
        self._streams: deque[StreamSubscription] = deque()
        self._known: set[StreamSubscription] = set()
        self._owed = 0.0

    def add(self, watch: StreamSubscription) -> None:
        """Look at this stream too, until it is no longer current."""
        if watch not in self._known:
            self._known.add(watch)
            self._streams.append(watch)

    def clear(self) -> None:
        """Forget all streams."""
        self._streams.clear()
        self._known.clear()
        self._owed = 0.0

    def turn(
        self, looks: float, is_current: Callable[[StreamSubscription], bool]
    ) -> Iterator[StreamSubscription]:
        """The streams whose turn it is; `looks` may be less than one and adds up."""
        self._owed += looks
        number = min(int(self._owed), len(self._streams))
        self._owed -= int(self._owed)
        for _ in range(number):
            watch = self._streams.popleft()
            if is_current(watch):
                self._streams.append(watch)
                yield watch
            else:
                self._known.discard(watch)
