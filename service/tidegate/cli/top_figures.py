"""What lies between two readings of ``tidegate top``: rates and quantiles.

Nothing is guessed: what two samples cannot tell, after a restart or at the first look, is None.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

from tidegate.cli.top_samples import LATENCY, LOOP_LAG, ReplicaSample
from tidegate.model.operation_order import OperationOrder


def per_s(before: ReplicaSample | None, now: ReplicaSample, metric: str) -> float | None:
    """Increase per second of a counter; None when it cannot be told."""
    if before is None or not before.values or now.at_s <= before.at_s:
        return None
    grown = now.total(metric) - before.total(metric)
    return grown / (now.at_s - before.at_s) if grown >= 0 else None  # less: it has started again


def quantile(
    q: float, before: ReplicaSample | None, now: ReplicaSample, histogram: str
) -> float | None:
    """Of what was observed between two samples, as Prometheus' `histogram_quantile` has it.

    It interpolates within the bucket; in the last one it answers the highest bound. None: nothing
    was observed, or it cannot be told.
    """
    old = dict(before.buckets.get(histogram, ())) if before is not None else {}
    counts = [(le, count - old.get(le, 0.0)) for le, count in now.buckets.get(histogram, ())]
    if not old or not counts or counts[-1][1] <= 0 or any(count < 0 for _, count in counts):
        return None
    rank, low, under = q * counts[-1][1], 0.0, 0.0
    for le, count in counts:
        if count >= rank and count > under:
            return low if math.isinf(le) else low + (le - low) * (rank - under) / (count - under)
        low, under = (low if math.isinf(le) else le), count
    return low


class ReplicaFigures(NamedTuple):
    """One line of the table; None: it cannot be told (yet). Seconds, bytes, shares."""

    name: str
    url: str
    state: str
    reason: str
    uptime_s: float | None
    connections: int | None
    live: int | None
    lagging: int | None
    operations: int | None
    entries_per_s: float | None
    deliveries_per_s: float | None
    bytes_per_s: float | None
    latency_p50_s: float | None
    latency_p99_s: float | None
    loop_lag_p99_s: float | None
    cpu: float | None
    memory_bytes: int | None
    redis_up: int | None
    redis_links: int | None
    refusals_per_s: float | None
    gap_frames_per_s: float | None


def figures(before: ReplicaSample | None, now: ReplicaSample) -> ReplicaFigures:
    """What a replica did between two samples, and what it has now."""
    if before is not None and before.started != now.started:
        before = None  # another process: nothing lies between

    def count(metric: str) -> int | None:
        return int(now.total(metric)) if now.values else None

    links = [v for k, v in now.values.items() if k.startswith("tidegate_redis_connected{")]
    started = now.started
    return ReplicaFigures(
        name=now.pod or urlsplit(now.url).netloc,
        url=now.url,
        state=now.state,
        reason=now.reason,
        uptime_s=max(0.0, time.time() - started) if started else None,
        connections=count("tidegate_connections"),
        live=count("tidegate_viewers{live}"),
        lagging=count("tidegate_viewers{lagging}"),
        operations=count("tidegate_operations"),
        entries_per_s=per_s(before, now, "tidegate_entries_total"),
        deliveries_per_s=per_s(before, now, "tidegate_deliveries_total"),
        bytes_per_s=per_s(before, now, "tidegate_delivered_bytes_total"),
        latency_p50_s=quantile(0.5, before, now, LATENCY),
        latency_p99_s=quantile(0.99, before, now, LATENCY),
        loop_lag_p99_s=quantile(0.99, before, now, LOOP_LAG),
        cpu=per_s(before, now, "process_cpu_seconds_total"),
        memory_bytes=count("process_resident_memory_bytes"),
        redis_up=int(sum(links)) if now.values else None,
        redis_links=len(links) if now.values else None,
        refusals_per_s=per_s(before, now, "tidegate_refusals_total"),
        gap_frames_per_s=per_s(before, now, "tidegate_gap_frames_total"),
    )


class OperationFigures(NamedTuple):
    """One operation over all replicas. `age_s`: since its last entry, by this machine's clock."""

    operation: str
    status: str
    replicas: int
    viewers: int
    live: int
    lagging: int
    entries: int
    entries_per_s: float | None
    age_s: float | None


def operation_figures(
    before: Iterable[ReplicaSample], now: Iterable[ReplicaSample], order: OperationOrder
) -> list[OperationFigures]:
    """Operations of all replicas, each once; the viewers are summed, the entries are the same."""
    old = {
        (sample.url, sample.started, row.operation): (row.entries, sample.at_s)
        for sample in before
        for row in sample.operations
    }
    found: dict[str, OperationFigures] = {}
    for sample in now:
        for row in sample.operations:
            seen = old.get((sample.url, sample.started, row.operation))
            rate = None
            if seen is not None and row.entries >= seen[0] and sample.at_s > seen[1]:
                rate = (row.entries - seen[0]) / (sample.at_s - seen[1])
            one = OperationFigures(
                row.operation,
                row.status,
                1,
                row.viewers,
                row.live,
                row.lagging,
                row.entries,
                rate,
                _age_s(row.cursor),
            )
            other = found.get(row.operation)
            found[row.operation] = one if other is None else _together(one, other)
    return sorted(found.values(), key=lambda one: (-_weight(one, order), one.operation))


def _together(one: OperationFigures, other: OperationFigures) -> OperationFigures:
    rates = [rate for rate in (one.entries_per_s, other.entries_per_s) if rate is not None]
    ages = [age for age in (one.age_s, other.age_s) if age is not None]
    newest = one if (one.age_s or math.inf) <= (other.age_s or math.inf) else other
    return OperationFigures(
        one.operation,
        newest.status,
        one.replicas + other.replicas,
        one.viewers + other.viewers,
        one.live + other.live,
        one.lagging + other.lagging,
        max(one.entries, other.entries),
        max(rates, default=None),
        min(ages, default=None),
    )


def _weight(one: OperationFigures, order: OperationOrder) -> float:
    match order:
        case OperationOrder.LAGGING:
            return one.lagging
        case OperationOrder.ENTRIES:
            return one.entries if one.entries_per_s is None else one.entries_per_s
        case _:
            return one.viewers


def _age_s(cursor: str) -> float | None:
    ms = cursor.partition("-")[0]
    if not ms.isdecimal() or len(ms) > 15 or int(ms) == 0:
        return None
    return max(0.0, time.time() - int(ms) / 1000)
