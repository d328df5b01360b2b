"""Guard rails for Redis' memory: how full it is, and which streams go sooner when it is full.

    OK --warnPercent--> WARN --actPercent--> HIGH (TTLs are shortened)     UNKNOWN: no limit

Only streams that have a state other than running are ever shortened: finished ones first, then
failed ones, the biggest first, until what will be freed brings Redis below the mark.
"""

from __future__ import annotations

import enum
import heapq
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

from tidegate.model.entries import Entry
from tidegate_operator.model.streams import MemorySpec
from tidegate_operator.streams.look import Look
from tidegate_operator.streams.retention import RetentionState

#: Streams that one round remembers to shorten, for each primary: a bound of the sweep's own memory.
MOST_CANDIDATES = 4_096

_RANK = {RetentionState.FINISHED: 1, RetentionState.FAILED: 0}


class Level(enum.Enum):
    """How full a primary is."""

    UNKNOWN = "unknown"
    OK = "ok"
    WARN = "warn"
    HIGH = "high"


class MemoryUsage(NamedTuple):
    """What a primary says of its memory, in bytes; `limit` 0 is unknown."""

    used: int
    limit: int
    policy: str = ""

    @property
    def ratio(self) -> float | None:
        """Part of the limit that is used."""
        return self.used / self.limit if self.limit > 0 else None

    @property
    def evicts_running(self) -> bool:
        """Whether Redis itself drops streams at random when it is full (`allkeys-*`)."""
        return self.policy.startswith("allkeys")

    def level(self, memory: MemorySpec) -> Level:
        """How full it is by these marks."""
        if self.ratio is None:
            return Level.UNKNOWN
        percent = 100 * self.ratio
        if percent >= memory.act_percent:
            return Level.HIGH
        return Level.WARN if percent >= memory.warn_percent else Level.OK

    def excess(self, memory: MemorySpec) -> int:
        """Bytes above the mark at which something is done."""
        return max(0, self.used - self.limit * memory.act_percent // 100)


def reading_of(info: dict[str, object], memory: MemorySpec) -> MemoryUsage:
    """From `INFO memory`; Redis' own limit goes before the one of the spec."""
    limit = _number(info.get("maxmemory")) or memory.limit_bytes or 0
    return MemoryUsage(
        _number(info.get("used_memory")), limit, str(info.get("maxmemory_policy", ""))
    )


def _number(value: object) -> int:
    try:
        return max(0, int(str(value)))
    except ValueError:
        return 0


class Candidates:
    """The biggest streams that may be shortened, of those that were seen."""

    def __init__(self, most: int = MOST_CANDIDATES) -> None:
        self._most = most
        self._heap: list[tuple[int, int, int, Look, RetentionState]] = []
        self._order = count()

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, look: Look, state: RetentionState) -> None:
        """Remember it if it is among the biggest; running, idle and orphan ones never are."""
        if state not in _RANK:
            return
        if (entry := look.entry) is not None:  # its id will be needed, not what it says
            bare = Entry(entry.id, entry.type, b"", b"", entry.status, entry.is_whole)
            look = look._replace(entry=bare)
        row = (_RANK[state], look.size_bytes, next(self._order), look, state)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, row)
        else:
            heapq.heappushpop(self._heap, row)

    def to_free(self, excess: int, by_ms: int) -> Iterator[tuple[Look, RetentionState]]:
        """Those that have to go sooner, so that `excess` bytes are free by `by_ms`.

        What expires by then anyway counts as freed. Empties this.
        """
        rows, self._heap = self._heap, []
        left = excess
        later = []
        for row in rows:
            expires = row[3].expires_at_ms
            if expires is not None and expires <= by_ms:
                left -= row[1]
            else:
                later.append(row)
        for _, size, _, look, state in sorted(later, key=lambda row: row[:2], reverse=True):
            if left <= 0:
                return
            left -= size
            yield look, state
