"""Observes a gateway: its Deployment and pods from Kubernetes, their figures from their leases.

What Redis does not tell while it is away is unknown, never zero. What Kubernetes does not tell is
an error: nothing is decided without it. Figures come from Redis, where anybody may write, so each
is checked before it counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from tidegate.core.slots import pod_of
from tidegate.model.errors import RedisUnavailable
from tidegate.redis.pods import PodRecord, Pods
from tidegate_operator.decide.records import Figures, Observation, Pod, Scaler
from tidegate_operator.kube_objects import (
    Autoscaler,
    DeploymentState,
    Forbidden,
    KubeError,
    Match,
    NotFound,
    PodState,
)
from tidegate_operator.model.gateway import GatewaySpec
from tidegate_operator.observe_redis import RedisNotNamed, RedisWay, Way

#: More than any pod can have; beyond it somebody writes nonsense.
FIGURE_MAX = 1e9
#: A pod may take so long to get its lease, and a lease to lapse after its pod, before it is told.
DISAGREE_S = 45.0
#: Nodes are asked for their zone again after so long, and so is a Role without them.
ZONE_S = 600.0
#: A cluster without KEDA is asked again after so long.
KEDA_S = 60.0
#: Pods that ended and were left behind, such as evicted ones: no replicas.
_ENDED = frozenset({"Succeeded", "Failed"})


class Cluster(Protocol):
    """What is read of Kubernetes; `Kube` is one."""

    async def deployment(self, name: str) -> DeploymentState: ...

    async def pods(self, selector: Sequence[Match]) -> list[PodState]: ...

    async def autoscalers(self) -> list[Autoscaler]: ...

    async def scaled_objects(self) -> list[Autoscaler] | None: ...

    async def zone_of(self, node: str) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Where Kubernetes and the leases disagree, for longer than `DISAGREE_S`.

    Attributes:
        pods_without_lease: ready pods that Redis does not know.
        leases_without_pod: pods of this Deployment, by their names, that Kubernetes does not know.
    """

    pods_without_lease: tuple[str, ...] = ()
    leases_without_pod: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at a gateway.

    Attributes:
        observation: what deciding gets.
        deployment: the Deployment; its version is what a write of the scale must name.
        pods: its pods, by name, ended ones left out.
        scalers: autoscalers of the namespace that aim at the Deployment.
        names_taken: names of autoscalers that are not this gateway's, by api.
        has_keda: whether the cluster knows ScaledObjects.
        disagreement: between Kubernetes and the leases.
        way: to Redis; None while it is not known.
        redis_reason, redis_text: why Redis could not be asked; empty if it could.
    """

    observation: Observation
    deployment: DeploymentState
    pods: Mapping[str, PodState]
    scalers: tuple[Autoscaler, ...]
    names_taken: frozenset[tuple[str, str]]
    has_keda: bool
    disagreement: Disagreement
    way: Way | None
    redis_reason: str = ""
    redis_text: str = ""

    @property
    def selector(self) -> str:
        """The pods' label selector as text."""
        return ",".join(map(str, self.deployment.selector))


@dataclass(slots=True)
class _Since:
    """Names, and since when each was seen without a break."""

    at: dict[str, float] = field(default_factory=dict)

    def update(self, names: frozenset[str], now: float) -> tuple[str, ...]:
        self.at = {name: self.at.get(name, now) for name in names}
        return tuple(sorted(name for name, at in self.at.items() if now - at >= DISAGREE_S))


