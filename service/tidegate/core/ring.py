"""The newest frames of one operation, kept so that most replays need no read of the stream.

A ring covers a cursor when it can prove that it holds everything after it: from `floor`, the
position just before its oldest frame, or from the oldest frame itself. Bounded by frames and by
bytes; `RingBudget` bounds all rings together.

Rings hold most of what lives long in a replica, so a frame is kept as an int and its bytes, which
the garbage collector need not look at: as `Frame`s, those of 20,000 operations stop the loop for a
third of a second now and then, and take three times the memory beside the bytes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from typing import NamedTuple, Protocol

from tidegate.model.frames import APPEND, ENTRY, PROGRESS, Frame
from tidegate.model.ids import HALF_MAX, StreamId


class RingStats(NamedTuple):
    """Frames and bytes held now."""

    frames: int
    size_bytes: int


#: By the last two bits of a key.
_KINDS = (ENTRY, PROGRESS, APPEND)
_LAST_KIND = 3


def _key(position: StreamId, kind: int) -> int:
    """Both in one int that sorts as the ids do, and by kind for the same id."""
    ms, seq = position
    return ms << 66 | (seq << 2 | kind)


def _position(key: int) -> StreamId:
    return StreamId(key >> 66, key >> 2 & HALF_MAX)


class Ring:
    """Recent frames of one operation in rising order of their ids."""

    # Lists: to take the oldest moves the others, which for 256 of them costs less than a deque's
    # block of memory for each of many operations with few entries.
    __slots__ = ("_budget", "_floor", "_keys", "_max_bytes", "_max_frames", "_payloads", "_size")

    def __init__(self, max_frames: int, max_bytes: int, budget: RingBudget) -> None:
        self._keys: list[int] = []
        self._payloads: list[bytes] = []
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._size = 0
        self._budget = budget
        self._floor: int | None = None

    @property
    def floor(self) -> StreamId | None:
        """Position just before the oldest frame, as far as it is known."""
        return None if self._floor is None else _position(self._floor)

    @property
    def budget(self) -> RingBudget:
        """Of all rings."""
        return self._budget

    def __len__(self) -> int:
        return len(self._keys)

    def append(self, frame: Frame) -> None:
        """Add the newest entry's frame; the oldest go when a bound is passed."""
        kind = frame.kind
        self._keys.append(_key(frame.id, 1 if kind is PROGRESS else 2 * (kind is APPEND)))
        self._payloads.append(frame.payload)
        size = len(frame.payload)
        self._size += size
        while len(self._keys) > self._max_frames or self._size > self._max_bytes:
            self.drop_oldest()
        self._budget.grown(self, size)

    def drop_oldest(self) -> int:
        """Forget the oldest frame; returns its bytes, 0 when the ring is empty."""
        if not self._keys:
            return 0
        self._floor = self._keys.pop(0)
        size = len(self._payloads.pop(0))
        self._size -= size
        self._budget.shrunk(size)
        return size

    def clear(self, floor: StreamId | None) -> None:
        """Forget everything; the next frame appended comes right after `floor`."""
        self._keys.clear()
        self._payloads.clear()
        self._budget.shrunk(self._size)
        self._size = 0
        self._floor = None if floor is None else _key(floor, 0)

    def discard(self) -> None:
        """The operation is no longer watched here."""
        self.clear(None)
        self._budget.forget(self)

    def covers(self, cursor: StreamId) -> bool:
        """Whether everything after `cursor` is provably here.

        A cursor below the oldest frame must be the floor itself: one in between may come from
        another log.
        """
        return cursor == self.floor or self._upto(cursor) > 0

    def after(self, cursor: StreamId) -> list[Frame]:
        """The frames above `cursor`, in order; only meaningful when `covers(cursor)`."""
        return self._from(self._upto(cursor))

    def newest(self, count: int) -> tuple[StreamId | None, list[Frame]]:
        """The newest `count` frames, and the position just before them if it is known."""
        start = max(0, len(self._keys) - count)
        return (_position(self._keys[start - 1]) if start else self.floor), self._from(start)

    def holds(self, entry_id: StreamId) -> bool:
        """Whether the frame with this id is here."""
        upto = self._upto(entry_id)
        return upto > 0 and _position(self._keys[upto - 1]) == entry_id

    def stats(self) -> RingStats:
        """What is held now."""
        return RingStats(len(self._keys), self._size)

    def _upto(self, position: StreamId) -> int:
        """How many frames have an id up to this one."""
        return bisect_right(self._keys, _key(position, _LAST_KIND))

    def _from(self, start: int) -> list[Frame]:
        return [
            Frame(_position(key), payload, _KINDS[key & 3])
            for key, payload in zip(self._keys[start:], self._payloads[start:], strict=True)
        ]


class Dropping(Protocol):
    """What a budget takes bytes from."""

    def drop_oldest(self) -> int:
        """Forget a part; returns its bytes, 0 when there is nothing left."""


class RingBudget:
    """The bytes of all rings together, and of what is joined of their operations; past the limit
    what grew longest ago gives way first.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.size_bytes = 0
        self._by_age: OrderedDict[Dropping, None] = OrderedDict()

    def grown(self, ring: Dropping, size: int) -> None:
        """A ring took `size` more bytes."""
        self.size_bytes += size
        self._by_age[ring] = None
        self._by_age.move_to_end(ring)
        self.reduce(self._max_bytes)

    def reduce(self, size_bytes: int) -> None:
        """Drop what grew longest ago until no more than this is left."""
        while self.size_bytes > size_bytes and self._by_age:
            stalest = next(iter(self._by_age))
            if not stalest.drop_oldest():
                del self._by_age[stalest]

    def shrunk(self, size: int) -> None:
        """A ring gave `size` bytes back."""
        self.size_bytes -= size

    def forget(self, ring: Dropping) -> None:
        """A ring is gone."""
        self._by_age.pop(ring, None)
