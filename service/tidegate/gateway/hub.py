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
from tidegate.gateway.audience import Audience
from tidegate.gateway.catchup import CatchUp, Spawn
from tidegate.gateway.counters import Counters
from tidegate.gateway.fanout import Fanout
from tidegate.gateway.reading import StreamReader
from tidegate.gateway.viewer import Viewer, ViewerState
from tidegate.model import close_codes
from tidegate.model.close_codes import CloseCode
from tidegate.model.entries import TerminalRules
from tidegate.model.errors import Overloaded, RedisUnavailable, TidegateError
from tidegate.model.frames import error_frame
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
    """All audiences of this replica."""

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
        self._audiences: dict[OperationId, Audience] = {}
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
            self._audiences,
            log,
            self._rules,
            newest=settings.viewer.history_entries + 1,
            max_bytes=settings.dispatch.max_bytes,
        )

    # -- for the ways in --------------------------------------------------------------------------

    def join(self, operation: OperationId, sender: Sender, ask: Ask) -> bool:
        """Join now if the operation is followed already; False: `await ready`, then join."""
        audience = self._audiences.get(operation)
        if audience is None or not audience.ready:
            return False
        viewer = Viewer(audience, sender)
        audience.behind.add(viewer)
        if ask.acks:
            viewer.acks = True
            audience.ackers.add(viewer)
        sender.listener = viewer
        if sender.visit is not None:
            sender.visit.enter(Stage.REPLAY)
        self.counters.joins += 1
        self.catch_up.begin(viewer, ask)
        if audience.topic.last == ZERO:
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
        audience = self._audiences.get(operation)
        if audience is None:
            audience = self._follow(operation)
        if audience.ready:
            return
        arrival = self._loop.create_future()
        self._waiters.setdefault(operation, []).append(arrival)
        audience.waiting += 1
        try:
            async with asyncio.timeout(JOIN_PATIENCE_S):
                await arrival
        except TimeoutError:
            raise RedisUnavailable("Redis does not answer; come back in a moment") from None
        finally:
            audience.waiting -= 1
            if audience.is_empty:
                self.emptied(audience)

    def acked(self, sender: Sender, entry_id: StreamId) -> None:
        """See `Lobby.acked`."""
        viewer = sender.listener
        self.acks.acked(viewer if isinstance(viewer, Viewer) else None, entry_id)

    def refuse(self, viewer: Viewer, code: CloseCode, name: str, message: str) -> None:
        """Say why, then close."""
        retry = code.come_back is not close_codes.ComeBack.NO
        operation = viewer.audience.topic.operation
        if viewer.sender.visit is not None:
            viewer.sender.visit.closed(code, name)
        if viewer.sender.writable:
            viewer.sender.write(error_frame(name, message, retry=retry, operation=operation))
        self.close(viewer, code)

    def close(self, viewer: Viewer, code: CloseCode) -> None:
        """Send what was written, then close."""
        self.counters.closes[code.name] += 1
        viewer.audience.left(viewer)
        viewer.sender.close(code)

    def disconnect(self, operation: OperationId, reason: str) -> None:
        """Close everybody who watches this operation here."""
        audience = self._audiences.get(operation)
        if audience is not None:
            for viewer in audience.viewers():
                self.refuse(viewer, close_codes.FORBIDDEN, reason or "disconnected", "sent away")

    def stats(self) -> HubStats:
        """What is held now, over all operations."""
        each = [audience.stats() for audience in self._audiences.values()]
        return HubStats(
            operations=len(each),
            live=sum(s.live for s in each),
            lagging=sum(s.lagging for s in each),
            catching_up=sum(s.catching_up for s in each),
            ring_bytes=self._budget.size_bytes,
            outbox_items=sum(s.outbox for s in each),
        )

    @property
    def audiences(self) -> dict[OperationId, Audience]:
        """By operation; for looking only."""
        return self._audiences

    # -- for audiences ----------------------------------------------------------------------------

    def carry_out(self, audience: Audience, effect: Effect) -> None:
        """Do what a topic asked for."""
        match effect:
            case Deliver(frames, gap):
                if gap is None:
                    self.counters.entries += len(frames)
                else:
                    self.counters.gaps[gap] += len(audience.live)
                if audience.topic.malformed:
                    self._count_malformed(audience.topic)
                audience.deliver(frames)
            case ReadAfter(after, cause):
                self.counters.repairs[cause] += 1
                self._feed.read(audience.topic.operation, after)
            case Finished():
                self.finish_later(audience)
            case Reopened():
                pass  # the timer looks again before it closes anybody
            case Vanished():
                self.expire_later(audience)

    def became_ready(self, audience: Audience) -> None:
        """The first page is here: those who wait may join."""
        for waiter in self._waiters.pop(audience.topic.operation, ()):
            if not waiter.done():
                waiter.set_result(None)

    def failed(self, audience: Audience, error: TidegateError) -> None:
        """This operation cannot be followed: everybody is told."""
        for waiter in self._waiters.pop(audience.topic.operation, ()):
            if not waiter.done():
                waiter.set_exception(error)
        for viewer in audience.viewers():
            self.refuse(viewer, close_codes.NOT_FOUND, "not_a_stream", str(error))
        self._drop(audience)

    def finish_later(self, audience: Audience) -> None:
        """Close the viewers after the grace, if it is still finished then."""
        self._later(self._settings.topic.terminal_grace_s, self._finish, audience)

    def expire_later(self, audience: Audience, viewer: Viewer | None = None) -> None:
        """Close this viewer (None: all of them) if the stream does not come back soon."""
        self._later(self._settings.topic.expired_grace_s, self._expire, audience, viewer)

    def fell_behind(self, viewer: Viewer) -> None:
        """A viewer does not read as fast as it is written to."""
        self.counters.lagged += 1
        viewer.lagging_since = now = self._loop.time()
        if self._settings.viewer.lagging_policy == "disconnect":
            self._later(self._settings.viewer.lagging_timeout_s, self._too_slow, viewer, now)

    def emptied(self, audience: Audience) -> None:
        """Nobody watches any more."""
        self._later(self._settings.topic.linger_s, self._drop_if_empty, audience)

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

    def _follow(self, operation: OperationId) -> Audience:
        limits = self._settings.topic
        if len(self._audiences) >= limits.max_topics:
            raise Overloaded("topic.max_topics", limits.max_topics)
        ring = Ring(limits.ring_entries, limits.ring_bytes, self._budget)
        audience = Audience(self, Topic(operation, ring, self._rules))
        self._audiences[operation] = audience
        self._feed.watch(operation, audience)
        return audience

    def _later(
        self, delay_s: float, action: Callable[..., None], *args: object
    ) -> asyncio.TimerHandle:
        return self._loop.call_later(delay_s, partial(action, *args))

    def _finish(self, audience: Audience) -> None:
        if not audience.topic.finished:
            return
        if audience.has_more:
            self.finish_later(audience)
            return
        for viewer in tuple(audience.live):
            self.close(viewer, close_codes.FINISHED)

    def _expire(self, audience: Audience, viewer: Viewer | None) -> None:
        if audience.topic.vanished:
            gone = audience.viewers()
        else:
            gone = [viewer] if viewer in audience.ahead else []
        for one in gone:
            self.refuse(one, close_codes.EXPIRED, "expired", "this operation's stream is gone")

    def _wait_for_the_begin(self, viewer: Viewer) -> None:
        patience_s, audience = self._settings.topic.wait_for_stream_s, viewer.audience
        viewer.waits_until = self._loop.time() + patience_s
        if audience.patience is None:
            audience.patience = self._later(patience_s, self._never_began, audience)

    def _never_began(self, audience: Audience) -> None:
        audience.patience = None
        if audience.topic.last != ZERO:
            return
        now = self._loop.time()
        left_s = []
        for viewer in audience.viewers():
            if viewer.waits_until > now:
                left_s.append(viewer.waits_until - now)
            elif viewer.waits_until:
                self.refuse(viewer, close_codes.EXPIRED, "expired", "this operation never began")
        if left_s:
            audience.patience = self._later(min(left_s), self._never_began, audience)

    def _ended_unseen(self, viewer: Viewer) -> None:
        if viewer.audience.topic.last == ZERO and viewer.state is not ViewerState.CLOSED:
            self.close(viewer, close_codes.FINISHED)

    def _too_slow(self, viewer: Viewer, since: float) -> None:
        if viewer.state is ViewerState.LAGGING and viewer.lagging_since == since:
            self.close(viewer, close_codes.SLOW)

    def _drop_if_empty(self, audience: Audience) -> None:
        if audience.is_empty:
            self._drop(audience)

    def _drop(self, audience: Audience) -> None:
        operation = audience.topic.operation
        if self._audiences.get(operation) is audience:
            del self._audiences[operation]
            audience.topic.ring.discard()
            if audience.patience is not None:
                audience.patience.cancel()
            self._feed.unwatch(operation)
