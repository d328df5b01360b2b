"""The figures of a replica: readiness, the values of the metrics, and `/debug/state`."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tidegate import __version__
from tidegate.core.histogram import Histogram
from tidegate.core.recent import RecentQuantiles
from tidegate.core.survey import DrainProgress, ReportedFigures, clean
from tidegate.gateway.hub import Hub
from tidegate.model.settings import Settings
from tidegate.redis.feed import RedisFeed
from tidegate.redis.log import RedisLog
from tidegate.redis.pods import LeaseFigures, Pods
from tidegate.redis.primary import PrimaryStats
from tidegate.redis.rights import Rights
from tidegate.redis.slots import RedisSlots
from tidegate.runtime.drainer import Drainer
from tidegate.runtime.memory_guard import MemoryGuard
from tidegate.telemetry.connections import Connections
from tidegate.telemetry.gc_pauses import GcPauses
from tidegate.telemetry.loop_lag import LoopLag
from tidegate.telemetry.metric_table import Value
from tidegate.telemetry.metrics import REDIS_EVENTS, Numbers
from tidegate.web.access.cancels import CancelService
from tidegate.web.access.limits import ConnectionLimiter
from tidegate.web.access.sessions import Admission
from tidegate.web.admin.app import Readiness
from tidegate.web.server.port import Port

#: A replica stays ready for so long without Redis: its viewers stay connected, the other replicas
#: have lost the same Redis, and a reconnect takes less (`redis.backoff_max_s`, once and a half).
RECONNECT_GRACE_S = 5.0


class _Told(NamedTuple):
    """Totals at the time of the last figures."""

    at: float
    deliveries: int
    lag_s: float
    ticks: int


class MetricsReport:
    """Reads the parts and changes nothing of them."""

    def __init__(
        self,
        settings: Settings,
        *,
        rights: Rights,
        hub: Hub,
        feed: RedisFeed,
        log: RedisLog,
        limiter: ConnectionLimiter,
        ports: Mapping[str, Port],
        admission: Admission,
        cancels: CancelService,
        pods: Pods,
        slots: RedisSlots,
        drainer: Drainer,
        memory: MemoryGuard,
        records: Connections,
        spans_dropped: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._rights = rights
        self._hub = hub
        self._feed = feed
        self._log = log
        self._limiter = limiter
        self._ports = ports
        self._admission = admission
        self._cancels = cancels
        self._pods = pods
        self._slots = slots
        self._drainer = drainer
        self._memory = memory
        self._records = records
        self._spans_dropped = spans_dropped
        self._loop_lag = LoopLag()
        self._gc_pauses = GcPauses()
        self._started = time.monotonic()
        self._told = _Told(self._started, 0, 0.0, 0)
        self._undispatched = 0
        latency = hub.counters.latency.histogram
        self._recent_lag = RecentQuantiles(self._loop_lag.histogram, self._started)
        self._recent_latency = RecentQuantiles(latency, self._started)
        self._stopping_since: float | None = None

    def start(self) -> None:
        """Measure what only shows over time; the lag of the loop also for the operator."""
        self._loop_lag.start()
        if self._settings.metrics.enabled:
            self._gc_pauses.start()

    def stop(self) -> None:
        """Measure no more."""
        self._loop_lag.stop()
        self._gc_pauses.stop()

    def stopping(self) -> None:
        """The replica is leaving, from now on."""
        self._stopping_since = time.monotonic()

    def readiness(self) -> Readiness:
        """Whether viewers may be sent here."""
        if self._stopping_since is not None:
            return Readiness(ready=False, reason="stopping")
        if self._feed.away_s > RECONNECT_GRACE_S:
            return Readiness(ready=False, reason="redis is not connected")
        fault = self._rights.fault
        if fault is None:
            return Readiness(ready=True, reason="serving")
        return Readiness(ready=self._rights.once_complete, reason=fault)

    def numbers(self) -> Numbers:
        """The values of the metrics, by name."""
        return {
            **self._of_connections(),
            **self._of_viewers(),
            **self._of_links(self._feed.stats()),
            **self._of_slots(),
            **self._of_the_replica(),
        }

    def _of_connections(self) -> Numbers:
        records = self._records
        return {
            "tidegate_connections": records.open,
            "tidegate_connections_limit": self._settings.replica.max_connections,
            "tidegate_sockets": {name: port.open for name, port in self._ports.items()},
            "tidegate_connections_opened_total": records.opened,
            "tidegate_refusals_total": self._refusals(),
            "tidegate_closes_total": records.ends,
            "tidegate_cancels_total": self._cancels.counts,
            "tidegate_authenticated_connections": len(self._admission),
        }

    def _refusals(self) -> Counter[str]:
        """By code; those of the admin port together: they are no viewers', and should be none."""
        refusals = self._limiter.refusals + self._admission.refusals
        refusals["admin_port"] = self._ports["admin"].refusals.total()
        return +refusals

    def _of_viewers(self) -> Numbers:
        hub, totals, acks = self._hub.stats(), self._hub.counters, self._hub.acks
        latency = totals.latency
        return {
            "tidegate_operations": hub.operations,
            "tidegate_viewers": {
                "live": hub.live,
                "lagging": hub.lagging,
                "catching_up": hub.catching_up,
            },
            "tidegate_joins_total": totals.joins,
            "tidegate_viewers_lagged_total": {
                self._settings.viewer.lagging_policy: totals.lagged,
            },
            "tidegate_skipped_entries_total": totals.skipped,
            "tidegate_replay_entries": {
                "join": totals.replay_at_join,
                "catch_up": totals.replay_to_catch_up,
            },
            "tidegate_replayed_entries_total": totals.replayed_entries,
            "tidegate_log_pages_total": self._log.pages,
            "tidegate_ring_bytes": hub.ring_bytes,
            "tidegate_entries_total": totals.entries,
            "tidegate_deliveries_total": totals.deliveries,
            "tidegate_delivered_bytes_total": totals.bytes_sent,
            "tidegate_publish_to_socket_seconds": latency.histogram,
            "tidegate_publish_to_viewer_seconds": acks.latency.histogram,
            "tidegate_latency_unmeasured_total": {
                "no_clock": latency.no_clock,
                "not_a_time": latency.not_a_time,
            },
            "tidegate_acks_total": acks.counts,
            "tidegate_gap_frames_total": {
                reason.value: count for reason, count in totals.gaps.items()
            },
            "tidegate_malformed_entries_total": totals.malformed,
            "tidegate_outbox_items": hub.outbox_items,
        }

    def _of_links(self, links: list[PrimaryStats]) -> Numbers:
        counts: Counter[str] = Counter()
        for link in links:
            counts.update(link.counts)
        return {**self._of_dispatch(counts), **self._of_redis(links, counts)}

    def _of_dispatch(self, counts: Counter[str]) -> Numbers:
        totals = self._hub.counters
        return {
            "tidegate_dispatch_calls_total": {
                "entries": counts["dispatch_found"],
                "empty": counts["dispatch_empty"],
                "refused": counts["dispatch_refused"],
            },
            "tidegate_dispatched_entries_total": counts["dispatched_entries"],
            "tidegate_dispatch_lag_seconds": self._feed.dispatch_lag.histogram,
            "tidegate_undispatched_entries": self.undispatched(),
            "tidegate_doorbell_rings_total": counts["rings"],
            "tidegate_doorbell_missed_total": counts["rings_missed"],
            "tidegate_relay_messages_total": {
                "own": counts["relay_own"],
                "foreign": counts["relay_foreign"],
                "unreadable": counts["relay_unreadable"],
            },
            "tidegate_repairs_total": {
                cause.value: count for cause, count in totals.repairs.items()
            },
            "tidegate_repaired_entries_total": totals.repaired_entries,
        }

    def _of_redis(self, links: list[PrimaryStats], counts: Counter[str]) -> Numbers:
        known = [link for link in links if link.clock_offset_s is not None]
        return {
            "tidegate_redis_connected": {link.node: int(link.connected) for link in links},
            "tidegate_redis_refused_commands": {
                one.area: len(one.commands) for one in self._rights.refused
            },
            "tidegate_redis_doorbell": Counter(link.doorbell for link in links if link.connected),
            "tidegate_redis_round_trip_seconds": self._feed.round_trips(),
            "tidegate_redis_clock_offset_seconds": {
                link.node: link.clock_offset_s or 0.0 for link in known
            },
            "tidegate_redis_clock_error_seconds": {link.node: link.clock_error_s for link in known},
            "tidegate_redis_streams_leading": sum(link.leading for link in links),
            "tidegate_redis_attach_backlog": sum(link.attach_backlog for link in links),
            "tidegate_redis_events_total": {event: counts[event] for event in REDIS_EVENTS},
        }

    def _of_slots(self) -> Numbers:
        slots, lease = self._slots.stats(), self._pods.stats()
        return {
            "tidegate_slots_held": slots.connections,
            "tidegate_slots_unsettled": slots.unsettled,
            "tidegate_slot_events_total": slots.counts,
            "tidegate_slot_use_ratio": self._slots.use,
            "tidegate_lease_held": int(lease.held),
            "tidegate_lease_renewals_total": {
                "renewed": lease.counts.get("renewals", 0) - lease.counts.get("lapses", 0),
                "failed": lease.counts.get("failures", 0),
                "lapsed": lease.counts.get("lapses", 0),
            },
            "tidegate_pods": lease.pods,
        }

    def _of_the_replica(self) -> Numbers:
        drain, began = self._settings.drain, self._stopping_since
        return {
            "tidegate_workers": 1,
            "tidegate_worker_restarts_total": 0,  # counted by the supervisor
            "tidegate_ready": int(self.readiness().ready),
            "tidegate_draining": int(began is not None),
            "tidegate_drain_elapsed_seconds": 0.0 if began is None else time.monotonic() - began,
            "tidegate_drain_window_seconds": drain.delay_s + drain.window_s,
            "tidegate_moved_connections_total": self._drainer.moved,
            "tidegate_loop_lag_seconds": self._loop_lag.histogram,
            "tidegate_gc_pause_seconds": self._gc_pauses.by_generation(),
            "tidegate_memory_used_bytes": self._memory.used_bytes,
            "tidegate_memory_limit_bytes": self._memory.limit_bytes,
            "tidegate_spans_dropped_total": self._spans_dropped(),
            "tidegate_build_info": {__version__: 1},
        }

    def undispatched(self) -> int:
        """Entries known to wait for dispatch."""
        return self._feed.undispatched

    def figures(self) -> LeaseFigures:
        """What the operator is told; rates are since the last call."""
        now, lag = time.monotonic(), self._loop_lag.histogram
        before = self._told
        self._told = told = _Told(now, self._hub.counters.deliveries, lag.sum, lag.count)
        ticks = told.ticks - before.ticks
        self._recent_lag.turn(now)
        self._recent_latency.turn(now)
        self._undispatched = self.undispatched()
        return LeaseFigures(
            connections=len(self._limiter),
            deliveries_per_s=(told.deliveries - before.deliveries) / max(now - before.at, 1e-3),
            loop_lag_ms=1000 * (told.lag_s - before.lag_s) / ticks if ticks else 0.0,
            undispatched=self._undispatched,
            ready=self.readiness().ready,
        )

    def describe(self) -> ReportedFigures:
        """What other replicas are told when they ask. It costs the same for any number of
        operations: what would have to be counted is as old as the lease's last renewal.
        """
        ready, totals = self.readiness(), self._hub.counters
        return ReportedFigures(
            version=__version__,
            uptime_s=time.monotonic() - self._started,
            ready=ready.ready,
            reason=clean(ready.reason, 500),
            connections=len(self._limiter),
            connections_max=self._settings.replica.max_connections,
            users=self._admission.users,
            entries=totals.entries,
            deliveries=totals.deliveries,
            gaps=totals.gaps.total(),
            undispatched=self._undispatched,
            loop_lag_p99_s=self._recent_lag.quantile(0.99),
            delivery_p99_s=self._recent_latency.quantile(0.99),
            redis_connected=self._feed.is_connected,
            drain=self._drain(),
        )

    def _drain(self) -> DrainProgress | None:
        if self._stopping_since is None:
            return None
        drain = self._settings.drain
        return DrainProgress(
            elapsed_s=time.monotonic() - self._stopping_since,
            window_s=drain.delay_s + drain.window_s,
            moved=self._drainer.moved["drain"],
        )

    def state(self) -> dict[str, Any]:
        """For people: no ids of users or operations, no tokens."""
        return {
            "pod": self._settings.server.pod,
            "pid": os.getpid(),
            "version": __version__,
            "uptime_s": round(time.monotonic() - self._started, 3),
            "readiness": self.readiness()._asdict(),
            "redis": {
                "deployment": self._feed.deployment.value,
                "primaries": [link._asdict() for link in self._feed.stats()],
            },
            "pod_lease": self._pods.stats()._asdict(),
            "slots": self._slots.stats()._asdict(),
            "memory": {
                "level": self._memory.level.name.lower(),
                "used_bytes": self._memory.used_bytes,
                "limit_bytes": self._memory.limit_bytes,
            },
            "numbers": {name: _plain(value) for name, value in self.numbers().items()},
        }


def _plain(value: Value | Mapping[str, Value]) -> Any:
    """For JSON."""
    if isinstance(value, Histogram):
        return value.summary()
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return value
