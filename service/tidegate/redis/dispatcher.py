"""The dispatch role for the streams of one primary: what follows from each push and each reply.

    invalidate --> ring --> `Arming` --> dispatch, now or when it is due
    smessage   --> relay --> the stream's listener
    refused    --> `Trouble` --> again, later, elsewhere, or not at all

It has a link only while the primary is connected; without one it sends nothing. A lost ring delays
an entry and never loses it: the periodic check of the primary visits every stream. Pushes and
replies are handled in the order of the link, which is that of the server.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from tidegate.core.arming import DispatchRole, Origin
from tidegate.core.clock import ServerClock
from tidegate.core.latency import EntryLatency
from tidegate.core.records import PUBLISHER
from tidegate.model.errors import StreamUnusable, TidegateError
from tidegate.model.ids import stream_id_ms
from tidegate.model.settings import Settings
from tidegate.redis import lua
from tidegate.redis.doorbell import Doorbell
from tidegate.redis.link import Link, pack
from tidegate.redis.names import Names
from tidegate.redis.replies import Trouble, is_dispatched, read_relay, trouble_of
from tidegate.redis.rounds import DueTimes
from tidegate.redis.subscription import StreamSubscription

log = structlog.get_logger(__name__)

#: What a link calls by their digests.
SCRIPTS = (lua.DISPATCH, lua.ATTACH, lua.READ_WHOLE, lua.DISARM)
RETRY_MIN_S, RETRY_MAX_S = 0.1, 2.0
#: Every fifth periodic check of a stream is a dispatch, once in 50 s. It is a read by this
#: replica's consumer, and an operator that finds no lease considers a consumer alive if it has read
#: within 60 s.
DISPATCH_EACH = 5
#: The dispatch lag is measured at most once in this time.
LAG_EVERY_S = 0.01


class Dispatcher:
    """Acts on the pushes of one primary's link."""

    def __init__(
        self,
        settings: Settings,
        names: Names,
        on_misplaced: Callable[[], None],
        on_asked: Callable[[StreamSubscription], None],
        on_evicted: Callable[[StreamSubscription], None],
        clock: ServerClock,
        lag: EntryLatency | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._names = names
        #: Called when a key, or the role of primary, is elsewhere now.
        self._on_misplaced = on_misplaced
        #: Called when a key has gone ahead of its slot, which still belongs here.
        self._on_asked = on_asked
        #: Called when the server has ended a stream's subscription.
        self._on_evicted = on_evicted
        self._clock = clock
        self._lag = lag
        #: Loop time from which on the lag is taken again.
        self._lag_due = 0.0
        self._due = DueTimes(self._loop, self._act)
        #: None while the primary is not connected.
        self.link: Link | None = None
        self.doorbell = Doorbell.TRACKING
        #: By key.
        self.watches: dict[bytes, StreamSubscription] = {}
        #: Streams whose dispatch is in flight, has left entries, or is to be retried.
        self._asked: set[StreamSubscription] = set()
        #: Not a `Counter`: adding to one takes four times as long, because it overrides
        #: `__delitem__`, and each entry adds five times.
        self.counts: defaultdict[str, int] = defaultdict(int)
        self._pod = settings.server.pod.encode()
        self._group = settings.redis.group.encode()
        self._asked_again_s = settings.redis.poll_interval_s
        self._traced = settings.tracing.exporter != "none"

    def is_current(self, watch: StreamSubscription) -> bool:
        """Whether this stream is still followed here, and by this watch."""
        return self.watches.get(watch.key) is watch

    def unlink(self) -> None:
        """The link is lost: forget it, and everything that was due."""
        self.link = None
        self._due.clear()
        self._asked.clear()

    # -- figures ---------------------------------------------------------------------------------

    @property
    def leading(self) -> int:
        """How many streams this replica dispatches. It iterates over all streams."""
        count, leading = 0, DispatchRole.LEADING
        for watch in self.watches.values():
            if watch.arming.role is leading:
                count += 1
        return count

    @property
    def undispatched(self) -> int:
        """How many entries are known to wait for a dispatch.

        It is read at each renewal of the lease, so it does not iterate over all streams: with
        20,000 of them that would block the event loop for 10 ms.
        """
        self._asked = {watch for watch in self._asked if self.is_current(watch)}
        return sum([watch.left or int(not watch.armed) for watch in self._asked])

    # -- asking ----------------------------------------------------------------------------------

    def dispatch(self, watch: StreamSubscription) -> None:
        """Look at the stream now."""
        if self.link is None or not watch.attached or watch.arming.in_flight:
            return
        watch.arming.sent()
        self._asked.add(watch)
        if self._traced:
            watch.asked_ns = time.time_ns()
        self.counts["dispatch_calls"] += 1
        self.link.send_together(watch.dispatch, partial(self._dispatched, watch))

    def _act(self, watch: StreamSubscription) -> None:
        """Its due time has come."""
        if not self.is_current(watch):
            return
        if watch.arming.only_arms:
            self.look(watch)
        else:
            self.dispatch(watch)

    def check(self, watch: StreamSubscription) -> None:
        """The periodic check of a stream."""
        watch.checks += 1
        if watch.checks % DISPATCH_EACH:
            self.look(watch)
        else:
            self.dispatch(watch)

    def look(self, watch: StreamSubscription) -> None:
        """Check whether there is something to dispatch, and dispatch then.

        The check is a read, which also arms the doorbell. It costs Redis a sixth of an empty
        dispatch (1.3 of 7.6 us).
        """
        if not watch.relayed or self.doorbell is Doorbell.POLL:
            self.dispatch(watch)
            return
        if self.link is None or not watch.attached or watch.arming.in_flight:
            return
        watch.arming.sent()
        self.counts["look_calls"] += 1
        packed = pack("XINFO", "GROUPS", watch.key)
        self.link.send_together(packed, partial(self._looked, watch))

    # -- pushes ----------------------------------------------------------------------------------

    def pushed(self, push: list[Any]) -> None:
        """The link has received a push."""
        kind = push[0]
        if kind == b"smessage":
            watch = self.watches.get(self._names.stream(push[1]))
            if watch is not None:
                self._relayed(watch, push[2])
        elif kind == b"invalidate":
            if push[1] is None:
                for watch in self.watches.values():
                    self._ring(watch)
                return
            for key in push[1]:
                watch = self.watches.get(key)
                if watch is not None:
                    self._ring(watch)
        elif kind == b"message":
            watch = self.watches.get(push[1].partition(b":")[2])
            if watch is not None and not push[2].startswith(b"xgroup"):
                self._ring(watch)
        elif kind == b"sunsubscribe":
            watch = self.watches.get(self._names.stream(push[1]))
            if watch is not None:
                self.counts["slots_moved"] += 1
                self._on_evicted(watch)

    def _ring(self, watch: StreamSubscription) -> None:
        self.counts["rings"] += 1
        watch.armed = False
        arming = watch.arming
        before = arming.due
        if arming.ring(self._loop.time()):
            self.dispatch(watch)
        elif arming.due is not before:
            self._due.add(watch)

    def _relayed(self, watch: StreamSubscription, payload: bytes) -> None:
        relay = read_relay(payload)
        if relay is None:
            # It may be in the format of a newer version: read the stream instead.
            self.counts["relay_unreadable"] += 1
            self.dispatch(watch)
            return
        own = relay.origin == self._pod
        published = relay.origin == PUBLISHER
        self.counts["relay_own" if own else "relay_foreign"] += 1
        if relay.unread:
            self.counts["relay_large"] += 1
            watch.relayed = relay.unread
            watch.is_far = True
        if relay.entries:
            watch.relayed = relay.entries[-1].id
            lag, link = self._lag, self.link
            if lag is not None and link is not None and link.alive_at >= self._lag_due:
                self._lag_due = link.alive_at + LAG_EVERY_S
                first_ms = stream_id_ms(relay.entries[0].id)
                lag.observe(self._clock, time.monotonic(), (first_ms,))
        now = self._loop.time()
        arming = watch.arming
        before = arming.due
        arming.relayed(
            now, Origin.SELF if own else Origin.PUBLISHER if published else Origin.REPLICA
        )
        if arming.due is not before:
            self._due.add(watch)
        if own and relay.by_attach:
            return  # the reply to the attach says the same, and may arrive before or after this
        if relay.created and not own and self.link is not None:
            # After a lost link, an existing consumer shows that this is still the same log.
            register = pack("XGROUP", "CREATECONSUMER", watch.key, self._group, self._pod)
            self.link.send(register, ignore)
        if own and watch.asked_ns:
            relay.asked_ns = watch.asked_ns
            watch.asked_ns = 0
        watch.listener.on_relay(relay)

    # -- replies ---------------------------------------------------------------------------------

    def _dispatched(self, watch: StreamSubscription, reply: Any) -> None:
        if isinstance(reply, Exception):
            watch.arming.answered(0)
            self.counts["dispatch_refused"] += 1
            if self.is_current(watch):
                self.refused(watch, reply, lambda: self.dispatch(watch))
            return
        found, newest, more = reply
        watch.arming.answered(found)
        watch.retry_s = 0.0
        watch.left = more
        watch.exists = bool(newest)
        armed, watch.armed = watch.armed, not more and self.doorbell is not Doorbell.POLL
        if found:
            self.counts["dispatch_found"] += 1
            self.counts["dispatched_entries"] += found
            if armed:  # a write before this dispatch should have rung: the server sends in order
                self.counts["rings_missed"] += 1
        else:
            self.counts["dispatch_empty"] += 1
            watch.relayed = newest  # the listener reads what it is missing
            if self.is_current(watch):
                watch.listener.on_seen(newest)
        if more:
            self.dispatch(watch)
        else:
            self._asked.discard(watch)

    def _looked(self, watch: StreamSubscription, reply: Any) -> None:
        watch.arming.answered(0)
        if isinstance(reply, TidegateError):
            return  # the link is lost; the next attach takes care
        if not is_dispatched(reply, self._group, watch.relayed):
            if self.is_current(watch):
                self.dispatch(watch)
            return
        watch.armed = True
        if self.is_current(watch):
            watch.listener.on_seen(watch.relayed)

    def refused(
        self, watch: StreamSubscription, error: Exception, again: Callable[[], None]
    ) -> None:
        """Handle an error reply to a command for this stream; `again` sends the command again."""
        if isinstance(error, TidegateError):
            return  # the link is lost; the next attach takes care
        trouble = trouble_of(error)
        self.counts[f"error_{trouble.name.lower()}"] += 1
        match trouble:
            case Trouble.NOT_A_STREAM:
                watch.listener.on_failed(
                    StreamUnusable(f"the key of operation {watch.operation} holds no stream")
                )
                return
            case Trouble.NO_SCRIPT:
                if self.link is not None:
                    for script in SCRIPTS:
                        self.link.send(pack("SCRIPT", "LOAD", script.text), ignore)
                    again()
                return
            case Trouble.DEMOTED:
                if self.link is not None:
                    self.link.abort()
                return
            case Trouble.MOVED:
                self._on_misplaced()
            case Trouble.ASK:
                self._on_asked(watch)
                self._later(watch, self._asked_again_s, again)
                return
            case Trouble.FORBIDDEN | Trouble.LATER:
                self.try_later(watch, error, again)
                return
        self._retry(watch, again)

    def try_later(
        self, watch: StreamSubscription, error: Exception, again: Callable[[], None]
    ) -> None:
        """Nothing is known that would help but time."""
        if watch.retry_s == 0.0:
            log.warning(
                "Redis refused a command", operation=watch.operation, error=str(error)[:200]
            )
        self._retry(watch, again)

    def _retry(self, watch: StreamSubscription, again: Callable[[], None]) -> None:
        watch.retry_s = min(max(2 * watch.retry_s, RETRY_MIN_S), RETRY_MAX_S)
        self._later(watch, watch.retry_s * random.uniform(0.5, 1.5), again)

    def _later(self, watch: StreamSubscription, delay_s: float, again: Callable[[], None]) -> None:
        self._loop.call_later(delay_s, self._again, watch, self.link, again)

    def _again(
        self, watch: StreamSubscription, link: Link | None, again: Callable[[], None]
    ) -> None:
        if link is self.link and self.is_current(watch):
            again()


def ignore(_reply: Any) -> None:
    """A reply that nothing depends on."""
