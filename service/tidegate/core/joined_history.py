"""The joined entries of one operation, kept for the next viewer that comes late or back.

To read 5,000 tokens and to join them takes a replica 50 ms; two thousand viewers that load a page
at the same time ask for the same. So what was read for one of them is kept, as long as it is worth
it: pages of the log in joined form, in which a viewer may begin anywhere, and the joined form of
the ring for as long as no entry is added.

Like the ring this is of one epoch of the topic, and a cursor is served only where it proves that
nothing is missing: at the start of a page, or at or above its first entry. `Topic.keep` decides
which pages may be kept. Bounded for each operation, and by the budget of all rings.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from tidegate.core.ring import RingBudget
from tidegate.model.frames import Frame
from tidegate.model.ids import StreamId
from tidegate.model.joined_frames import (
    JOINED_MAX_BYTES,
    JoinedFrame,
    entries_in,
    frames_after,
    join,
)

#: Of one operation: a million characters.
MAX_BYTES = 1_048_576
#: A page is kept if there are at least so many entries to a frame; else it is as large as the log.
ENTRIES_PER_FRAME = 4
#: What a frame takes beside its payload, and an entry of a joined one.
FRAME_BYTES = 200
ENTRY_BYTES = 20


class _Part(NamedTuple):
    """What follows `after` in the log, up to `last`."""

    after: StreamId
    first: StreamId
    last: StreamId
    frames: Sequence[Frame]
    size_bytes: int


class _Newest(NamedTuple):
    """The joined form of frames of the ring, by their first and their last."""

    first: StreamId
    last: StreamId
    frames: Sequence[Frame]
    size_bytes: int


class JoinedHistory:
    """Parts of the log of one operation; they rise and do not overlap."""

    __slots__ = ("_budget", "_newest", "_parts", "size_bytes")

    def __init__(self, budget: RingBudget) -> None:
        self._budget = budget
        self._parts: list[_Part] = []
        self._newest: _Newest | None = None
        self.size_bytes = 0

    def after(self, cursor: StreamId) -> Sequence[Frame] | None:
        """What follows a cursor, up to where the kept part ends; None where that is not here."""
        at = bisect_right(self._parts, cursor, key=lambda part: part.after) - 1
        if at < 0:
            return None
        part = self._parts[at]
        if cursor == part.after:
            return part.frames
        return frames_after(part.frames, cursor) if part.first <= cursor < part.last else None

    def keep(
        self, start: StreamId, first: StreamId, frames: Sequence[Frame], *, oldest: StreamId
    ) -> None:
        """A page: these frames follow `start`, and `first` is their first entry. `oldest` is the
        first entry of the log, before which nobody reads any more.
        """
        for part in self._parts:
            if part.last < oldest:
                self._drop(part)
        last, size = frames[-1].id, _size_of(frames)
        overlaps = any(part.after < last and part.last > start for part in self._parts)
        if overlaps or not _is_worth_it(frames) or self.size_bytes + size > MAX_BYTES:
            return
        at = bisect_right(self._parts, start, key=lambda part: part.after)
        before = self._parts[at - 1] if at else None
        if before is not None and before.last == start and before.size_bytes < JOINED_MAX_BYTES:
            self._drop(before)
            at -= 1
            start, first = before.after, before.first
            frames = [*before.frames[:-1], *join([before.frames[-1], *frames])]
            size = _size_of(frames)
        self._parts.insert(at, _Part(start, first, last, frames, size))
        self._grow(size)

    def newest(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        """Frames of the ring, joined."""
        if len(frames) < ENTRIES_PER_FRAME:
            return join(frames)
        kept = self._newest
        first, last = frames[0].id, frames[-1].id
        if kept is not None and (kept.first, kept.last) == (first, last):
            return kept.frames
        joined = join(frames)
        if _is_worth_it(joined):
            self._forget_newest()
            size = _size_of(joined)
            self._newest = _Newest(first, last, joined, size)
            self._grow(size)
        return joined

    def drop_oldest(self) -> int:
        """See `Dropping`."""
        before = self.size_bytes
        if self._parts:
            self._drop(self._parts[0])
        else:
            self._forget_newest()
        return before - self.size_bytes

    def clear(self) -> None:
        """The log is another one, or nobody watches."""
        self._budget.shrunk(self.size_bytes)
        self._budget.forget(self)
        self._parts.clear()
        self._newest = None
        self.size_bytes = 0

    # -- inside -----------------------------------------------------------------------------------

    def _drop(self, part: _Part) -> None:
        self._parts = [one for one in self._parts if one is not part]
        self._shrink(part.size_bytes)

    def _forget_newest(self) -> None:
        if self._newest is not None:
            self._shrink(self._newest.size_bytes)
            self._newest = None

    def _grow(self, size: int) -> None:
        self.size_bytes += size
        self._budget.grown(self, size)

    def _shrink(self, size: int) -> None:
        self.size_bytes -= size
        self._budget.shrunk(size)


def _is_worth_it(frames: Sequence[Frame]) -> bool:
    entries = sum(map(entries_in, frames))
    return entries >= ENTRIES_PER_FRAME * len(frames) > 0


def _size_of(frames: Sequence[Frame]) -> int:
    return sum(
        len(frame.payload)
        + FRAME_BYTES
        + (ENTRY_BYTES * frame.joined if type(frame) is JoinedFrame else 0)
        for frame in frames
    )
