"""What the leases tell: the figures of pods, and where they and Kubernetes disagree.

They come from Redis, where anyone may write, so each figure is checked before it counts. A pod
with several worker processes has a lease for each: its figures are theirs together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tidegate.core.slots import pod_of
from tidegate.core.workers import pod_of_replica
from tidegate.redis.pods import PodRecord
from tidegate_operator.decide.records import PodLoad
from tidegate_operator.kube.objects import PodState

#: More than any pod can have; beyond it someone writes nonsense.
FIGURE_MAX = 1e9
#: A pod may take so long to get its lease, and a lease to lapse after its pod, before it is told.
DISAGREE_S = 45.0


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Where Kubernetes and the leases disagree, for longer than `DISAGREE_S`.

    Attributes:
        pods_without_lease: ready pods that Redis does not know.
        leases_without_pod: pods of this Deployment, by their names, that Kubernetes does not know.
    """

    pods_without_lease: tuple[str, ...] = ()
    leases_without_pod: tuple[str, ...] = ()


@dataclass(slots=True)
class _Since:
    """Names, and since when each was seen without a break."""

    at: dict[str, float] = field(default_factory=dict)

    def update(self, names: frozenset[str], now: float) -> tuple[str, ...]:
        self.at = {name: self.at.get(name, now) for name in names}
        return tuple(sorted(name for name, at in self.at.items() if now - at >= DISAGREE_S))


class Comparison:
    """Compares again and again, and remembers since when what is missing is missing."""

    def __init__(self) -> None:
        self._without_lease = _Since()
        self._without_pod = _Since()

    def look(
        self,
        target: str,
        pods: Mapping[str, PodState],
        roster: Sequence[PodRecord] | None,
        now: float,
    ) -> Disagreement:
        """What the pods of this Deployment and the leases (None: not known) say of each other."""
        if roster is None:
            return Disagreement()
        leased = {pod_of_replica(pod_of(one.incarnation)) for one in roster}
        without_lease = frozenset(
            name for name, pod in pods.items() if pod.ready and not pod.terminating
        ) - frozenset(leased)
        # Others may share this Redis: only names that this Deployment gives are its business.
        ours = re.compile(re.escape(target) + r"-[a-z0-9]{1,12}-[a-z0-9]{5}")
        without_pod = frozenset(
            name for name in leased if ours.fullmatch(name) and name not in pods
        )
        return Disagreement(
            self._without_lease.update(without_lease, now),
            self._without_pod.update(without_pod, now),
        )


def figures_of(roster: Sequence[PodRecord]) -> dict[str, PodLoad]:
    """Figures by pod; what makes no sense is left out. Of a replica with two leases the longer
    counts: the other one is of a container that is gone. Workers of a pod add up, and the most
    delayed of them stands for the pod: its viewers are as late.
    """
    found: dict[str, PodLoad] = {}
    for one in sorted(roster, key=lambda record: record.lease_left_ms):
        told = one.figures
        connections = _number(told.get("connections"))
        if connections is None:
            continue
        found[pod_of(one.incarnation)] = PodLoad(
            connections=int(connections),
            deliveries_per_s=_number(told.get("deliveries_per_s")) or 0.0,
            loop_lag_ms=_number(told.get("loop_lag_ms")) or 0.0,
        )
    pods: dict[str, PodLoad] = {}
    for replica, load in found.items():
        pod = pod_of_replica(replica)
        others = pods.get(pod)
        pods[pod] = load if others is None else _together(others, load)
    return pods


def _together(one: PodLoad, other: PodLoad) -> PodLoad:
    return PodLoad(
        connections=one.connections + other.connections,
        deliveries_per_s=one.deliveries_per_s + other.deliveries_per_s,
        loop_lag_ms=max(one.loop_lag_ms, other.loop_lag_ms),
    )


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and 0 <= value <= FIGURE_MAX else None
