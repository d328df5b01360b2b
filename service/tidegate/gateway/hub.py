"""The operations watched on this replica: who joins, who leaves, and what becomes of each topic's
effects.

An operation is attached when its first viewer joins and dropped a short while after its last one
left. The hub carries out effects and owns the timers (grace after the end, linger, expiry); it
decides nothing about order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import structlog

from tidegate.core.ports import Feed, Log, Sender
from tidegate.core.records import Ask
from tidegate.core.ring import Ring, RingBudget
from tidegate.core.sampler import Sampler
from tidegate.core.topic import (
    Deliver,
    Effect,
    Finished,
    ReadAfter,
    Reopened,
    Topic,
    TopicRules,
    Vanished,
)
from tidegate.core.visit import Stage
from tidegate.gateway.acks import Acks
from tidegate.gateway.catchup import CatchUp, Spawn
from tidegate.gateway.channel import Channel
from tidegate.gateway.fanout import Fanout
from tidegate.gateway.reader import StreamReader
from tidegate.gateway.stats import Counters
from tidegate.gateway.viewer import Viewer, ViewerState
from tidegate.model import close_codes
from tidegate.model.close_codes import CloseCode
from tidegate.model.entries import RawEntry, TerminalRules, read_entry
from tidegate.model.errors import Overloaded, RedisUnavailable, TidegateError
from tidegate.model.frames import error_frame, unstored_entry_frame
from tidegate.model.ids import ZERO, OperationId, StreamId
from tidegate.model.settings import Settings

if TYPE_CHECKING:
    from tidegate.telemetry.entry_spans import EntrySpans

#: A viewer that joins while Redis is away is told to come back later after this long.
JOIN_PATIENCE_S = 5.0
#: Malformed entries are counted always and logged this often at the most.
COMPLAINT_EVERY_S = 10.0

log = structlog.get_logger(__name__)


class HubStats(NamedTuple):
    """What is held now."""

    operations: int
    live: int
    lagging: int
    catching_up: int
    ring_bytes: int
    outbox_items: int


class Hub:
    """All channels of this replica."""

    def __init__(
        self,
        settings: Settings,
        feed: Feed,
        log: Log,
        spawn: Spawn,
        fanout: Fanout,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`now`: monotonic time in seconds, by which deliveries are timed."""
        self.now = now
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._feed = feed
        self._rules = TopicRules(
            TerminalRules(
                frozenset(settings.topic.terminal_statuses),
                frozenset(settings.topic.terminal_types),
            ),
            frozenset(settings.topic.conflated_types),
        )
        self._budget = RingBudget(settings.topic.total_ring_bytes)
        self._channels: dict[OperationId, Channel] = {}
        self._waiters: dict[OperationId, list[asyncio.Future[None]]] = {}
        self._next_complaint = 0.0
        self.counters = Counters()
        #: Chooses the items whose delivery is timed.
        self.sampler = Sampler(is_on=settings.metrics.enabled)
        self.acks = Acks(settings.metrics.acks_per_s, now)
        self.clock = feed.clock
        self.fanout = fanout
        #: None unless entries are traced.
        self.tracer: EntrySpans | None = None
        self.catch_up = CatchUp(
            log,
            spawn,
            conflated=settings.viewer.lagging_policy == "conflate",
            counters=self.counters,
        )
        self.reader = StreamReader(
            self._channels,
            log,
            self._rules,
            newest=settings.viewer.history_entries + 1,
            max_bytes=settings.dispatch.max_bytes,
        )

    # -- for the ways in --------------------------------------------------------------------------

    def join(self, operation: OperationId, sender: Sender, ask: Ask) -> bool:
        """Join now if the operation is followed already; False: `await ready`, then join."""
        channel = self._channels.get(operation)
        if channel is None or not channel.ready:
            return False
        viewer = Viewer(channel, sender)
        channel.behind.add(viewer)
        if ask.acks:
            viewer.acks = True
            channel.ackers.add(viewer)
        sender.listener = viewer
        if sender.visit is not None:
            sender.visit.enter(Stage.REPLAY)
        self.counters.joins += 1
        self.catch_up.begin(viewer, ask)
        if channel.topic.last == ZERO:
            self._wait_for_the_begin(viewer)
        if ask.state is not None and ask.state.get("status") in self._rules.terminal.statuses:
            # Its source says that it has ended: without a stream there is nothing to wait for.
            self._later(self._settings.topic.terminal_grace_s, self._ended_unseen, viewer)
        return True

    async def ready(self, operation: OperationId) -> None:
        """Follow the operation and wait until its newest entries are here.

        Raises:
            RedisUnavailable: not within `JOIN_PATIENCE_S`.
            StreamUnusable: the key is not a stream.
            Overloaded: `topic.max_topics` is reached.
        """
        channel = self._channels.get(operation)
        if channel is None:
            channel = self._follow(operation)
        if channel.ready:
            return
        arrival = self._loop.create_future()
        self._waiters.setdefault(operation, []).append(arrival)
        channel.waiting += 1
        try:
            async with asyncio.timeout(JOIN_PATIENCE_S):
                await arrival
        except TimeoutError:
            raise RedisUnavailable("Redis does not answer; come back in a moment") from None
        finally:
            channel.waiting -= 1
            if channel.is_empty:
                self.emptied(channel)

    def acked(self, sender: Sender, entry_id: StreamId) -> None:
        """See `Lobby.acked`."""
        viewer = sender.listener
        self.acks.acked(viewer if isinstance(viewer, Viewer) else None, entry_id)

    def refuse(self, viewer: Viewer, code: CloseCode, name: str, message: str) -> None:
        """Say why, then close."""
        retry = code.come_back is not close_codes.ComeBack.NO
        operation = viewer.channel.topic.operation
        if viewer.sender.visit is not None:
            viewer.sender.visit.closed(code, name)
        if viewer.sender.writable:
            viewer.sender.write(error_frame(name, message, retry=retry, operation=operation))
        self.close(viewer, code)

    def close(self, viewer: Viewer, code: CloseCode) -> None:
        """Send what was written, then close."""
        self.counters.closes[code.name] += 1
        viewer.channel.left(viewer)
        viewer.sender.close(code)

    def disconnect(self, operation: OperationId, reason: str) -> None:
        """Close everybody who watches this operation here."""
        channel = self._channels.get(operation)
        if channel is not None:
            for viewer in channel.viewers():
                self.refuse(viewer, close_codes.FORBIDDEN, reason or "disconnected", "sent away")

    def say_unstored(self, operation: OperationId, wire: bytes) -> int:
        """Send an update that is in no stream, because Redis is away, to those who watch the
        operation here and are not behind; how many.

        It has no id, so nobody can resume from it and no later viewer sees it; whoever sends it is
        told how few it reached.
        """
        channel = self._channels.get(operation)
        if channel is None:
            return 0
        channel.say(wire)
        return len(channel.live)

    def stats(self) -> HubStats:
        """What is held now, over all operations."""
        each = [channel.stats() for channel in self._channels.values()]
        return HubStats(
            operations=len(each),
            live=sum(s.live for s in each),
            lagging=sum(s.lagging for s in each),
            catching_up=sum(s.catching_up for s in each),
            ring_bytes=self._budget.size_bytes,
            outbox_items=sum(s.outbox for s in each),
        )

    @property
    def channels(self) -> dict[OperationId, Channel]:
        """By operation; for looking only."""
        return self._channels

    # -- for channels ----------------------------------------------------------------------------

    def carry_out(self, channel: Channel, effect: Effect) -> None:
        """Do what a topic asked for."""
        match effect:
            case Deliver(frames, gap):
                if gap is None:
                    self.counters.entries += len(frames)
                else:
                    self.counters.gaps[gap] += len(channel.live)
                if channel.topic.malformed:
                    self._count_malformed(channel.topic)
                channel.deliver(frames)
            case ReadAfter(after, cause):
                self.counters.repairs[cause] += 1
                self._feed.read(channel.topic.operation, after)
            case Finished():
                self.finish_later(channel)
            case Reopened():
                pass  # the timer looks again before it closes anybody
            case Vanished():
                self.expire_later(channel)

    def became_ready(self, channel: Channel) -> None:
        """The first page is here: those who wait may join."""
        for waiter in self._waiters.pop(channel.topic.operation, ()):
            if not waiter.done():
                waiter.set_result(None)

    def failed(self, channel: Channel, error: TidegateError) -> None:
        """This operation cannot be followed: everybody is told."""
        for waiter in self._waiters.pop(channel.topic.operation, ()):
            if not waiter.done():
                waiter.set_exception(error)
        for viewer in channel.viewers():
            self.refuse(viewer, close_codes.NOT_FOUND, "not_a_stream", str(error))
        self._drop(channel)

    def finish_later(self, channel: Channel) -> None:
        """Close the viewers after the grace, if it is still finished then."""
        self._later(self._settings.topic.terminal_grace_s, self._finish, channel)

    def expire_later(self, channel: Channel, viewer: Viewer | None = None) -> None:
        """Close this viewer (None: all of them) if the stream does not come back soon."""
        self._later(self._settings.topic.expired_grace_s, self._expire, channel, viewer)

    def fell_behind(self, viewer: Viewer) -> None:
        """A viewer does not read as fast as it is written to."""
        self.counters.lagged += 1
        viewer.lagging_since = now = self._loop.time()
        if self._settings.viewer.lagging_policy == "disconnect":
            self._later(self._settings.viewer.lagging_timeout_s, self._too_slow, viewer, now)

    def emptied(self, channel: Channel) -> None:
        """Nobody watches any more."""
        self._later(self._settings.topic.linger_s, self._drop_if_empty, channel)

    def utc_now(self) -> str:
        """The wall clock, for people."""
        return datetime.now(UTC).isoformat(timespec="milliseconds")

    # -- inside -----------------------------------------------------------------------------------

    def _count_malformed(self, topic: Topic) -> None:
        self.counters.malformed += topic.malformed
        topic.malformed = 0
        now = self._loop.time()
        if now >= self._next_complaint:
            self._next_complaint = now + COMPLAINT_EVERY_S
            log.warning(
                "malformed entries", operation=topic.operation, total=self.counters.malformed
            )

    def _follow(self, operation: OperationId) -> Channel:
        limits = self._settings.topic
        if len(self._channels) >= limits.max_topics:
            raise Overloaded("topic.max_topics", limits.max_topics)
        ring = Ring(limits.ring_entries, limits.ring_bytes, self._budget)
        channel = Channel(self, Topic(operation, ring, self._rules))
        self._channels[operation] = channel
        self._feed.watch(operation, channel)
        return channel

    def _later(
        self, delay_s: float, action: Callable[..., None], *args: object
    ) -> asyncio.TimerHandle:
        return self._loop.call_later(delay_s, partial(action, *args))

    def _finish(self, channel: Channel) -> None:
        if not channel.topic.finished:
            return
        if channel.has_more:
            self.finish_later(channel)
            return
        for viewer in tuple(channel.live):
            self.close(viewer, close_codes.FINISHED)

    def _expire(self, channel: Channel, viewer: Viewer | None) -> None:
        if channel.topic.vanished:
            gone = channel.viewers()
        else:
            gone = [viewer] if viewer in channel.ahead else []
        for one in gone:
            self.refuse(one, close_codes.EXPIRED, "expired", "this operation's stream is gone")

    def _wait_for_the_begin(self, viewer: Viewer) -> None:
        patience_s, channel = self._settings.topic.wait_for_stream_s, viewer.channel
        viewer.waits_until = self._loop.time() + patience_s
        if channel.patience is None:
            channel.patience = self._later(patience_s, self._never_began, channel)

    def _never_began(self, channel: Channel) -> None:
        channel.patience = None
        if channel.topic.last != ZERO:
            return
        now = self._loop.time()
        left_s = []
        for viewer in channel.viewers():
            if viewer.waits_until > now:
                left_s.append(viewer.waits_until - now)
            elif viewer.waits_until:
                self.refuse(viewer, close_codes.EXPIRED, "expired", "this operation never began")
        if left_s:
            channel.patience = self._later(min(left_s), self._never_began, channel)

    def _ended_unseen(self, viewer: Viewer) -> None:
        if viewer.channel.topic.last == ZERO and viewer.state is not ViewerState.CLOSED:
            self.close(viewer, close_codes.FINISHED)

    def _too_slow(self, viewer: Viewer, since: float) -> None:
        if viewer.state is ViewerState.LAGGING and viewer.lagging_since == since:
            self.close(viewer, close_codes.SLOW)

    def _drop_if_empty(self, channel: Channel) -> None:
        if channel.is_empty:
            self._drop(channel)

    def _drop(self, channel: Channel) -> None:
        operation = channel.topic.operation
        if self._channels.get(operation) is channel:
            del self._channels[operation]
            channel.topic.ring.discard()
            if channel.patience is not None:
                channel.patience.cancel()
            self._feed.unwatch(operation)


def unstored_frame(operation: OperationId, message: bytes) -> bytes:
    """The frame of a message that is in no stream; like an entry's, but without an id."""
    now = StreamId(int(time.time() * 1000), 0)  # the time of a message that has none
    entry = read_entry(now, RawEntry(b"", [b"message", message]))
    return unstored_entry_frame(entry, operation.encode())
