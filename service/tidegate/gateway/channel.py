"""The viewers of one operation on this replica, and what is still to be sent to them.

Live viewers share one position. Frames become items in the outbox, numbered by `seq`; a viewer
remembers the `seq` it was sent last, and an item goes to every live viewer with a smaller one. So a
viewer that comes, falls behind or goes in the middle of a pass gets each item exactly once. Lagging
viewers are not written to; `CatchUp` brings them back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from tidegate.core.clock import ServerClock
from tidegate.core.records import Page, Relay
from tidegate.core.topic import Topic, TopicState
from tidegate.core.visit import Stage
from tidegate.gateway.fanout import write_each
from tidegate.gateway.viewer import Viewer, ViewerState
from tidegate.model import frames
from tidegate.model.errors import TidegateError
from tidegate.model.frames import FrameKind, GapReason
from tidegate.model.ids import StreamId

if TYPE_CHECKING:
    from tidegate.gateway.hub import Hub
    from tidegate.telemetry.entry_spans import Hop, Journey

#: Frames are joined up to this size, so a socket's buffer is passed by no more than it.
ITEM_MAX_BYTES = 131_072


class Position(NamedTuple):
    """A stream id, the epoch of the topic in which it means something, and whether viewers there
    have been told that Redis is away.
    """

    id: StreamId
    epoch: int
    stale: bool = False


class Item:
    """Joined frames on their way, and the position after them."""

    __slots__ = (
        "hops",
        "ids_ms",
        "parts",
        "position",
        "seq",
        "size",
        "stands_for",
        "trace_id",
        "traced_ms",
    )

    def __init__(self, seq: int, stands_for: int) -> None:
        self.seq = seq
        self.parts: list[bytes] = []
        #: So many items whose delivery is not timed, itself included; 0: it is one of those.
        self.stands_for = stands_for
        #: Times of the entries among them, from their ids; None when it is not timed.
        self.ids_ms: list[int] | None = [] if stands_for else None
        self.size = 0
        self.position = Position(StreamId(0, 0), 0)
        #: Traced entries that no viewer has yet; None as soon as one has them.
        self.hops: list[Hop] | None = None
        #: Of the first of them, for an exemplar; empty when none is traced.
        self.trace_id = ""
        self.traced_ms = 0

    def trace(self, hop: Hop, id_ms: int) -> None:
        """One of its frames is an entry that is traced; its id has this time."""
        if self.hops is None:
            self.hops, self.trace_id, self.traced_ms = [], hop.trace_id, id_ms
        if hop not in self.hops:
            self.hops.append(hop)
            hop.queued()

    def reached(self, viewers: int) -> None:
        """The first of so many viewers has it, or nobody will."""
        for hop in self.hops or ():
            hop.written(viewers)
        self.hops = None


class ChannelStats(NamedTuple):
    """Viewers by state, and items waiting."""

    live: int
    lagging: int
    catching_up: int
    outbox: int


class Channel:
    """Implements `StreamListener` for its topic and `Crowd` for the fan-out."""

    __slots__ = (
        "_clock",
        "_current",
        "_data",
        "_done",
        "_open",
        "_outbox",
        "_pass",
        "_sent_bytes",
        "_sent_frames",
        "_traced",
        "ackers",
        "ahead",
        "behind",
        "hub",
        "live",
        "patience",
        "ready",
        "seq",
        "stale_since",
        "taken",
        "topic",
        "waiting",
    )

    def __init__(self, hub: Hub, topic: Topic) -> None:
        self.hub = hub
        self.topic = topic
        self.live: dict[Viewer, None] = {}
        self.behind: set[Viewer] = set()
        #: Of all: viewers that answer an `ack_request`.
        self.ackers: set[Viewer] = set()
        #: Of those behind: viewers whose cursor is beyond what this replica has seen.
        #: True: the stream was asked after it came, so the answer tells whether the cursor exists.
        self.ahead: dict[Viewer, bool] = {}
        self.seq = 0
        #: Frames of entries and gaps since it is followed here.
        self.taken = 0
        #: The first page has arrived.
        self.ready = False
        #: Joins that wait for the first page.
        self.waiting = 0
        self.stale_since: str | None = None
        #: Ends the wait for a stream that never begins.
        self.patience: asyncio.TimerHandle | None = None
        self._outbox: deque[Item] = deque()
        #: The outbox's last item still takes frames: nobody has joined behind it.
        self._open = False
        #: Of the server that makes the ids; another one when the stream has moved.
        self._clock: ServerClock | None = None
        self._current: Item | None = None
        self._data = b""
        self._pass: list[Viewer] = []
        self._done = Position(topic.last, topic.epoch)
        #: Of all items up to the current one.
        self._sent_frames = 0
        self._sent_bytes = 0
        #: The traced entries of the message that is being worked through.
        self._traced: Journey | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nobody watches or waits to."""
        return not (self.live or self.behind or self.waiting)

    def stats(self) -> ChannelStats:
        """Viewers by state, and items waiting."""
        lagging = sum(1 for v in self.behind if v.state is ViewerState.LAGGING)
        return ChannelStats(len(self.live), lagging, len(self.behind) - lagging, len(self._outbox))

    # -- StreamListener ---------------------------------------------------------------------------

    @property
    def resume_after(self) -> StreamId | None:
        return self.topic.resume_after

    def on_relay(self, relay: Relay) -> None:
        tracer = self.hub.tracer
        if tracer is not None:
            self._traced = tracer.relayed(self.topic.operation, relay)
        for effect in self.topic.relay(relay):
            self.hub.carry_out(self, effect)
        if self._traced is not None:
            self._end_trace()
        if self.ahead:
            self._retry_ahead()

    def on_page(self, page: Page) -> None:
        self._clock = self.hub.clock(self.topic.operation)
        if self.stale_since is not None:
            self.stale_since = None
            self.say(frames.live_frame(self.topic.operation))
        if self.hub.tracer is not None and self.ready:  # the first page is history
            self._traced = self.hub.tracer.paged(self.topic.operation, page)
        effects = self.topic.page(page)
        self.hub.counters.repaired(effects)
        for effect in effects:
            self.hub.carry_out(self, effect)
        if self._traced is not None:
            self._end_trace()
        if not self.has_more:
            self._done = self._newest()
        if not self.ready:
            self.ready = True
            self.hub.became_ready(self)
        if self.topic.state is TopicState.LIVE and page.info.exists:
            for viewer, asked in self.ahead.items():
                if asked and viewer.cursor > self.topic.last:
                    viewer.restart = GapReason.REWOUND  # this is all there is: its log was longer
            self._retry_ahead()

    def on_seen(self, last: bytes) -> None:
        for effect in self.topic.seen(last):
            self.hub.carry_out(self, effect)

    def on_detached(self) -> None:
        self.topic.detached()
        if self.ready and self.stale_since is None:
            self.stale_since = self.hub.utc_now()
            self.say(frames.stale_frame(self.topic.operation, self.stale_since))

    def on_failed(self, error: TidegateError) -> None:
        self.hub.failed(self, error)

    def _end_trace(self) -> None:
        traced, self._traced = self._traced, None
        if traced is not None:
            traced.end()

    # -- sending ----------------------------------------------------------------------------------

    def deliver(self, new: list[frames.Frame]) -> None:
        """Send these frames to every live viewer."""
        self.taken += len(new)
        if self.live or self.has_more:
            epoch, stale = self.topic.epoch, self.stale_since is not None
            traced = self._traced
            for frame in new:
                item = self._put(frame.wire, Position(frame.id, epoch, stale))
                if item.ids_ms is not None and frame.kind is not FrameKind.GAP:
                    item.ids_ms.append(frame.id.ms)
                if traced is not None and (hop := traced.applied(frame.id)) is not None:
                    item.trace(hop, frame.id.ms)
        else:
            self._done = self._newest()
            if self._traced is not None:
                for frame in new:
                    self._traced.applied(frame.id)

    def say(self, wire: bytes) -> None:
        """Send a frame that is no entry to every live viewer."""
        position = self._position_of(self.seq)._replace(stale=self.stale_since is not None)
        if self.live or self.has_more:
            self._put(wire, position)
        else:
            self._done = position

    def _newest(self) -> Position:
        return Position(self.topic.last, self.topic.epoch, self.stale_since is not None)

    def _put(self, wire: bytes, position: Position) -> Item:
        idle = not self.has_more
        if self._open and self._outbox and self._outbox[-1].size < ITEM_MAX_BYTES:
            item = self._outbox[-1]
        else:
            self.seq += 1
            item = Item(self.seq, self.hub.sampler.pick())
            self._outbox.append(item)
            self._open = True
        item.parts.append(wire)
        item.size += len(wire)
        item.position = position
        if idle:
            self.hub.fanout.wake(self)
        return item

    @property
    def has_more(self) -> bool:
        return self._current is not None or bool(self._outbox)

    def send_some(self, at_most: int) -> int:
        item = self._current
        if item is None:
            if not self._outbox:
                return 0
            item = self._current = self._outbox.popleft()
            self._data = item.parts[0] if len(item.parts) == 1 else b"".join(item.parts)
            self._sent_frames += len(item.parts)
            self._sent_bytes += item.size
            self._pass = list(self.live)
            self._pass.reverse()
        turn = self._pass[-at_most:]
        del self._pass[-at_most:]
        turn.reverse()
        seq, live = item.seq, ViewerState.LIVE
        batch = [viewer for viewer in turn if viewer.seq < seq and viewer.state is live]
        for viewer in batch:
            viewer.seq = seq
        if item.hops is None or not batch:
            write_each(batch, self._data)
        else:
            write_each(batch[:1], self._data)
            item.reached(len(self.live))
            write_each(batch[1:], self._data)
        counters = self.hub.counters
        counters.delivered(len(batch) * len(item.parts), len(batch) * item.size)
        if batch and (item.ids_ms or item.trace_id):
            self._time(item, len(batch))
        if not self._pass:
            if item.hops is not None:
                item.reached(0)
            self._done = item.position
            self._current = None
            self._data = b""
        return len(turn)

    def _time(self, item: Item, viewers: int) -> None:
        """So many viewers have just been written an item that is timed or traced."""
        hub, clock = self.hub, self._clock
        now = hub.now()
        if item.ids_ms:
            hub.counters.latency.observe(clock, now, item.ids_ms, viewers * item.stands_for)
            hub.sampler.measured(now)
            if self.ackers:
                hub.acks.offer(self.ackers, item.seq, item.position.id, clock)
        if item.trace_id:
            hub.counters.latency.explain(clock, now, item.traced_ms, item.trace_id)

    def _position_of(self, seq: int) -> Position:
        """The position after the item with this number."""
        if self._current is not None and self._current.seq == seq:
            return self._current.position
        for item in self._outbox:
            if item.seq == seq:
                return item.position
        return self._done

    def _count(self, viewer: Viewer, sign: int) -> None:
        """Live viewers are not counted one by one: what they were sent is the difference between
        the items sent when they went live and when they ceased to be.
        """
        frames, size = self._sent_frames, self._sent_bytes
        current = self._current
        if current is not None and current.seq > viewer.seq:
            frames -= len(current.parts)
            size -= current.size
        for item in self._outbox:
            if item.seq > viewer.seq:
                break
            frames += len(item.parts)
            size += item.size
        viewer.frames += sign * frames
        viewer.size_bytes += sign * size

    # -- viewers ----------------------------------------------------------------------------------

    def go_live(self, viewer: Viewer) -> None:
        """This viewer has everything up to the topic's position."""
        self.behind.discard(viewer)
        self.ahead.pop(viewer, None)
        viewer.state = ViewerState.LIVE
        self.hub.counters.went_live(viewer)
        viewer.lagging_since = 0.0
        viewer.seq = self.seq
        self._open = False
        self._count(viewer, -1)
        if viewer.sender.visit is not None:
            viewer.sender.visit.enter(Stage.LIVE)
        self.live[viewer] = None
        if viewer.told_stale is not (self.stale_since is not None):
            self._tell_stale(viewer)
        if self.topic.finished:
            self.hub.finish_later(self)
        if self.topic.vanished:
            self.hub.expire_later(self)

    def _tell_stale(self, viewer: Viewer) -> None:
        """It was behind when the others were told."""
        operation = self.topic.operation
        viewer.told_stale = self.stale_since is not None
        if self.stale_since is None:
            viewer.write(frames.live_frame(operation), 1)
        else:
            viewer.write(frames.stale_frame(operation, self.stale_since), 1)

    def paused(self, viewer: Viewer) -> None:
        """Its buffer is full."""
        if viewer.state is ViewerState.LIVE:
            del self.live[viewer]
            self._count(viewer, 1)
            viewer.cursor, viewer.epoch, viewer.told_stale = self._position_of(viewer.seq)
            self.behind.add(viewer)
        elif viewer.state is not ViewerState.CATCHING_UP:
            return
        viewer.state = ViewerState.LAGGING
        self.hub.fell_behind(viewer)

    def resumed(self, viewer: Viewer) -> None:
        """Its buffer has drained."""
        if viewer.state is ViewerState.LAGGING:
            viewer.state = ViewerState.CATCHING_UP
            self.hub.catch_up.proceed(viewer)

    def left(self, viewer: Viewer) -> None:
        """Its socket is gone, or was told to go."""
        if viewer.state is ViewerState.CLOSED:
            return
        if viewer.state is ViewerState.LIVE:
            self._count(viewer, 1)
        viewer.state = ViewerState.CLOSED
        if viewer.sender.visit is not None:
            viewer.sender.visit.wrote(viewer.frames, viewer.size_bytes)
        self.live.pop(viewer, None)
        self.behind.discard(viewer)
        self.ahead.pop(viewer, None)
        if viewer.acks:
            self.ackers.discard(viewer)
            self.hub.acks.left(viewer)
        if self.is_empty:
            self.hub.emptied(self)

    def viewers(self) -> list[Viewer]:
        """Everybody."""
        return [*self.live, *self.behind]

    def wait_ahead(self, viewer: Viewer) -> None:
        """Its cursor is beyond what was seen here: look at the stream, then try again."""
        effects = self.topic.verify()
        self.ahead[viewer] = bool(effects)
        for effect in effects:
            self.hub.carry_out(self, effect)

    def wait_for_stream(self, viewer: Viewer) -> None:
        """It has a cursor, and there is no stream (any more)."""
        self.ahead[viewer] = False
        self.hub.expire_later(self, viewer)

    def _retry_ahead(self) -> None:
        """Only when all effects of a message are carried out.

        The topic is already behind the last of them, so a viewer that went live in between would
        be sent again what it has.
        """
        ahead, self.ahead = self.ahead, {}
        for viewer in ahead:
            self.hub.catch_up.proceed(viewer)
