"""One first request per iteration of the event loop.

A rollout sends hundreds of clients at once. Their handshakes cost a fifth of a millisecond each,
and all that are readable would be worked through in one iteration: viewers who are here already
would wait 40 ms for 200 of them. So one is taken per iteration, in the order of arrival, and
between them the loop looks at everything else. Nothing is refused or delayed by time here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class RequestPace:
    """Of one port."""

    def __init__(self) -> None:
        self._has_started_one = False
        self._waiting: deque[Callable[[], None]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def run(self, start: Callable[[], None]) -> bool:
        """Call `start` now, or in a later iteration; whether it was now."""
        if self._has_started_one:
            self._waiting.append(start)
            return False
        self._has_started_one = True
        asyncio.get_running_loop().call_soon(self._next)
        start()
        return True

    def _next(self) -> None:
        """Another iteration has begun."""
        if not self._waiting:
            self._has_started_one = False
            return
        asyncio.get_running_loop().call_soon(self._next)
        self._waiting.popleft()()
