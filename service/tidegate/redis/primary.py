"""One Redis primary: its connection, kept up, and the streams followed over it.

    connecting --hello, doorbell--> following --link lost--> waiting --> connecting

Each link attaches all streams again (`attach_queue`); what its pushes and replies lead to is
`dispatcher`'s. Here are the heartbeat, the server's clock, and the sweep: every stream is looked at
once in `dispatch.sweep_s`, so a lost ring delays an entry and never loses it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import hiredis
import structlog

from tidegate.core.backoff import Backoff
from tidegate.core.bounds import LATENCY_S
from tidegate.core.clock import ServerClock
from tidegate.core.histogram import Histogram
from tidegate.core.latency import EntryLatency
from tidegate.core.ports import Cork
from tidegate.model.errors import RedisUnavailable, RedisUnsupported, TidegateError
from tidegate.model.ids import StreamId
from tidegate.model.settings import Settings
from tidegate.redis.address import Address, Node
from tidegate.redis.attach_queue import AttachQueue
from tidegate.redis.buffer_cuts import ASK, ClientCounts, Verdict, judge, read_census, take_census
from tidegate.redis.dispatcher import SCRIPTS, Dispatcher, ignore
from tidegate.redis.doorbell import Doorbell, Prober
from tidegate.redis.in_flight import STEADY_S, InFlight
from tidegate.redis.link import Link, connect, pack
from tidegate.redis.log import RedisLog
from tidegate.redis.names import Names
from tidegate.redis.pages import PageReads
from tidegate.redis.replies import Trouble, trouble_of
from tidegate.redis.rounds import PeriodicCheck
from tidegate.redis.subscription import StreamSubscription
from tidegate.redis.version import check_version

log = structlog.get_logger(__name__)

#: The sweep looks at so many streams at a time, as often as it takes between these bounds: 200 at
#: once, ten times a second, held up the entries behind them (20,000 streams with 2,000 entries/s:
#: p99 2.6 ms; with 10 at once 0.6 ms).
SWEEP_AT_ONCE = 10
SWEEP_TICK_MIN_S, SWEEP_TICK_MAX_S = 0.004, 0.1
#: Looks per second at the most without a doorbell: about 5 % of one core of Redis.
POLL_MAX_PER_S = 4000.0
#: Between two questions for the server's time. Drift within it is 15 us at the most.
CLOCK_EVERY_S = 1.0


class PrimaryStats(NamedTuple):
    """What a primary's link is doing; counters only grow.

    Attributes:
        undispatched: entries known to wait.
        clock_offset_s: the server's clock minus this machine's; None while it is not known.
        clock_error_s: bound of its error.
    """

    node: str
    connected: bool
    doorbell: str
    watches: int
    leading: int
    attach_backlog: int
    undispatched: int
    clock_offset_s: float | None
    clock_error_s: float
    counts: dict[str, int]


class Primary:
    """Follows streams on one server. `run` keeps it connected until cancelled."""

    def __init__(
        self,
        node: Node,
        address: Address,
        settings: Settings,
        on_misplaced: Callable[[], None],
        on_asked: Callable[[StreamSubscription], None],
        turn: Cork,
        log: RedisLog,
        dispatch_lag: EntryLatency | None,
        away_since: float,
    ) -> None:
        """The callbacks are `Dispatcher`'s.

        Args:
            log: for pages that are too large for the link.
            away_since: loop time since when the keys of this primary are not followed.
        """
        self.node = node
        self._address = address
        self._settings = settings
        self._on_misplaced = on_misplaced
        self._turn = turn
        self._loop = asyncio.get_running_loop()
        self._lost = asyncio.Event()
        #: Of the server, by whose clock the ids of its streams are made.
        self.clock = ServerClock()
        self.round_trip = Histogram(LATENCY_S)
        self._clock_asked = 0.0
        self._names = names = Names.of(address, settings.redis)
        self.dispatcher = Dispatcher(
            settings, names, on_misplaced, on_asked, self._evicted, self.clock, dispatch_lag
        )
        self._sweep = PeriodicCheck()
        self._in_flight = InFlight()
        self._pages = PageReads(self.dispatcher, log, self._in_flight, settings, self._gone)
        self._attaches = AttachQueue(
            *(self.dispatcher, self._pages, self._in_flight, settings, address.db, self._sweep.add)
        )
        self._last_error: str | None = None
        #: Of the server, while the link was up.
        self._census = ClientCounts()
        self._lost_link: Link | None = None
        #: Loop time since when there is no link; None while there is.
        self._away_since: float | None = away_since

    # -- what the feed asks ----------------------------------------------------------------------

    def add(self, watch: StreamSubscription) -> None:
        """Follow this stream from now on."""
        watch.reset()
        self.dispatcher.watches[watch.key] = watch
        if self.is_connected:
            self._attaches.soon(watch)

    def remove(self, watch: StreamSubscription, *, leave: bool) -> None:
        """Follow it no longer. `leave`: nothing depends on this replica's consumer any more."""
        link = self.dispatcher.link
        if self.dispatcher.watches.pop(watch.key, None) is not None and link is not None:
            self._attaches.release(link, watch, leave=leave)

    def read(self, watch: StreamSubscription, after: StreamId) -> None:
        """Read a page above `after`; it goes to the listener in order with the relay."""
        self._pages.read(watch, after)

    async def settled(self) -> None:
        """Until the server has answered everything sent so far, or the link is lost."""
        link = self.dispatcher.link
        if link is not None:
            try:
                async with asyncio.timeout(self._settings.redis.reply_timeout_s):
                    await link.call("PING")
            except (TimeoutError, RedisUnavailable):
                pass

    @property
    def is_connected(self) -> bool:
        """Whether the link is up."""
        return self.dispatcher.link is not None

    @property
    def away_s(self) -> float:
        """For how long there is no link; 0 while there is."""
        return 0.0 if self._away_since is None else self._loop.time() - self._away_since

    @property
    def undispatched(self) -> int:
        """How many entries are known to wait for a dispatch."""
        return self.dispatcher.undispatched

    @property
    def watches(self) -> tuple[StreamSubscription, ...]:
        """The streams followed here."""
        return tuple(self.dispatcher.watches.values())

    def stats(self) -> PrimaryStats:
        """The current figures. It iterates over all streams, so it is for scrapes and requests."""
        offset_s = self.clock.offset_s
        now = time.monotonic()
        return PrimaryStats(
            str(self.node),
            self.is_connected,
            self.dispatcher.doorbell.value,
            len(self.dispatcher.watches),
            self.dispatcher.leading,
            len(self._attaches),
            self.dispatcher.undispatched,
            None if offset_s is None else offset_s + now - time.time(),
            self.clock.error_s(now),
            dict(self.dispatcher.counts),
        )

    # -- the connection --------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect, follow, and connect again, until cancelled."""
        async with asyncio.TaskGroup() as self._pages.tasks:
            await self._keep_up()

    async def _keep_up(self) -> None:
        redis = self._settings.redis
        backoff = Backoff(redis.backoff_min_s, redis.backoff_max_s)
        while True:
            try:
                link = await self._connect()
            except (OSError, TimeoutError, hiredis.HiredisError, RedisUnavailable) as error:
                self._refused(str(error) or type(error).__name__)
            except RedisUnsupported as error:
                self._refused(str(error))
                backoff.exhaust()
            else:
                came_up = self._loop.time()
                try:
                    await self._follow(link)
                finally:
                    self._detach(link)
                lived_s = self._loop.time() - came_up
                if lived_s < STEADY_S:
                    self._in_flight.ask_less()
                else:
                    backoff.reset()
                log.warning(
                    "Redis connection lost",
                    node=str(self.node),
                    streams=len(self.dispatcher.watches),
                    lived_s=round(lived_s, 3),
                    ended_by="redis or the network" if link.ended_by_peer else "this replica",
                    reply_unfinished=link.cut_off,
                )
            # A demoted or dead primary: someone else may have its keys by now.
            self._on_misplaced()
            await asyncio.sleep(backoff.next_s())

    def _refused(self, reason: str) -> None:
        if reason != self._last_error:
            log.warning("cannot connect to Redis", node=str(self.node), reason=reason)
        self._last_error = reason
        self.dispatcher.counts["connect_failures"] += 1

    async def _connect(self) -> Link:
        prober = Prober(self._address.db)
        self._lost = asyncio.Event()
        async with asyncio.timeout(self._settings.redis.connect_timeout_s):
            link, greeting = await connect(
                self.node,
                self._address,
                prober.on_push,
                self._lost.set,
                self._turn,
                pace_s=self._settings.dispatch.pace_s,
            )
            try:
                await self._prepare(link, greeting, prober)
            except BaseException:
                link.abort()
                raise
        link.on_push = self.dispatcher.pushed
        return link

    async def _prepare(self, link: Link, greeting: dict[bytes, Any], prober: Prober) -> None:
        await check_version(link, greeting)
        if greeting.get(b"role", b"master") not in (b"master", b"primary"):
            raise RedisUnavailable("this server is a replica")
        await link.call("CLIENT", "SETNAME", f"tidegate:{self._settings.server.pod}")
        await self._may_listen(link)
        self.dispatcher.doorbell = await prober.choose(link, self._settings.redis.doorbell)
        for script in SCRIPTS:
            await link.call("SCRIPT", "LOAD", script.text)
        self._judge(await take_census(link))

    def _judge(self, census: ClientCounts) -> None:
        """What has ended the link before, now that its server has been asked."""
        before, self._census = self._census, census
        lost, self._lost_link = self._lost_link, None
        verdict = Verdict.NO if lost is None else judge(before, census, lost)
        if verdict is Verdict.NO:
            return
        self.dispatcher.counts["buffer_cuts"] += 1
        self._in_flight.ask_less()
        log.warning(
            "Redis closed the connection for its output buffer limit",
            node=str(self.node),
            evidence=verdict.value,
            asks_for_bytes=self._in_flight.limit_bytes,
            advice="if this persists, raise client-output-buffer-limit pubsub on the server",
        )

    async def _may_listen(self, link: Link) -> None:
        """Without the relay nothing would arrive. Raises RedisUnavailable."""
        stream = f"{self._settings.redis.key_prefix}rights-{secrets.token_hex(8)}"
        channel = self._names.relay(stream.encode())
        try:
            await link.subscribed("SSUBSCRIBE", channel)
        except hiredis.ReplyError as error:  # in a Cluster it may live elsewhere
            if trouble_of(error) is Trouble.FORBIDDEN:
                text = f"the Redis ACL does not permit SSUBSCRIBE to {channel.decode()}: {error}"
                raise RedisUnavailable(text) from None
        else:
            link.unsubscribe("SUNSUBSCRIBE", channel)

    async def _follow(self, link: Link) -> None:
        """Until the link is lost."""
        self._last_error = None
        self._away_since = None
        steady_since = self._loop.time()
        link.at_once = self._in_flight.dispatches
        self.dispatcher.link = link
        self.dispatcher.counts["connects"] += 1
        log.info(
            "Redis connection established",
            node=str(self.node),
            doorbell=self.dispatcher.doorbell.value,
        )
        self._ask_time(link)
        for watch in self.dispatcher.watches.values():
            self._attaches.soon(watch)
        redis = self._settings.redis
        while not self._lost.is_set():
            looks_per_s = self._looks_per_s()
            tick_s = SWEEP_TICK_MAX_S
            if looks_per_s * tick_s > SWEEP_AT_ONCE:
                tick_s = max(SWEEP_TICK_MIN_S, SWEEP_AT_ONCE / looks_per_s)
            try:
                async with asyncio.timeout(tick_s):
                    await self._lost.wait()
            except TimeoutError:
                pass
            now = self._loop.time()
            if link.is_overdue(redis.reply_timeout_s):
                self.dispatcher.counts["reply_timeouts"] += 1
                return
            if not link.is_waiting and now - link.alive_at > redis.heartbeat_s:
                link.send(pack("PING"), ignore)
            if now - self._clock_asked >= CLOCK_EVERY_S:
                self._ask_time(link)
            if now - steady_since >= STEADY_S:
                steady_since = now
                self._in_flight.ask_more()
                link.at_once = self._in_flight.dispatches
                link.send(ASK, self._counted)
            for watch in self._sweep.turn(looks_per_s * tick_s, self.dispatcher.is_current):
                self.dispatcher.check(watch)

    def _counted(self, reply: Any) -> None:
        if not isinstance(reply, TidegateError):  # else the link is lost
            self._census = read_census(reply)

    def _ask_time(self, link: Link) -> None:
        self._clock_asked = self._loop.time()
        sent = time.monotonic()

        def answered(reply: Any) -> None:
            if isinstance(reply, TidegateError):
                return  # the link is lost
            received = time.monotonic()
            self.round_trip.observe(received - sent)
            if not isinstance(reply, Exception):  # one that may not ask still gets an answer
                seconds, micros = reply
                self.clock.answered(sent, received, int(seconds) + int(micros) / 1e6)

        link.send(pack("TIME"), answered)

    def _looks_per_s(self) -> float:
        """How many streams to look at without being told: the sweep, or the poll in its stead."""
        if self.dispatcher.doorbell is Doorbell.POLL:
            return min(
                len(self.dispatcher.watches) / self._settings.redis.poll_interval_s, POLL_MAX_PER_S
            )
        return len(self.dispatcher.watches) / self._settings.dispatch.sweep_s

    def _detach(self, link: Link) -> None:
        self._lost_link = link
        self._away_since = self._loop.time()
        self.dispatcher.unlink()
        self.clock.forget()
        self._attaches.clear()
        self._pages.clear()
        self._sweep.clear()
        for watch in self.dispatcher.watches.values():
            watch.reset()
            watch.listener.on_detached()
        link.abort()

    def _gone(self, watch: StreamSubscription) -> None:
        watch.attached = False
        self._attaches.soon(watch)

    def _evicted(self, watch: StreamSubscription) -> None:
        self._on_misplaced()
        self._attaches.evicted(watch)
