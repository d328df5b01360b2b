"""How close a replica is to the memory that its container may have, and what to do about it.

The kernel kills a process that passes the container's limit, and all of its viewers reconnect at
once to the replicas that are left. So a replica gives up what it can do without, well before: first
it drops what can be read from Redis again, then it accepts no more viewers, and at last it closes
those viewers whose unsent data takes most. Each of them resumes from its cursor and misses nothing.
"""

from __future__ import annotations

from enum import IntEnum
from zlib import crc32


class MemoryLevel(IntEnum):
    """What is done at a level is also done at those above."""

    NORMAL = 0
    #: Drop what can be read again.
    DROPPING = 1
    #: No new viewers.
    REFUSING = 2
    #: Close viewers, those with most unsent data first.
    CLOSING = 3


#: From these parts of the limit on. A replica of 256 MiB has 25 MiB left when it closes viewers: a
#: page of history and an item for each of 200 of them.
MARKS = {
    MemoryLevel.DROPPING: 0.80,
    MemoryLevel.REFUSING: 0.85,
    MemoryLevel.CLOSING: 0.90,
}
#: A level is left this far below its mark, so that it does not come and go.
BACK_BY = 0.05
#: The marks of replicas differ by up to this.
SPREAD = 0.04
#: What a replica reads and keeps at most, in bytes per second, for 10 ms: entries of 0.9 MB from a
#: Redis on the same machine, for viewers that read nothing (measured with the load of
#: tests/runtime/test_memory_limit.py on an AMD EPYC).
GROWTH_PER_S = 450_000_000


class MemoryPressure:
    """The level of one replica."""

    def __init__(self, limit_bytes: int, replica: str) -> None:
        """`replica`: its name. Replicas have different marks, up to `SPREAD` of the limit
        lower: where a proxy spreads a load evenly, they do not all refuse and close at once.
        """
        self.limit_bytes = limit_bytes
        self.level = MemoryLevel.NORMAL
        lower = SPREAD * (crc32(replica.encode()) / 2**32)
        self._marks = {level: (mark - lower) * limit_bytes for level, mark in MARKS.items()}

    def update(self, used_bytes: int) -> MemoryLevel:
        """The level now that so much is used."""
        back = BACK_BY * self.limit_bytes
        level = MemoryLevel.NORMAL
        for above, mark in self._marks.items():
            if used_bytes >= (mark - back if above <= self.level else mark):
                level = above
        self.level = level
        return level

    def time_to_next(self, used_bytes: int) -> float:
        """Seconds, at least, until the next level is reached, or the limit at the last one."""
        above = min((mark for mark in self._marks.values() if mark > used_bytes), default=None)
        room = (self.limit_bytes if above is None else above) - used_bytes
        return max(0.0, room / GROWTH_PER_S)

    def excess(self, used_bytes: int) -> int:
        """How many bytes to free until viewers need not be closed any more."""
        mark = self._marks[MemoryLevel.CLOSING] - BACK_BY * self.limit_bytes
        return max(0, round(used_bytes - mark))