class Observer:
    """Looks at one gateway again and again."""

    def __init__(self, cluster: Cluster, redis: RedisWay, clock: Callable[[], float]) -> None:
        self._cluster = cluster
        self._redis = redis
        self._clock = clock
        self._zones: dict[str, tuple[float, str | None]] = {}
        self._no_zones_until = float("-inf")
        self._no_keda_until = float("-inf")
        self._without_lease = _Since()
        self._without_pod = _Since()

    async def look(self, name: str, uid: str, spec: GatewaySpec, undispatched: int | None) -> Seen:
        """One look.

        Args:
            name: of the Gateway, which its autoscaler has too.
            uid: of the Gateway.
            spec: its spec.
            undispatched: what the last sweep counted; None: not known.

        Raises:
            NotFound: there is no such Deployment.
            KubeError: Kubernetes could not be asked.
        """
        deployment = await self._cluster.deployment(spec.target.name)
        pods = {
            pod.name: pod
            for pod in await self._cluster.pods(deployment.selector)
            if pod.phase not in _ENDED
        }
        zones = await self._zones_of(pods.values())
        every = await self._cluster.autoscalers()
        scaled = await self._scaled_objects()
        every += scaled or []
        scalers = tuple(one for one in every if one.target == ("Deployment", spec.target.name))
        own, foreign = sort_scalers(name, uid, scalers)
        way, roster, reason, text = await self._ask_redis(spec)
        figures = None if roster is None else figures_of(roster)
        now = self._clock()
        observation = Observation(
            at_s=now,
            wall=datetime.now(UTC),
            replicas=deployment.replicas,
            pods=tuple(
                Pod(
                    name=pod.name,
                    ready=pod.ready,
                    terminating=pod.terminating,
                    figures=None if figures is None else figures.get(pod.name),
                    replica_set=pod.replica_set,
                    zone=zones.get(pod.name),
                    cost=pod.cost,
                    own_cost=pod.own_cost,
                )
                for pod in sorted(pods.values(), key=lambda one: one.name)
            ),
            rolling_out=deployment.is_rolling,
            redis_reachable=figures is not None,
            undispatched=undispatched,
            own_scalers=own,
            foreign_scalers=foreign,
        )
        return Seen(
            observation=observation,
            deployment=deployment,
            pods=pods,
            scalers=scalers,
            names_taken=frozenset((one.api, one.name) for one in every if one.owner != uid),
            has_keda=scaled is not None,
            disagreement=self._disagreement(spec.target.name, pods, roster, now),
            way=way,
            redis_reason=reason,
            redis_text=text,
        )

    async def _scaled_objects(self) -> list[Autoscaler] | None:
        """None without KEDA, or without the right to see: then there are none of ours."""
        if self._clock() < self._no_keda_until:
            return None
        try:
            found = await self._cluster.scaled_objects()
        except Forbidden:
            found = None
        if found is None:
            self._no_keda_until = self._clock() + KEDA_S
        return found

    async def _ask_redis(
        self, spec: GatewaySpec
    ) -> tuple[Way | None, list[PodRecord] | None, str, str]:
        way = None
        try:
            way = await self._redis.open(spec.redis)
            pods = Pods(way.topology, way.settings, clock=self._clock)
            return way, await pods.roster(), "", ""
        except RedisNotNamed as error:
            return None, None, error.reason, str(error)
        except RedisUnavailable as error:
            self._redis.distrust()
            return way, None, "Unreachable", str(error)

    async def _zones_of(self, pods: Iterable[PodState]) -> dict[str, str]:
        """The zone of each pod, as far as anybody tells."""
        found: dict[str, str] = {}
        now = self._clock()
        for pod in pods:
            zone = pod.zone
            if zone is None and pod.node and now >= self._no_zones_until:
                zone = await self._zone_of(pod.node, now)
            if zone is not None:
                found[pod.name] = zone
        return found

    async def _zone_of(self, node: str, now: float) -> str | None:
        at, zone = self._zones.get(node, (float("-inf"), None))
        if now - at < ZONE_S:
            return zone
        try:
            zone = await self._cluster.zone_of(node)
        except Forbidden:
            self._no_zones_until = now + ZONE_S
            return None
        except NotFound:
            zone = None
        except KubeError:
            return zone  # the last one known; zones only make a choice between pods better
        self._zones = {n: v for n, v in self._zones.items() if now - v[0] < 2 * ZONE_S}
        self._zones[node] = (now, zone)
        return zone

    def _disagreement(
        self,
        target: str,
        pods: Mapping[str, PodState],
        roster: Sequence[PodRecord] | None,
        now: float,
    ) -> Disagreement:
        if roster is None:
            return Disagreement()
        leased = {pod_of(one.incarnation) for one in roster}
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


def sort_scalers(
    name: str, uid: str, scalers: Sequence[Autoscaler]
) -> tuple[frozenset[Scaler], tuple[str, ...]]:
    """Which kinds of ours there are, and the names of those that are not ours.

    The HorizontalPodAutoscaler that KEDA makes of our ScaledObject is part of that: as long as it
    is there, it writes.
    """
    own: set[Scaler] = set()
    foreign: list[str] = []
    keda_is_foreign = {one.name for one in scalers if one.api == "keda" and one.owner != uid}
    for one in scalers:
        if one.owner == uid:
            own.add(Scaler.HPA if one.api == "hpa" else Scaler.KEDA)
        elif one.api == "hpa" and one.via == name and name not in keda_is_foreign:
            own.add(Scaler.KEDA)
        else:
            kind = Scaler.HPA if one.api == "hpa" else Scaler.KEDA
            foreign.append(f"{kind}/{one.name}")
    return frozenset(own), tuple(sorted(foreign))


def figures_of(roster: Sequence[PodRecord]) -> dict[str, Figures]:
    """Figures by pod; what makes no sense is left out. Of a pod with two leases the longer counts:
    the other one is of a container that is gone.
    """
    found: dict[str, Figures] = {}
    for one in sorted(roster, key=lambda record: record.lease_left_ms):
        told = one.figures
        connections = _number(told.get("connections"))
        if connections is None:
            continue
        found[pod_of(one.incarnation)] = Figures(
            connections=int(connections),
            deliveries_per_s=_number(told.get("deliveries_per_s")) or 0.0,
            loop_lag_ms=_number(told.get("loop_lag_ms")) or 0.0,
        )
    return found


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and 0 <= value <= FIGURE_MAX else None
