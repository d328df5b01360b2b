"""The loop that sweeps for one Gateway: tick, tick, ..., report, and a pause of the interval.

It works by the spec and the look that `know` was given last, and remembers the last report.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from tidegate.core.backoff import Backoff
from tidegate.model.errors import RedisUnavailable, TidegateError
from tidegate_operator.loops.conditions import SweepState
from tidegate_operator.loops.loop_health import BEAT_S, LoopHealth
from tidegate_operator.model.gateway import GatewaySpec
from tidegate_operator.model.streams import Pace
from tidegate_operator.observe.observer import ClusterSnapshot
from tidegate_operator.observe.redis_connection import RedisConnection
from tidegate_operator.redis.looking import LOOK_COST, SCRIPT_COST
from tidegate_operator.redis.rate_limiter import Fenced
from tidegate_operator.redis.sweep import StreamSweeper
from tidegate_operator.streams.report import SweepReport

log = structlog.get_logger(__name__)

#: What Kubernetes told of the pods is believed for so long.
PODS_BELIEVED_S = 30.0
#: A count of the last sweep is a figure for scaling for so many turns: a round and its interval.
#: With less, a long round would leave scaling without the figure most of the time.
COUNT_BELIEVED_TURNS = 2.0
#: Delays after a failure; with their jitter up to 15 s.
BACKOFF_MIN_S, BACKOFF_MAX_S = 0.5, 10.0
#: A new leader sweeps soon, but not at once: it may not be the only thing that has just begun.
FIRST_SWEEP_S = (1.0, 5.0)


class SweepLoop:
    """`run` until cancelled."""

    def __init__(
        self,
        gateway: str,
        health: LoopHealth,
        *,
        may_continue: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self.name = f"sweep/{gateway}"
        self._gateway = gateway
        self._health = health
        self._may_continue = may_continue
        self._clock = clock
        self._changed = asyncio.Event()
        self._spec: GatewaySpec | None = None
        self._snapshot: ClusterSnapshot | None = None
        self._snapshot_at = float("-inf")
        self.state = SweepState(datetime.now(UTC))
        self.ended_at = float("-inf")
        self.expired: Counter[str] = Counter()
        self.changes: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    def know(self, spec: GatewaySpec | None) -> None:
        """What is to be done; None: that cannot be read."""
        self._spec = spec
        self._changed.set()

    def take(self, snapshot: ClusterSnapshot | None) -> None:
        """The last look: the connection to Redis, and the pods that exist; None: there is none."""
        self._snapshot = snapshot
        if snapshot is not None:
            self._snapshot_at = self._clock()
        self._changed.set()

    def undispatched(self, spec: GatewaySpec) -> int | None:
        """What the last sweep counted, as long as it is worth something."""
        report = self.state.report
        if report is None:
            return None
        turn_s = spec.streams.pace.interval_s + report.seconds
        if self._clock() - self.ended_at > COUNT_BELIEVED_TURNS * turn_s:
            return None
        return report.tally.undispatched

    async def run(self) -> None:
        """Sweeps, one after the other, while there is something to sweep; until cancelled."""
        sweep: StreamSweeper | None = None
        of: RedisConnection | None = None
        backoff = Backoff(BACKOFF_MIN_S, BACKOFF_MAX_S)
        next_s = self._clock() + random.uniform(*FIRST_SWEEP_S)
        try:
            while True:
                connection = None if self._snapshot is None else self._snapshot.connection
                spec = self._spec
                if spec is None or connection is None or not spec.streams.enabled:
                    await self._health.wait(self.name, self._changed)
                    continue
                if sweep is None or connection is not of:
                    if sweep is not None:
                        await sweep.close()
                    sweep, of = self._new_sweep(connection), connection
                if (left_s := next_s - self._clock()) > 0:
                    self._health.beat(self.name)
                    await asyncio.sleep(min(left_s, BEAT_S))
                    continue
                try:
                    with self._health.round(self.name, allow_s=tick_s(spec.streams.pace)) as told:
                        report, told.error = await self._tick(sweep, spec)
                except Fenced:
                    next_s = self._clock() + BEAT_S  # as above
                    continue
                if told.error:
                    next_s = self._clock() + backoff.next_s()
                else:
                    backoff.reset()
                if report is not None:
                    self._swept(report)
                    # Longer, never shorter, so that many gateways drift apart.
                    next_s = self._clock() + spec.streams.pace.interval_s * random.uniform(1, 1.05)
        finally:
            if sweep is not None:
                await sweep.close()

    async def _tick(
        self, sweep: StreamSweeper, spec: GatewaySpec
    ) -> tuple[SweepReport | None, str]:
        try:
            report = await sweep.tick(spec.streams)
        except Fenced:
            raise
        except TidegateError as error:
            kind = "" if isinstance(error, RedisUnavailable) else f"{type(error).__name__}: "
            text = kind + (str(error) or type(error).__name__)
            if text != self.state.error:
                reason = error.detail if isinstance(error, RedisUnavailable) else text
                log.warning("sweep interrupted", gateway=self._gateway, reason=reason)
            self.state = replace(self.state, error=text)
            return None, text
        except Exception as error:
            log.exception("sweep failed", gateway=self._gateway)
            self.state = replace(self.state, error=type(error).__name__)
            return None, type(error).__name__
        self.state = replace(self.state, error="", moved=datetime.now(UTC))
        return report, ""

    def _swept(self, report: SweepReport) -> None:
        self.state = replace(self.state, report=report, ended=datetime.now(UTC), error="")
        self.ended_at = self._clock()
        tally = report.tally
        if not report.dry_run:
            for state, number in tally.expiring.items():
                self.expired[state.value] += number
            self.changes += tally.done
        self.skipped += tally.left
        self.counts["commands"] += report.commands
        self.counts["interruptions"] += report.interruptions
        log.info(
            "swept",
            gateway=self._gateway,
            streams=report.streams,
            seconds=round(report.seconds, 1),
            expiring=report.expiring,
            dry_run=report.dry_run,
            **{name: number for name, number in sorted(tally.done.items()) if number},
        )

    def _new_sweep(self, connection: RedisConnection) -> StreamSweeper:
        return StreamSweeper(
            connection.topology,
            connection.settings.redis,
            may_continue=self._may_continue,
            kubernetes_pods=self._pods,
            lease_s=connection.settings.slots.lease_s,
        )

    def _pods(self) -> frozenset[str] | None:
        """The names of all pods that exist, as the last look told; None when that is too old."""
        if self._snapshot is None or self._clock() - self._snapshot_at > PODS_BELIEVED_S:
            return None
        return frozenset(self._snapshot.pods)


def tick_s(pace: Pace) -> float:
    """How long one tick may take by its pace: a page of keys, each looked at and changed.

    SCAN's COUNT is a hint, so a page may be twice as long; a key takes four changes at the most.
    """
    keys = 2 * pace.scan_count
    commands = keys * (LOOK_COST + 4 * SCRIPT_COST) + pace.scan_count
    return commands / pace.commands_per_s + 4 * keys / pace.changes_per_s
