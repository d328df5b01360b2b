"""What is still to be sent to the live viewers of one channel, and the passes over them.

Live viewers share one position. Frames become items, numbered by `seq`; a viewer remembers the
`seq` that it was sent last, and an item is sent to every live viewer with a smaller one. So a
viewer that joins, lags or leaves during a pass receives each item exactly once. With the first
item, `wake` is called; its receiver then calls `send_some` until `has_more` is false.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from tidegate.core.clock import ServerClock
from tidegate.core.sampler import Sampler
from tidegate.gateway.acks import Acks
from tidegate.gateway.stats import Counters
from tidegate.gateway.viewer import ChannelViewer, ViewerState
from tidegate.model.batch import Batch
from tidegate.model.frames import Frame
from tidegate.model.ids import ZERO, StreamId

if TYPE_CHECKING:
    from tidegate.telemetry.entry_spans import EntrySpan

#: Frames are joined up to this size, so a socket's buffer is passed by no more than it.
ITEM_MAX_BYTES = 131_072
_LIVE: Final = ViewerState.LIVE


class Position:
    """A stream id, the epoch of the topic in which it means something, and whether viewers there
    have been told that Redis is away.
    """

    __slots__ = ("epoch", "id", "stale")

    def __init__(self, id: StreamId, epoch: int, stale: bool = False) -> None:  # noqa: A002
        self.id = id
        self.epoch = epoch
        self.stale = stale


_START = Position(ZERO, 0)


class Item(Batch):
    """Frames on their way to those who are live, and the position after them."""

    __slots__ = (
        "ids_ms",
        "position",
        "seq",
        "spans",
        "stands_for",
        "trace_id",
        "traced_ms",
    )

    def __init__(self, seq: int, stands_for: int) -> None:
        super().__init__()
        self.seq = seq
        #: So many items whose delivery is not timed, itself included; 0: it is one of those.
        self.stands_for = stands_for
        #: Times of the entries among them, from their ids; None when it is not timed.
        self.ids_ms: list[int] | None = [] if stands_for else None
        self.position = _START
        #: Traced entries that no viewer has yet; None as soon as one has them.
        self.spans: list[EntrySpan] | None = None
        #: Of the first of them, for an exemplar; empty when none is traced.
        self.trace_id = ""
        self.traced_ms = 0

    def trace(self, span: EntrySpan, id_ms: int) -> None:
        """One of its frames is an entry that is traced; its id has this time."""
        if self.spans is None:
            self.spans, self.trace_id, self.traced_ms = [], span.trace_id, id_ms
        if span not in self.spans:
            self.spans.append(span)
            span.queued()

    def reached(self, viewers: int) -> None:
        """The first of so many viewers has it, or nobody will."""
        for span in self.spans or ():
            span.written(viewers)
        self.spans = None


def write_each(viewers: Sequence[ChannelViewer], batch: Batch) -> None:
    """Each sender's own `write`; a viewer whose socket broke a moment ago holds up nobody."""
    for viewer in viewers:
        try:
            viewer.sender.write(batch)
        except (OSError, RuntimeError):  # uvloop 0.23 raises RuntimeError for a closed transport
            viewer.on_closed()


class Measures:
    """How the deliveries of a replica are counted and timed: one for all of its outboxes."""

    __slots__ = ("acks", "counters", "now", "sampler")

    def __init__(
        self, counters: Counters, sampler: Sampler, acks: Acks, now: Callable[[], float]
    ) -> None:
        """`sampler` chooses the items whose delivery is timed; `now` is a monotonic clock in
        seconds.
        """
        self.counters = counters
        self.sampler = sampler
        self.acks = acks
        self.now = now


