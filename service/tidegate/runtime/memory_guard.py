"""Keeps the replica below the memory limit of its container: it reads the usage, more often the
less is left, and acts by the level of `core.memory_pressure`.

Without a limit it does nothing. An embedded gateway does not have it, because the process belongs
to another application.
"""

from __future__ import annotations

import asyncio
import ctypes
from typing import Protocol

import structlog

from tidegate.core.memory_pressure import MemoryLevel, MemoryPressure
from tidegate.model import close_codes
from tidegate.web.access.limits import ConnectionLimiter

log = structlog.get_logger(__name__)

#: A look reads two small files: 30 to 60 us.
LOOK_MAX_S = 0.25
LOOK_MIN_S = 0.01
#: At a level that stays, no more often than this, unless use has grown by this part of the limit
#: since: what was dropped must be collected first.
ACTS_EVERY_S = 1.0
ACTS_AFTER_GROWTH = 0.02


class UsedMemory(Protocol):
    """What is limited."""

    limit_bytes: int

    def used_bytes(self) -> int | None:
        """Now; None where that cannot be told."""


class Droppable(Protocol):
    """What holds data that can be read again."""

    def drop_history(self) -> int:
        """Drop it; how many bytes."""


class MemoryGuard:
    """Of one replica. `start` and `stop` may be called any number of times."""

    def __init__(
        self, memory: UsedMemory | None, limiter: ConnectionLimiter, history: Droppable, pod: str
    ) -> None:
        self._memory = memory
        self._limiter = limiter
        self._history = history
        self._pressure = None if memory is None else MemoryPressure(memory.limit_bytes, pod)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._acts_again = 0.0
        #: The least that was used since it acted.
        self._lowest_bytes = 0
        self.used_bytes = 0
        #: Viewers closed for their unsent data.
        self.closed = 0

    @property
    def limit_bytes(self) -> int:
        """0: none."""
        return 0 if self._memory is None else self._memory.limit_bytes

    @property
    def level(self) -> MemoryLevel:
        """By the last look."""
        return MemoryLevel.NORMAL if self._pressure is None else self._pressure.level

    def start(self) -> None:
        """Look from now on."""
        if self._memory is not None and self._timer is None:
            log.info("memory limit of the container", limit_bytes=self._memory.limit_bytes)
            self.look()
            self._set()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> None:
        """Act on what is used now."""
        if self._memory is None or self._pressure is None:
            return
        used = self._memory.used_bytes()
        if used is None:
            return
        self.used_bytes = used
        before, level = self._pressure.level, self._pressure.update(used)
        self._limiter.is_short_of_memory = level >= MemoryLevel.REFUSING
        if level != before:
            self._say(before, level)
        now = self._loop.time()
        self._lowest_bytes = min(self._lowest_bytes, used)
        grown = used - self._lowest_bytes >= ACTS_AFTER_GROWTH * self._memory.limit_bytes
        if level > before or (level and (grown or now >= self._acts_again)):
            self._acts_again = now + ACTS_EVERY_S
            self._lowest_bytes = used
            self._free(level, self._pressure.excess(used))

    # -- inside -----------------------------------------------------------------------------------

    def _set(self) -> None:
        wait = LOOK_MAX_S
        if self._pressure is not None:
            # Half of it: what a look finds takes time to free.
            wait = min(wait, self._pressure.time_to_next(self.used_bytes) / 2)
        self._timer = self._loop.call_later(max(LOOK_MIN_S, wait), self._tick)

    def _tick(self) -> None:
        try:
            self.look()
        finally:
            self._set()

    def _free(self, level: MemoryLevel, excess: int) -> None:
        dropped = self._history.drop_history()
        closed = self._close(excess - dropped) if level >= MemoryLevel.CLOSING else 0
        self.closed += closed
        if dropped or closed:
            log.warning("memory freed", dropped_bytes=dropped, closed_connections=closed)
        # Aborted transports free their buffers in the next iteration of the loop.
        self._loop.call_soon(_give_back)

    def _close(self, excess: int) -> int:
        """Close the connections with most unsent data until that is less by `excess` bytes."""
        count = 0
        for size, connection in self._limiter.with_most_unsent():
            if excess <= 0:
                break
            excess -= size
            count += 1
            connection.abort(close_codes.SLOW)
        return count

    def _say(self, before: MemoryLevel, level: MemoryLevel) -> None:
        say = log.warning if level > before else log.info
        say(
            "memory level changed",
            level=level.name.lower(),
            before=before.name.lower(),
            used_bytes=self.used_bytes,
            limit_bytes=self.limit_bytes,
            connections=len(self._limiter),
        )


def _give_back() -> None:
    """Let the C library return free memory to the kernel, where it is glibc that has it."""
    trim = getattr(_libc(), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _libc() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):  # a static build, or Windows
        return None
