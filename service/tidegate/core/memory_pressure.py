"""How close a replica is to the memory that its container may have, and what to do about it.

The kernel kills a process that passes the container's limit, and all of its viewers come back at
once to the replicas that are left. So a replica gives up what it can do without, well before: first
it accepts no more viewers, then it drops what can be read from Redis again, and at last it closes
those viewers whose unsent data takes most. Each of them resumes from its cursor and misses nothing.
"""

from __future__ import annotations

from enum import IntEnum
from zlib import crc32


class MemoryLevel(IntEnum):
    """What is done at a level is also done at those above."""

    NORMAL = 0
    #: No new viewers.
    REFUSING = 1
    #: Drop what can be read again.
    DROPPING = 2
    #: Close viewers, those with most unsent data first.
    CLOSING = 3


#: From these parts of the limit on. A replica of 256 MiB has 25 MiB left when it closes viewers: a
#: page of history and an item for each of 200 of them.
MARKS = {
    MemoryLevel.REFUSING: 0.80,
    MemoryLevel.DROPPING: 0.85,
    MemoryLevel.CLOSING: 0.90,
}
#: A level is left this far below its mark, so that it does not come and go.
BACK_BY = 0.05
#: The marks of replicas differ by up to this.
SPREAD = 0.04


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

    def excess(self, used_bytes: int) -> int:
        """How many bytes to free until viewers need not be closed any more."""
        mark = self._marks[MemoryLevel.CLOSING] - BACK_BY * self.limit_bytes
        return max(0, round(used_bytes - mark))