class ChannelOutbox:
    """Implements `Crowd` for the fan-out."""

    __slots__ = (
        "_ackers",
        "_current",
        "_done",
        "_items",
        "_live",
        "_measures",
        "_open",
        "_pass",
        "_sent_bytes",
        "_sent_frames",
        "_wake",
        "clock",
        "seq",
    )

    def __init__(
        self,
        live: Mapping[ChannelViewer, None],
        ackers: Collection[ChannelViewer],
        start: Position,
        wake: Callable[[ChannelOutbox], None],
        measures: Measures,
    ) -> None:
        """`live` and `ackers` are the channel's: who is written to, and who of all answers an
        `ack_request`.
        """
        self._live = live
        self._ackers = ackers
        self._wake = wake
        self._measures = measures
        #: Of the server that makes the ids; another one when the stream has moved.
        self.clock: ServerClock | None = None
        #: Of the last item.
        self.seq = 0
        self._items: deque[Item] = deque()
        #: The last item still takes frames: nobody has joined behind it.
        self._open = False
        self._current: Item | None = None
        #: The viewers that are still to be sent the current item, in reverse order.
        self._pass: list[ChannelViewer] = []
        self._done = start
        #: Of all items up to the current one.
        self._sent_frames = 0
        self._sent_bytes = 0

    def __len__(self) -> int:
        """Items that wait for the one that is being sent."""
        return len(self._items)

    # -- what comes in ----------------------------------------------------------------------------

    def put(self, frame: Frame, position: Position) -> Item:
        """Send this to all who are live, behind all that is in here; the position after it."""
        items = self._items
        idle = not items and self._current is None
        if self._open and items and items[-1].size_bytes < ITEM_MAX_BYTES:
            item = items[-1]
        else:
            self.seq += 1
            item = Item(self.seq, self._measures.sampler.pick())
            items.append(item)
            self._open = True
        item.add(frame)
        item.position = position
        if idle:
            self._wake(self)
        return item

    def moved(self, position: Position) -> None:
        """Nothing is left to send, and this is where those who are live stand."""
        self._done = position

    def enter(self, viewer: ChannelViewer) -> None:
        """It is live from here on: the next item is its first."""
        viewer.seq = self.seq
        self._open = False
        self._count(viewer, -1)

    def leave(self, viewer: ChannelViewer) -> None:
        """It is not live any more."""
        self._count(viewer, 1)

    def position_of(self, seq: int) -> Position:
        """The position after the item with this number."""
        if self._current is not None and self._current.seq == seq:
            return self._current.position
        for item in self._items:
            if item.seq == seq:
                return item.position
        return self._done

    # -- passes -----------------------------------------------------------------------------------

    @property
    def has_more(self) -> bool:
        return self._current is not None or bool(self._items)

    def send_some(self, at_most: int) -> int:
        item = self._current
        if item is None:
            if not self._items:
                return 0
            item = self._current = self._items.popleft()
            self._sent_frames += len(item.frames)
            self._sent_bytes += item.size_bytes
            turn = list(self._live)
            if len(turn) > at_most:
                self._pass = turn[at_most:]
                self._pass.reverse()
                del turn[at_most:]
        else:
            turn = self._pass[-at_most:]
            del self._pass[-at_most:]
            turn.reverse()
        seq = item.seq
        chosen = [viewer for viewer in turn if viewer.seq < seq and viewer.state is _LIVE]
        for viewer in chosen:
            viewer.seq = seq
        if item.spans is None or not chosen:
            write_each(chosen, item)
        else:
            write_each(chosen[:1], item)
            item.reached(len(self._live))
            write_each(chosen[1:], item)
        counters = self._measures.counters
        counters.delivered(len(chosen) * len(item.frames), len(chosen) * item.size_bytes)
        if chosen and (item.ids_ms or item.trace_id):
            self._time(item, len(chosen))
        if not self._pass:
            if item.spans is not None:
                item.reached(0)
            self._done = item.position
            self._current = None
        return len(turn)

    def _time(self, item: Item, viewers: int) -> None:
        """So many viewers have just been written an item that is timed or traced."""
        measures, clock = self._measures, self.clock
        latency, now = measures.counters.latency, measures.now()
        if item.ids_ms:
            latency.observe(clock, now, item.ids_ms, viewers * item.stands_for)
            measures.sampler.measured(now)
            if self._ackers:
                measures.acks.offer(self._ackers, item.seq, item.position.id, clock)
        if item.trace_id:
            latency.explain(clock, now, item.traced_ms, item.trace_id)

    def _count(self, viewer: ChannelViewer, sign: int) -> None:
        """Live viewers are not counted one by one: what they were sent is the difference between
        the items sent when they went live and when they ceased to be.
        """
        frames, size = self._sent_frames, self._sent_bytes
        current = self._current
        if current is not None and current.seq > viewer.seq:
            frames -= len(current.frames)
            size -= current.size_bytes
        for item in self._items:
            if item.seq > viewer.seq:
                break
            frames += len(item.frames)
            size += item.size_bytes
        viewer.frames += sign * frames
        viewer.size_bytes += sign * size
