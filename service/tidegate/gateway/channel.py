"""One operation on this replica: its topic, its viewers, and how long both are kept.

It carries out the effects of the topic, and owns its viewers in all of their states (`outbox` sends
to live ones, `CatchUp` makes the others live) and its timers: the grace after the end, the linger
after the last viewer, the wait for a stream that has not begun or is gone. It decides nothing about
order.

A timer is not cancelled when its reason is gone: when it is due, it checks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from tidegate.core.connection_record import Stage
from tidegate.core.ports import Sender
from tidegate.core.records import Ask, Page, Relay
from tidegate.core.topic import (
    Deliver,
    Effect,
    Finished,
    ReadAfter,
    Reopened,
    Topic,
    TopicState,
    Vanished,
)
from tidegate.gateway.outbox import ChannelOutbox, Position
from tidegate.gateway.services import ChannelServices, utc_now
from tidegate.gateway.viewer import ChannelViewer, ViewerState
from tidegate.model import close_codes, frames
from tidegate.model.batch import Batch
from tidegate.model.close_codes import CloseCode
from tidegate.model.errors import TidegateError
from tidegate.model.frames import GapReason
from tidegate.model.ids import ZERO, StreamId

if TYPE_CHECKING:
    from tidegate.telemetry.entry_spans import BatchTrace


class ChannelStats(NamedTuple):
    """Viewers by state, and items waiting."""

    live: int
    lagging: int
    catching_up: int
    outbox: int


class Channel:
    """Implements `StreamListener` for its topic and `ViewerOwner` for its viewers."""

    __slots__ = (
        "_arrivals",
        "_patience",
        "_services",
        "_traced",
        "ackers",
        "ahead",
        "behind",
        "live",
        "outbox",
        "ready",
        "stale_since",
        "taken",
        "topic",
        "waiting",
    )

    def __init__(self, topic: Topic, services: ChannelServices) -> None:
        self._services = services
        self.topic = topic
        self.live: dict[ChannelViewer, None] = {}
        self.behind: set[ChannelViewer] = set()
        #: Of all: viewers that answer an `ack_request`.
        self.ackers: set[ChannelViewer] = set()
        #: Of those behind: viewers whose cursor is beyond what this replica has seen.
        #: True: the stream was asked after it came, so the answer tells whether the cursor exists.
        self.ahead: dict[ChannelViewer, bool] = {}
        start = Position(topic.last, topic.epoch)
        self.outbox = ChannelOutbox(self.live, self.ackers, start, services.wake, services.measures)
        #: Frames of entries and gaps since it is followed here.
        self.taken = 0
        #: The first page has arrived.
        self.ready = False
        #: Joins that wait for the first page.
        self.waiting = 0
        self._arrivals: list[asyncio.Future[None]] = []
        self.stale_since: str | None = None
        #: Ends the wait for a stream that never begins.
        self._patience: asyncio.TimerHandle | None = None
        #: The traced entries of the message that is being worked through.
        self._traced: BatchTrace | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nobody watches or waits to."""
        return not (self.live or self.behind or self.waiting)

    def viewers(self) -> list[ChannelViewer]:
        """Everyone."""
        return [*self.live, *self.behind]

    def stats(self) -> ChannelStats:
        """Viewers by state, and items waiting."""
        return stats_of((self,))

    # -- StreamListener ---------------------------------------------------------------------------

    @property
    def resume_after(self) -> StreamId | None:
        return self.topic.resume_after

    def on_relay(self, relay: Relay) -> None:
        tracer = self._services.tracer
        if tracer is not None:
            self._traced = tracer.relayed(self.topic.operation, relay)
        for effect in self.topic.relay(relay):
            self._carry_out(effect)
        if self._traced is not None:
            self._end_trace()
        if self.ahead:
            self._retry_ahead()

    def on_page(self, page: Page) -> None:
        services, topic = self._services, self.topic
        self.outbox.clock = services.feed.clock(topic.operation)
        if self.stale_since is not None:
            self.stale_since = None
            self.say(frames.live_frame(topic.operation))
        if services.tracer is not None and self.ready:  # the first page is history
            self._traced = services.tracer.paged(topic.operation, page)
        effects = topic.page(page)
        services.counters.repaired(effects)
        for effect in effects:
            self._carry_out(effect)
        if self._traced is not None:
            self._end_trace()
        if not self.outbox.has_more:
            self.outbox.moved(self._newest())
        if not self.ready:
            self.ready = True
            for arrival in self._take_arrivals():
                arrival.set_result(None)
        if topic.state is TopicState.LIVE and page.info.exists:
            for viewer, asked in self.ahead.items():
                if asked and viewer.cursor > topic.last:
                    viewer.restart = GapReason.REWOUND  # this is all there is: its log was longer
            self._retry_ahead()

    def on_seen(self, last: bytes) -> None:
        for effect in self.topic.seen(last):
            self._carry_out(effect)

    def on_detached(self) -> None:
        self.topic.detached()
        if self.ready and self.stale_since is None:
            self.stale_since = utc_now()
            self.say(frames.stale_frame(self.topic.operation, self.stale_since))

    def on_failed(self, error: TidegateError) -> None:
        for arrival in self._take_arrivals():
            arrival.set_exception(error)
        for viewer in self.viewers():
            self.refuse(viewer, close_codes.NOT_FOUND, "not_a_stream", str(error))
        self._drop()

    # -- sending ----------------------------------------------------------------------------------

    def _carry_out(self, effect: Effect) -> None:
        """Do what the topic asked for."""
        if type(effect) is Deliver:  # nearly all; a class pattern costs more than the rest of it
            self._deliver(effect)
            return
        match effect:
            case ReadAfter(after, cause):
                self._services.counters.repairs[cause] += 1
                self._services.feed.read(self.topic.operation, after)
            case Finished():
                self._finish_later()
            case Reopened():
                pass  # the timer looks again before it closes anyone
            case Vanished():
                self._expire_later()

    def _deliver(self, delivery: Deliver) -> None:
        """Count these frames, and send them to every live viewer."""
        new, gap = delivery.frames, delivery.gap
        if gap is None:
            self._services.counters.entries += len(new)
        else:
            self._services.counters.gaps[gap] += len(self.live)
        if self.topic.malformed:
            self._services.malformed(self.topic)
        self.taken += len(new)
        outbox, traced = self.outbox, self._traced
        if self.live or outbox.has_more:
            epoch, stale = self.topic.epoch, self.stale_since is not None
            for frame in new:
                item = outbox.put(frame, Position(frame.id, epoch, stale))
                if item.ids_ms is not None and gap is None:
                    item.ids_ms.append(frame.id.ms)
                if traced is not None and (span := traced.applied(frame.id)) is not None:
                    item.trace(span, frame.id.ms)
        else:
            outbox.moved(self._newest())
            if traced is not None:
                for frame in new:
                    traced.applied(frame.id)

    def say(self, frame: frames.Frame) -> None:
        """Send a frame that is no entry to every live viewer."""
        outbox = self.outbox
        at = outbox.position_of(outbox.seq)
        position = Position(at.id, at.epoch, self.stale_since is not None)
        if self.live or outbox.has_more:
            outbox.put(frame, position)
        else:
            outbox.moved(position)

    def _newest(self) -> Position:
        return Position(self.topic.last, self.topic.epoch, self.stale_since is not None)

    def _end_trace(self) -> None:
        traced, self._traced = self._traced, None
        if traced is not None:
            traced.end()

    # -- viewers: how they come -------------------------------------------------------------------

    async def first_page(self) -> None:
        """Wait for it. Raises StreamUnusable: the key is not a stream."""
        arrival: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._arrivals.append(arrival)
        self.waiting += 1
        try:
            await arrival
        finally:
            self.waiting -= 1
            if self.is_empty:
                self._emptied()

    def _take_arrivals(self) -> list[asyncio.Future[None]]:
        """Those who still wait for the first page."""
        arrivals, self._arrivals = self._arrivals, []
        return [arrival for arrival in arrivals if not arrival.done()]

    def join(self, sender: Sender, ask: Ask) -> None:
        """This socket watches from now on; only when `ready`."""
        services = self._services
        viewer = ChannelViewer(self, sender)
        self.behind.add(viewer)
        if ask.acks:
            viewer.acks = True
            self.ackers.add(viewer)
        sender.listener = viewer
        sender.record.enter(Stage.REPLAY)
        services.counters.joins += 1
        services.catch_up.begin(viewer, ask)
        if self.topic.last == ZERO:
            self._wait_for_the_begin(viewer)
        if ask.state is not None and ask.state.get("status") in services.rules.terminal.statuses:
            # Its source says that it has ended: without a stream there is nothing to wait for.
            services.later(services.settings.topic.terminal_grace_s, self._ended_unseen, viewer)

    def go_live(self, viewer: ChannelViewer) -> None:
        """This viewer has everything up to the topic's position."""
        self.behind.discard(viewer)
        self.ahead.pop(viewer, None)
        viewer.state = ViewerState.LIVE
        self._services.counters.went_live(viewer)
        viewer.lagging_since = 0.0
        self.outbox.enter(viewer)
        viewer.sender.record.enter(Stage.LIVE)
        self.live[viewer] = None
        if viewer.told_stale is not (self.stale_since is not None):
            self._tell_stale(viewer)
        if self.topic.finished:
            self._finish_later()
        if self.topic.vanished:
            self._expire_later()

    def _tell_stale(self, viewer: ChannelViewer) -> None:
        """It was behind when the others were told."""
        operation = self.topic.operation
        viewer.told_stale = self.stale_since is not None
        if self.stale_since is None:
            viewer.write(Batch([frames.live_frame(operation)]))
        else:
            viewer.write(Batch([frames.stale_frame(operation, self.stale_since)]))

    def wait_ahead(self, viewer: ChannelViewer) -> None:
        """Its cursor is beyond what was seen here: look at the stream, then try again."""
        effects = self.topic.verify()
        self.ahead[viewer] = bool(effects)
        for effect in effects:
            self._carry_out(effect)

    def wait_for_stream(self, viewer: ChannelViewer) -> None:
        """It has a cursor, and there is no stream (any more)."""
        self.ahead[viewer] = False
        self._expire_later(viewer)

    def _retry_ahead(self) -> None:
        """Only when all effects of a message are carried out.

        The topic is already behind the last of them, so a viewer that went live in between would
        be sent again what it has.
        """
        ahead, self.ahead = self.ahead, {}
        for viewer in ahead:
            self._services.catch_up.proceed(viewer)

    # -- viewers: how they fall behind and go -----------------------------------------------------

    def paused(self, viewer: ChannelViewer) -> None:
        """Its buffer is full."""
        if viewer.state is ViewerState.LIVE:
            del self.live[viewer]
            outbox = self.outbox
            outbox.leave(viewer)
            at = outbox.position_of(viewer.seq)
            viewer.cursor, viewer.epoch, viewer.told_stale = at.id, at.epoch, at.stale
            self.behind.add(viewer)
        elif viewer.state is not ViewerState.CATCHING_UP:
            return
        services = self._services
        limits = services.settings.viewer
        viewer.state = ViewerState.LAGGING
        viewer.lagging_since = now = services.time()
        services.counters.lagged += 1
        if limits.lagging_policy == "disconnect":
            services.later(limits.lagging_timeout_s, self._too_slow, viewer, now)

    def resumed(self, viewer: ChannelViewer) -> None:
        """Its buffer has drained."""
        if viewer.state is ViewerState.LAGGING:
            viewer.state = ViewerState.CATCHING_UP
            self._services.catch_up.proceed(viewer)

    def left(self, viewer: ChannelViewer) -> None:
        """Its socket is gone, or was told to go."""
        if viewer.state is ViewerState.CLOSED:
            return
        if viewer.state is ViewerState.LIVE:
            self.outbox.leave(viewer)
        viewer.state = ViewerState.CLOSED
        viewer.sender.record.wrote(viewer.frames, viewer.size_bytes)
        self.live.pop(viewer, None)
        self.behind.discard(viewer)
        self.ahead.pop(viewer, None)
        if viewer.acks:
            self.ackers.discard(viewer)
            self._services.measures.acks.left(viewer)
        if self.is_empty:
            self._emptied()

    def refuse(self, viewer: ChannelViewer, code: CloseCode, name: str, message: str) -> None:
        """Say why, then close."""
        retry = code.come_back is not close_codes.ComeBack.NO
        sender = viewer.sender
        sender.record.closed(code, name)
        if sender.writable:
            operation = self.topic.operation
            error = frames.error_frame(name, message, retry=retry, operation=operation)
            sender.write(Batch([error]))
        self.close(viewer, code)

    def close(self, viewer: ChannelViewer, code: CloseCode) -> None:
        """Send what was written, then close."""
        self._services.counters.closes[code.name] += 1
        self.left(viewer)
        viewer.sender.close(code)

    # -- timers -----------------------------------------------------------------------------------

    def _finish_later(self) -> None:
        """Close the viewers after the grace, if it is still finished then."""
        self._services.later(self._services.settings.topic.terminal_grace_s, self._finish)

    def _finish(self) -> None:
        if not self.topic.finished:
            return
        if self.outbox.has_more:
            self._finish_later()
            return
        for viewer in tuple(self.live):
            self.close(viewer, close_codes.FINISHED)

    def _expire_later(self, viewer: ChannelViewer | None = None) -> None:
        """Close this viewer (None: all of them) if the stream does not come back soon."""
        self._services.later(self._services.settings.topic.expired_grace_s, self._expire, viewer)

    def _expire(self, viewer: ChannelViewer | None) -> None:
        for one in self.viewers() if self.topic.vanished else self.ahead.keys() & {viewer}:
            self.refuse(
                one, close_codes.EXPIRED, "expired", "this operation's stream no longer exists"
            )

    def _wait_for_the_begin(self, viewer: ChannelViewer) -> None:
        patience_s = self._services.settings.topic.wait_for_stream_s
        viewer.waits_until = self._services.time() + patience_s
        if self._patience is None:
            self._patience = self._services.later(patience_s, self._never_began)

    def _never_began(self) -> None:
        self._patience = None
        if self.topic.last != ZERO:
            return
        now = self._services.time()
        left_s = []
        for viewer in self.viewers():
            if viewer.waits_until > now:
                left_s.append(viewer.waits_until - now)
            elif viewer.waits_until:
                self.refuse(
                    viewer, close_codes.EXPIRED, "expired", "this operation did not start in time"
                )
        if left_s:
            self._patience = self._services.later(min(left_s), self._never_began)

    def _ended_unseen(self, viewer: ChannelViewer) -> None:
        if self.topic.last == ZERO and viewer.state is not ViewerState.CLOSED:
            self.close(viewer, close_codes.FINISHED)

    def _too_slow(self, viewer: ChannelViewer, since: float) -> None:
        if viewer.state is ViewerState.LAGGING and viewer.lagging_since == since:
            self.close(viewer, close_codes.SLOW)

    def _emptied(self) -> None:
        """Nobody watches any more."""
        self._services.later(self._services.settings.topic.linger_s, self._drop_if_empty)

    def _drop_if_empty(self) -> None:
        if self.is_empty:
            self._drop()

    def _drop(self) -> None:
        """It may be called again for one that is dropped already."""
        self.topic.discard()
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._services.drop(self.topic)


def stats_of(channels: Iterable[Channel]) -> ChannelStats:
    """The sums over these channels. One loop, because a scrape may sum 20,000 channels and more."""
    live = lagging = behind = waiting = 0
    is_lagging = ViewerState.LAGGING
    for channel in channels:
        live += len(channel.live)
        waiting += len(channel.outbox)
        if channel.behind:
            behind += len(channel.behind)
            for viewer in channel.behind:
                if viewer.state is is_lagging:
                    lagging += 1
    return ChannelStats(live, lagging, behind - lagging, waiting)
