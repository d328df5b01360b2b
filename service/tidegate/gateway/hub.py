"""Which operations are followed on this replica, and their viewers.

An operation is followed from its first viewer on, until its channel reports that it is not needed
any more. Entries and viewers are handled by the channel.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from tidegate.core.ports import Feed, Log, Sender
from tidegate.core.records import Ask
from tidegate.core.ring import Ring, RingBudget
from tidegate.core.sampler import Sampler
from tidegate.core.topic import Topic, TopicRules
from tidegate.gateway.acks import Acks
from tidegate.gateway.catchup import CatchUp, Spawn
from tidegate.gateway.channel import Channel, stats_of
from tidegate.gateway.outbox import ChannelOutbox, Measures
from tidegate.gateway.reader import StreamReader
from tidegate.gateway.services import ChannelServices
from tidegate.gateway.slices import Slices
from tidegate.gateway.states import OperationStates
from tidegate.gateway.stats import Counters
from tidegate.gateway.viewer import ChannelViewer
from tidegate.model import close_codes
from tidegate.model.entries import RawEntry, read_entry
from tidegate.model.errors import Overloaded, RedisUnavailable
from tidegate.model.frames import Frame, unstored_entry_frame
from tidegate.model.ids import OperationId, StreamId
from tidegate.model.settings import Settings

if TYPE_CHECKING:
    from tidegate.telemetry.entry_spans import EntrySpans

#: A viewer that joins while Redis is away is told to come back later after this long.
JOIN_PATIENCE_S = 5.0


class HubStats(NamedTuple):
    """What is held now."""

    operations: int
    live: int
    lagging: int
    catching_up: int
    ring_bytes: int
    outbox_items: int


class Hub:
    """All channels of this replica. Implements `core.ports.SubscriptionService`."""

    def __init__(
        self,
        settings: Settings,
        feed: Feed,
        log: Log,
        spawn: Spawn,
        wake: Callable[[ChannelOutbox], None],
        *,
        tracer: EntrySpans | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`wake`: called with each outbox that has something to send. `tracer`: None unless entries
        are traced. `now`: monotonic time in seconds, by which deliveries are timed.
        """
        self._limits = settings.topic
        self._feed = feed
        self._rules = TopicRules(
            settings.topic.terminal_rules(),
            frozenset(settings.topic.conflated_types),
            settings.topic.folds(),
            frozenset(settings.topic.append_types),
        )
        self._budget = RingBudget(settings.topic.total_ring_bytes)
        self._channels: dict[OperationId, Channel] = {}
        self.counters = Counters()
        self.acks = Acks(settings.metrics.acks_per_s, now)
        #: What is read from the log takes its time of the loop in these.
        self.slices = Slices(asyncio.get_running_loop())
        sampler = Sampler(is_on=settings.metrics.enabled)
        #: For `current_state`, and for who asks.
        self.states = OperationStates(log, self._rules, self.slices)
        catch_up = CatchUp(
            log,
            spawn,
            self.slices,
            self.states,
            conflated=settings.viewer.lagging_policy == "conflate",
            counters=self.counters,
        )
        self.services = ChannelServices(
            settings,
            feed,
            catch_up,
            Measures(self.counters, sampler, self.acks, now),
            rules=self._rules,
            wake=wake,
            drop=self._drop,
            tracer=tracer,
        )
        self.reader = StreamReader(
            self._channels,
            log,
            self._rules,
            self.slices,
            self.states,
            newest=settings.viewer.history_entries + 1,
            max_bytes=settings.dispatch.max_bytes,
        )

    # -- for the ways in --------------------------------------------------------------------------

    def join(self, operation: OperationId, sender: Sender, ask: Ask) -> bool:
        """Join now if the operation is followed already; False: `await ready`, then join."""
        channel = self._channels.get(operation)
        if channel is None or not channel.ready:
            return False
        channel.join(sender, ask)
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
        try:
            async with asyncio.timeout(JOIN_PATIENCE_S):
                await channel.first_page()
        except TimeoutError:
            raise RedisUnavailable("Redis is not responding; try again in a moment") from None

    def acked(self, sender: Sender, entry_id: StreamId) -> None:
        """See `SubscriptionService.acked`."""
        viewer = sender.listener
        self.acks.acked(viewer if isinstance(viewer, ChannelViewer) else None, entry_id)

    def disconnect(self, operation: OperationId, reason: str) -> None:
        """Close everyone who watches this operation here."""
        channel = self._channels.get(operation)
        if channel is not None:
            for viewer in channel.viewers():
                channel.refuse(
                    viewer,
                    close_codes.FORBIDDEN,
                    reason or "disconnected",
                    "disconnected by an administrator",
                )

    def say_unstored(self, operation: OperationId, frame: Frame) -> int:
        """Send an update that is in no stream, because Redis is away, to those who watch the
        operation here and are not behind; how many.

        It has no id, so nobody can resume from it and no later viewer sees it; whoever sends it is
        told how few it reached.
        """
        channel = self._channels.get(operation)
        if channel is None:
            return 0
        channel.say(frame)
        return len(channel.live)

    # -- what is held -----------------------------------------------------------------------------

    def drop_history(self) -> int:
        """Drop what can be read from Redis again: all rings and kept states. Bytes dropped."""
        size = self._budget.size_bytes + self.states.size_bytes
        self._budget.reduce(0)
        self.states.forget_all()
        return size

    def stats(self) -> HubStats:
        """What is held now, over all operations."""
        all_of_them = stats_of(self._channels.values())
        return HubStats(
            operations=len(self._channels),
            live=all_of_them.live,
            lagging=all_of_them.lagging,
            catching_up=all_of_them.catching_up,
            ring_bytes=self._budget.size_bytes,
            outbox_items=all_of_them.outbox,
        )

    @property
    def channels(self) -> dict[OperationId, Channel]:
        """By operation; for looking only."""
        return self._channels

    # -- inside -----------------------------------------------------------------------------------

    def _follow(self, operation: OperationId) -> Channel:
        limits = self._limits
        if len(self._channels) >= limits.max_topics:
            raise Overloaded("topic.max_topics", limits.max_topics)
        ring = Ring(limits.ring_entries, limits.ring_bytes, self._budget)
        channel = Channel(Topic(operation, ring, self._rules), self.services)
        self._channels[operation] = channel
        self._feed.watch(operation, channel)
        return channel

    def _drop(self, topic: Topic) -> None:
        """Follow it no more, unless another channel has taken its place by now."""
        channel = self._channels.get(topic.operation)
        if channel is not None and channel.topic is topic:
            del self._channels[topic.operation]
            self.states.left(topic)
            self._feed.unwatch(topic.operation)


def unstored_frame(operation: OperationId, message: bytes) -> Frame:
    """The frame of a message that is in no stream; like an entry's, but without an id."""
    now = StreamId(int(time.time() * 1000), 0)  # the time of a message that has none
    entry = read_entry(now, RawEntry(b"", [b"message", message]))
    return unstored_entry_frame(entry, operation.encode())
