"""The sweep: over all streams of all primaries, one primary at a time, and again.

    connect --> streams --cursor 0--> pressure --> slots --cursor 0--> next primary, or the report
       ^__________________________ Redis lost: the same page again __________________________|

`tick` does one bounded piece: a page of SCAN, a look at each stream in it, and what has to be done
about them. It can be cancelled at any await; whatever it leaves is found again by the next tick,
since its place moves on only when a page is done with. Redis lost, a failover or a moved slot costs
a repeated page, or a repeated primary where another process answers: a SCAN cursor is worth nothing
there.

What is done on a page is in `streams` and `slots`; each command passes the `rate_limiter`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection

import structlog

from tidegate.core.backoff import Backoff
from tidegate.model.errors import RedisUnavailable
from tidegate.model.settings import RedisSettings
from tidegate.redis.batches import end_if_cancelled
from tidegate.redis.topology import Topology
from tidegate_operator.model.streams import Streams
from tidegate_operator.redis.leases import LeaseView
from tidegate_operator.redis.primary import PrimaryClient
from tidegate_operator.redis.rate_limiter import SweepRateLimiter
from tidegate_operator.redis.round import Progress, Round, SweepPhase
from tidegate_operator.redis.slots import SlotPages
from tidegate_operator.redis.streams import StreamPages
from tidegate_operator.streams.liveness import FRESH_MS
from tidegate_operator.streams.memory import reading_of
from tidegate_operator.streams.report import SweepReport

log = structlog.get_logger(__name__)

#: Delays while Redis is away; with their jitter up to 4.5 s.
BACKOFF_MIN_S, BACKOFF_MAX_S = 0.1, 3.0


class StreamSweeper:
    """Call `tick` again and again, from one task; `close` at the end.

    Args:
        topology: where the primaries are.
        settings: how to log in there.
        may_continue: the fence: whether this process may still change anything.
        kubernetes_pods: the names of all pods that exist, None when that is not known now. Left
            out: there is no Kubernetes, and who has no lease is dead.
        lease_s: the gateway's `slots.lease_s`.
        fresh_s: a consumer that read within this time is alive, whatever else is said.
        is_gone: the gateway was uninstalled: its pods are dead, and its groups go. A lease is a
            `GatewayRuns`.
        clock: seconds, only differences count.
    """

    def __init__(
        self,
        topology: Topology,
        settings: RedisSettings,
        *,
        may_continue: Callable[[], bool] = lambda: True,
        kubernetes_pods: Callable[[], Collection[str] | None] | None = None,
        lease_s: float = 15.0,
        fresh_s: float = FRESH_MS / 1000,
        is_gone: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._topology = topology
        self._settings = settings
        self._clock = clock
        self._limiter = SweepRateLimiter(may_continue, clock)
        #: Who lives, by the leases.
        self.leases = LeaseView(
            topology,
            kubernetes_pods=kubernetes_pods,
            reply_timeout_s=settings.reply_timeout_s,
            lease_s=lease_s,
            fresh_s=fresh_s,
            clock=clock,
            is_gone=is_gone,
        )
        self._is_gone = is_gone
        self._streams: Streams | None = None
        self._stream_pages = self._streams_of(Streams())
        self._slot_pages = self._slots_of(Streams())
        self._primary: PrimaryClient | None = None
        self._round: Round | None = None

    # -- what callers do ---------------------------------------------------------------------------

    async def tick(self, streams: Streams) -> SweepReport | None:
        """One bounded piece of work; the report when it ended a round.

        Args:
            streams: the spec. Another one than at the last tick holds from here on, with another
                prefix or group from the beginning of a round.

        Raises:
            RedisUnavailable: try again after a moment; the round goes on.
            Fenced: this process may not change anything now.
        """
        self._use(streams)
        if self._round is None:
            await self._drop()
            self._round = Round(self._clock())
        try:
            report = await self._advance(self._round, streams)
        except RedisUnavailable:
            self._round.interruptions += 1
            await self._drop()
            raise
        except asyncio.CancelledError:
            await self._drop()
            raise
        if report is not None:
            self._round = None
        end_if_cancelled()
        return report

    async def round(
        self,
        streams: Streams,
        *,
        patience_s: float = 60.0,
        on_tick: Callable[[], None] = lambda: None,
    ) -> SweepReport:
        """Ticks until a round is through; goes on after Redis was away. `on_tick` after each one.

        Raises:
            RedisUnavailable: it was away for `patience_s` at a stretch.
            Fenced: see `tick`.
        """
        backoff, away_since = Backoff(BACKOFF_MIN_S, BACKOFF_MAX_S), None
        while True:
            try:
                report = await self.tick(streams)
            except RedisUnavailable as error:
                now = self._clock()
                away_since = now if away_since is None else away_since
                wait_s = backoff.next_s()
                if now - away_since + wait_s > patience_s:
                    raise
                log.warning("sweep interrupted", reason=error.detail, retry_s=round(wait_s, 2))
                await asyncio.sleep(wait_s)
                continue
            backoff.reset()
            away_since = None
            on_tick()
            if report is not None:
                return report

    def forget(self) -> None:
        """The next tick begins a new round."""
        self._round = None

    def progress(self) -> Progress:
        """Where it is."""
        return (self._round or Round(0.0)).progress(len(self._topology.primaries()))

    async def close(self) -> None:
        """Close the connection; the topology is the caller's."""
        await self._drop()

    # -- a round -----------------------------------------------------------------------------------

    def _use(self, streams: Streams) -> None:
        before, self._streams = self._streams, streams
        if before is streams or before == streams:
            return
        self._stream_pages = self._streams_of(streams)
        self._slot_pages = self._slots_of(streams)
        self._limiter.set_pace(streams.pace)
        if before and (before.prefix, before.group) != (streams.prefix, streams.group):
            self._round = None

    def _streams_of(self, streams: Streams) -> StreamPages:
        return StreamPages(streams, self._limiter, self.leases, is_gone=self._is_gone)

    def _slots_of(self, streams: Streams) -> SlotPages:
        prefix = self._topology.names.slots_prefix
        return SlotPages(prefix, streams, self._limiter, self.leases)

    async def _advance(self, at: Round, streams: Streams) -> SweepReport | None:
        primary = self._primary or await self._connect(at, streams)
        if primary is None:
            return self._report(at, streams)
        before = primary.commands
        try:
            match at.phase:
                case SweepPhase.STREAMS:
                    if await self._stream_pages.page(at, primary):
                        at.phase = SweepPhase.PRESSURE
                case SweepPhase.PRESSURE:
                    await self._stream_pages.relieve(at, primary)
                    at.phase = SweepPhase.SLOTS
                case SweepPhase.SLOTS:
                    if await self._slot_pages.page(at, primary):
                        at.leave()
                        await self._drop()
        finally:
            at.commands += primary.commands - before
        if self._primary is None and not self._topology.primaries() - at.done:
            return self._report(at, streams)
        return None

    async def _connect(self, at: Round, streams: Streams) -> PrimaryClient | None:
        """The primary that it was at, or the next one; None when all are done."""
        await self._topology.refresh()
        todo = self._topology.primaries() - at.done
        if not todo:
            return None
        node = at.node if at.node in todo else min(todo, key=str)
        self._primary = primary = PrimaryClient(node, self._topology.address, self._settings)
        identity = await primary.identity()
        if not identity.is_primary:
            raise RedisUnavailable(f"{node} is a replica")
        at.began_at_ms = at.began_at_ms or await primary.now_ms()
        at.enter(node, identity.run_id)
        at.keys = identity.keys
        at.level = reading_of(identity.memory, streams.memory).level(streams.memory)
        at.commands += primary.commands
        return primary

    async def _drop(self) -> None:
        primary, self._primary = self._primary, None
        if primary is not None:
            await primary.close()

    def _report(self, at: Round, streams: Streams) -> SweepReport:
        return at.report(self._clock() - at.began, dry_run=streams.dry_run)
