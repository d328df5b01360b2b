"""A timer that is accurate to some ten microseconds.

The timers of the event loop count milliseconds, which is longer than an entry takes from Redis to
the socket. Linux has the accurate timerfd; elsewhere the timer of the event loop is used.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable

CLOCK_MONOTONIC = 1
_NANOSECONDS = 1_000_000_000


class HighResolutionTimer:
    """Calls `on_time` once after each `set`; setting it again moves it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_time: Callable[[], None]) -> None:
        self._loop = loop
        self._on_time = on_time
        self._timer: asyncio.TimerHandle | None = None
        self._fd = _timerfd_create() if sys.platform == "linux" else None
        if self._fd is not None:
            loop.add_reader(self._fd, self._ring)

    def set(self, delay_s: float) -> None:
        """Ring in so many seconds."""
        if self._fd is not None:
            _timerfd_settime(self._fd, max(1, int(delay_s * _NANOSECONDS)))
        else:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(delay_s, self._on_time)

    def close(self) -> None:
        """Ring no more. Any number of times."""
        if self._timer is not None:
            self._timer.cancel()
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None

    def _ring(self) -> None:
        if self._fd is not None:
            try:
                os.read(self._fd, 8)
            except BlockingIOError:
                return  # it was set again a moment ago
            self._on_time()


# `os` has these from Python 3.13 on.


def _timerfd_create() -> int | None:
    """A descriptor, or None where the system has none to give."""
    if sys.version_info >= (3, 13):
        try:
            return os.timerfd_create(CLOCK_MONOTONIC, flags=os.TFD_NONBLOCK | os.TFD_CLOEXEC)
        except OSError:
            return None
    fd: int = ctypes.CDLL(None).timerfd_create(CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    return fd if fd >= 0 else None


def _timerfd_settime(fd: int, nanoseconds: int) -> None:
    """Once, after so long."""
    if sys.version_info >= (3, 13):
        os.timerfd_settime_ns(fd, initial=nanoseconds)
    else:
        _spec[2], _spec[3] = divmod(nanoseconds, _NANOSECONDS)
        _settime(fd, 0, _spec, None)


if sys.platform == "linux" and sys.version_info < (3, 13):
    _settime = ctypes.CDLL(None).timerfd_settime
    #: struct itimerspec: the interval, then the first expiry; seconds and nanoseconds each.
    _spec = (ctypes.c_long * 4)()
