"""The metrics of one Gateway, read from its reconciler."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tidegate_operator.decide.records import Reason
from tidegate_operator.loops.reconciler import GatewayReconciler
from tidegate_operator.streams.retention import RetentionState

_TRUTH = {"True": 1.0, "False": 0.0}
_P = "tidegate_operator_"


def numbers_of(
    reconciler: GatewayReconciler, now: float
) -> dict[str, dict[tuple[str, ...], float]]:
    """By metric, then by labels. Counters are there from the start, gauges once they are known."""
    made: dict[str, dict[tuple[str, ...], float]] = {}
    for name, labels, value in (
        *_counters(reconciler),
        *_gauges(reconciler),
        *_swept(reconciler, now),
    ):
        made.setdefault(_P + name, {})[(reconciler.name, *labels)] = value
    lost = reconciler.scaling.counts["events_lost"]
    made[_P + "events_lost_total"] = {(): lost}
    return made


_Value = tuple[str, tuple[str, ...], float]


def _counters(reconciler: GatewayReconciler) -> Iterator[_Value]:
    for reason in Reason:
        yield "decisions_total", (reason.value,), reconciler.scaling.decisions[reason]
    for direction in ("up", "down"):
        yield "scales_total", (direction,), reconciler.scaling.scales[direction]
    for state in filter(lambda one: one.goes, RetentionState):
        yield "streams_expired_total", (state.value,), reconciler.sweep.expired[state.value]
    yield from _each("action_failures_total", reconciler.scaling.failures)
    yield from _each("sweep_changes_total", reconciler.sweep.changes)
    yield from _each("sweep_skipped_total", reconciler.sweep.skipped)
    yield "shed_connections_total", (), reconciler.scaling.counts["shed"]
    yield "sweep_commands_total", (), reconciler.sweep.counts["commands"]
    yield "sweep_interruptions_total", (), reconciler.sweep.counts["interruptions"]


def _each(name: str, counts: Mapping[str, int]) -> Iterator[_Value]:
    for word, number in sorted(counts.items()):
        yield name, (word,), number


def _gauges(reconciler: GatewayReconciler) -> Iterator[_Value]:
    for condition, status in reconciler.scaling.conditions.items():
        yield "condition", (str(condition),), _TRUTH.get(status, -1.0)
    snapshot, decision = reconciler.scaling.snapshot, reconciler.scaling.decision
    if snapshot is None:
        return
    look: Any = snapshot.observation
    yield "replicas", (), look.replicas
    yield "replicas_ready", (), sum(pod.serves for pod in look.pods)
    yield "redis_reachable", (), int(look.redis_reachable)
    if look.redis_reachable:
        figures = [pod.figures for pod in look.pods if pod.figures is not None]
        yield "connections", (), sum(one.connections for one in figures)
        yield "deliveries_per_second", (), sum(one.deliveries_per_s for one in figures)
        missing = snapshot.disagreement
        yield "leases_disagree", ("pod_without_lease",), len(missing.pods_without_lease)
        yield "leases_disagree", ("lease_without_pod",), len(missing.leases_without_pod)
    if decision is not None:
        yield "replicas_desired", (), decision.desired
        for demand in decision.demands:
            yield "demand_pods", (demand.signal,), demand.least


def _swept(reconciler: GatewayReconciler, now: float) -> Iterator[_Value]:
    report = reconciler.sweep.state.report
    if report is None:
        return
    yield "sweep_duration_seconds", (), report.seconds
    yield "sweep_age_seconds", (), now - reconciler.sweep.ended_at
    yield "undispatched_entries", (), report.tally.undispatched
    for state in RetentionState:
        yield "streams", (state.value,), report.tally.streams[state]
    ratios = []
    for one in report.memory:
        yield "redis_memory_bytes", (one.node, "used"), one.reading.used
        if one.reading.ratio is not None:
            yield "redis_memory_bytes", (one.node, "limit"), one.reading.limit
            ratios.append(one.reading.ratio)
    if ratios:
        yield "redis_memory_ratio", (), max(ratios)
