"""The newest frames of one operation, kept so that most replays need no read of the stream.

A ring covers a cursor when it can prove that it holds everything after it: from `floor`, the
position just before its oldest frame, or from the oldest frame itself. Bounded by frames and by
bytes; `RingBudget` bounds all rings together.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from itertools import islice
from typing import NamedTuple

from tidegate.model.frames import Frame
from tidegate.model.ids import StreamId


class RingStats(NamedTuple):
    """Frames and bytes held now."""

    frames: int
    size_bytes: int


class Ring:
    """Recent frames of one operation in rising order of their ids."""

    __slots__ = ("_budget", "_frames", "_max_bytes", "_max_frames", "_size", "floor")

    def __init__(self, max_frames: int, max_bytes: int, budget: RingBudget) -> None:
        self._frames: deque[Frame] = deque()
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._size = 0
        self._budget = budget
        #: Position just before the oldest frame, as far as it is known.
        self.floor: StreamId | None = None

    def __len__(self) -> int:
        return len(self._frames)

    def append(self, frame: Frame) -> None:
        """Add the newest frame; the oldest go when a bound is passed."""
        self._frames.append(frame)
        size = len(frame.wire)
        self._size += size
        while len(self._frames) > self._max_frames or self._size > self._max_bytes:
            self.drop_oldest()
        self._budget.grown(self, size)

    def drop_oldest(self) -> int:
        """Forget the oldest frame; returns its bytes, 0 when the ring is empty."""
        if not self._frames:
            return 0
        oldest = self._frames.popleft()
        size = len(oldest.wire)
        self._size -= size
        self.floor = oldest.id
        self._budget.shrunk(size)
        return size

    def clear(self, floor: StreamId | None) -> None:
        """Forget everything; the next frame appended comes right after `floor`."""
        self._frames.clear()
        self._budget.shrunk(self._size)
        self._size = 0
        self.floor = floor

    def discard(self) -> None:
        """The operation is no longer watched here."""
        self.clear(None)
        self._budget.forget(self)

    def covers(self, cursor: StreamId) -> bool:
        """Whether everything after `cursor` is provably here.

        A cursor below the oldest frame must be the floor itself: one in between may come from
        another log.
        """
        return cursor == self.floor or bool(self._frames and cursor >= self._frames[0].id)

    def after(self, cursor: StreamId) -> list[Frame]:
        """The frames above `cursor`, in order; only meaningful when `covers(cursor)`."""
        newer: list[Frame] = []
        for frame in reversed(self._frames):
            if frame.id <= cursor:
                break
            newer.append(frame)
        newer.reverse()
        return newer

    def newest(self, count: int) -> tuple[StreamId | None, list[Frame]]:
        """The newest `count` frames, and the position just before them if it is known."""
        start = max(0, len(self._frames) - count)
        tail = list(islice(self._frames, start, None))
        return (self._frames[start - 1].id if start else self.floor), tail

    def holds(self, entry_id: StreamId) -> bool:
        """Whether the frame with this id is here."""
        for frame in reversed(self._frames):
            if frame.id <= entry_id:
                return frame.id == entry_id
        return False

    def stats(self) -> RingStats:
        """What is held now."""
        return RingStats(len(self._frames), self._size)


class RingBudget:
    """The bytes of all rings together; past the limit the ring that grew longest ago gives way
    first.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.size_bytes = 0
        self._by_age: OrderedDict[Ring, None] = OrderedDict()

    def grown(self, ring: Ring, size: int) -> None:
        """A ring took `size` more bytes."""
        self.size_bytes += size
        self._by_age[ring] = None
        self._by_age.move_to_end(ring)
        while self.size_bytes > self._max_bytes and self._by_age:
            stalest = next(iter(self._by_age))
            if not stalest.drop_oldest():
                del self._by_age[stalest]

    def shrunk(self, size: int) -> None:
        """A ring gave `size` bytes back."""
        self.size_bytes -= size

    def forget(self, ring: Ring) -> None:
        """A ring is gone."""
        self._by_age.pop(ring, None)
