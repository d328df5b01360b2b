"""What each signal asks for, in pods' worth of load.

A figure that is missing widens the answer to a range. The lower end takes it for nothing, the
upper end for a pod that is as full as it is meant to be: HorizontalPodAutoscaler's assumptions, as
a range. Scaling goes up by the lower end and down by the upper end only, so what is not known
changes nothing.

Viewers of a draining pod are load too: they come back on the others. Every demand grows with the
load, and with nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median_high

from tidegate_operator.decide.records import Demand, Observation, PodLoad
from tidegate_operator.model.scaling import Scaling

#: What one look at the event-loop lag may ask for: it tells that pods are full, not by how much.
LAG_FACTOR_MAX = 2.0


def demands(scaling: Scaling, seen: Observation, *, settled: bool) -> tuple[Demand, ...]:
    """The demands of all signals that the spec names.

    Args:
        scaling: the targets per pod.
        seen: the figures.
        settled: the last step up has had its effect; until then a lag asks for no more pods,
            because long-lived connections stay where they are and so does the lag.
    """
    made = [_by_pods("connections", seen, scaling.connections_per_pod, _connections)]
    if scaling.deliveries_per_pod is not None:
        made.append(_by_pods("deliveries", seen, scaling.deliveries_per_pod, _deliveries))
    if scaling.undispatched_per_pod is not None:
        made.append(_undispatched(seen, scaling.undispatched_per_pod))
    if scaling.loop_lag_ms:
        made.append(_loop_lag(seen, scaling.loop_lag_ms, settled=settled))
    return tuple(made)


def without_lease(seen: Observation) -> tuple[str, ...]:
    """Pods whose figures are missing: they hold no lease, though Kubernetes has them."""
    return tuple(pod.name for pod in seen.pods if pod.figures is None and not pod.terminating)


def _connections(figures: PodLoad) -> float:
    return figures.connections


def _deliveries(figures: PodLoad) -> float:
    return figures.deliveries_per_s


def _by_pods(
    signal: str, seen: Observation, target: float, read: Callable[[PodLoad], float]
) -> Demand:
    if not seen.redis_reachable:
        return Demand(signal, 0.0, math.inf)
    known = sum(read(pod.figures) for pod in seen.pods if pod.figures is not None) / target
    return Demand(signal, known, known + len(without_lease(seen)))


def _undispatched(seen: Observation, target: float) -> Demand:
    if seen.undispatched is None:
        return Demand("undispatched", 0.0, math.inf)
    worth = seen.undispatched / target
    return Demand("undispatched", worth, worth)


def _loop_lag(seen: Observation, limit_ms: float, *, settled: bool) -> Demand:
    if not seen.redis_reachable:
        return Demand("loop_lag", 0.0, math.inf)
    serving = [pod for pod in seen.pods if pod.serves]
    if not serving:
        return Demand("loop_lag", 0.0, 0.0)
    least = _pods_for(
        [pod.figures.loop_lag_ms if pod.figures else 0.0 for pod in serving], limit_ms
    )
    most = _pods_for(
        [pod.figures.loop_lag_ms if pod.figures else limit_ms for pod in serving], limit_ms
    )
    if not settled:
        least = min(least, float(seen.replicas))
    return Demand("loop_lag", least, max(least, most))


def _pods_for(lags_ms: Sequence[float], limit_ms: float) -> float:
    # The median: one pod that hangs is no reason for more pods.
    return len(lags_ms) * min(median_high(lags_ms) / limit_ms, LAG_FACTOR_MAX)
