"""The lag of the event loop: a timer that compares the clock with its due time.

Everything on the event loop waits as long as the timer does: the mean is how long a frame that
arrives now waits for earlier work. Timers of libuv have a resolution of a millisecond, so less than
that is noise. Ten timers a second use less than a thousandth of a core.
"""

from __future__ import annotations

import asyncio
import time

from tidegate.core.bounds import PAUSE_S
from tidegate.core.histogram import Histogram

EVERY_S = 0.1


class LoopLag:
    """Measures between `start` and `stop`; both may be called any number of times."""

    def __init__(self) -> None:
        self.histogram = Histogram(PAUSE_S)
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """Begin."""
        if self._timer is None:
            self._set()

    def stop(self) -> None:
        """No more timers."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self) -> None:
        self._due = time.monotonic() + EVERY_S
        self._timer = self._loop.call_later(EVERY_S, self._tick)

    def _tick(self) -> None:
        self.histogram.observe(max(0.0, time.monotonic() - self._due))
        self._set()
