"""Passes over the sockets, in slices, so that many viewers do not block the event loop.

An outbox that has something to send wakes it, and is called until there is no more. After
`WRITES_PER_TURN` writes the event loop continues with other work (a write costs about 8 us of
kernel time, so a slice is about 4 ms). Frames that arrive meanwhile are joined into the next item,
which keeps up with bursts.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

WRITES_PER_TURN = 500


class Crowd(Protocol):
    """Something with items to send."""

    def send_some(self, at_most: int) -> int:
        """Write to at most so many sockets; returns how many."""

    @property
    def has_more(self) -> bool:
        """Whether something is left to send."""


class Fanout:
    """The queue of those that have something to send; round robin."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: deque[Crowd] = deque()
        self._scheduled = False
        self._held = False
        self.turns = 0

    def begin(self) -> None:
        """More is about to come: hold back (a `core.ports.Cork`)."""
        self._held = True

    def end(self) -> None:
        """Send what has come, now: a callback of its own would cost a round of the event loop."""
        self._held = False
        if self._queue and not self._scheduled:
            self._turn()

    def wake(self, crowd: Crowd) -> None:
        """It has something to send; call once until `has_more` is false."""
        self._queue.append(crowd)
        if not self._scheduled and not self._held:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self.turns += 1
        left = WRITES_PER_TURN
        queue = self._queue
        while queue and left > 0:
            crowd = queue.popleft()
            left -= max(1, crowd.send_some(left))
            if crowd.has_more:
                queue.append(crowd)
        self._scheduled = bool(queue)
        if queue:
            self._loop.call_soon(self._turn)
