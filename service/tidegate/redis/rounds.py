"""The two timers that act on streams without a change notification.

`DueTimes` is one timer for all streams that have a due time of their own (`Arming.due`).
`PeriodicCheck` visits all streams at a constant rate, a few at each tick.
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
    """Calls `act` for each stream that is due by `arming.due`. A due time that was changed
    meanwhile is ignored.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, act: Callable[[StreamSubscription], None]
    ) -> None:
        self._loop = loop
        self._act = act
        self._heap: list[tuple[float, int, StreamSubscription]] = []
        self._order = count()
        # For less than half a millisecond uvloop returns a Handle, which has no `when`.
        self._timer: asyncio.Handle | None = None
        self._timer_due = inf  # loop time

    def add(self, watch: StreamSubscription) -> None:
        """Call this after the due time of a stream was set."""
        due = watch.arming.due
        if due is None:
            return
        heapq.heappush(self._heap, (due, next(self._order), watch))
        if due < self._timer_due:
            self._set_timer()

    def clear(self) -> None:
        """Forget all due times."""
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
    """Visits all streams, repeatedly."""

    def __init__(self) -> None:
        self._streams: deque[StreamSubscription] = deque()
        self._known: set[StreamSubscription] = set()
        self._owed = 0.0

    def add(self, watch: StreamSubscription) -> None:
        """Visit this stream until it is no longer current."""
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
        """The next streams; fractions of `looks`, how many there are, are carried over."""
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
