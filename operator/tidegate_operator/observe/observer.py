"""Observes a gateway: its Deployment and pods from Kubernetes, their figures from their leases.

What Redis does not tell while it is away is unknown, never zero. What Kubernetes does not tell is
an error: nothing is decided without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from tidegate.model.errors import RedisUnavailable
from tidegate.redis.pods import PodRecord, Pods
from tidegate_operator.decide.records import Observation, Pod
from tidegate_operator.kube.errors import ApiForbidden
from tidegate_operator.kube.objects import Autoscaler, DeploymentState, Match, PodState
from tidegate_operator.model.gateway import GatewaySpec
from tidegate_operator.observe.leases import Comparison, Disagreement, figures_of
from tidegate_operator.observe.redis_connection import (
    RedisConnection,
    RedisConnector,
    RedisNotConfigured,
)
from tidegate_operator.observe.rollout import NO_TROUBLE, Rollout, RolloutWatch
from tidegate_operator.observe.scalers import sort_scalers
from tidegate_operator.observe.zones import Nodes, Zones

#: A cluster without KEDA is asked again after so long.
KEDA_S = 60.0
#: Pods that ended and were left behind, such as evicted ones: no replicas.
_ENDED = frozenset({"Succeeded", "Failed"})


class ClusterReader(Nodes, Protocol):
    """What is read of Kubernetes; `Kube` is one."""

    async def deployment(self, name: str) -> DeploymentState: ...

    async def pods(self, selector: Sequence[Match]) -> list[PodState]: ...

    async def autoscalers(self) -> list[Autoscaler]: ...

    async def scaled_objects(self) -> list[Autoscaler] | None: ...


@dataclass(frozen=True, slots=True)
class ClusterSnapshot:
    """One look at a gateway.

    Attributes:
        observation: what deciding gets.
        deployment: the Deployment; its version is what a write of the scale must name.
        pods: its pods, by name, ended ones left out.
        scalers: autoscalers of the namespace that aim at the Deployment.
        names_taken: names of autoscalers that are not this gateway's, by api.
        has_keda: whether the cluster knows ScaledObjects.
        disagreement: between Kubernetes and the leases.
        rollout: whether its pods start.
        connection: to Redis; None while it is not known.
        redis_reason, redis_text: why Redis could not be asked; empty if it could.
    """

    observation: Observation
    deployment: DeploymentState
    pods: Mapping[str, PodState]
    scalers: tuple[Autoscaler, ...]
    names_taken: frozenset[tuple[str, str]]
    has_keda: bool
    disagreement: Disagreement
    connection: RedisConnection | None
    rollout: Rollout = NO_TROUBLE
    redis_reason: str = ""
    redis_text: str = ""

    @property
    def selector(self) -> str:
        """The pods' label selector as text."""
        return ",".join(map(str, self.deployment.selector))


class Observer:
    """Looks at one gateway again and again."""

    def __init__(
        self, cluster: ClusterReader, redis: RedisConnector, clock: Callable[[], float]
    ) -> None:
        self._cluster = cluster
        self._redis = redis
        self._clock = clock
        self._zones = Zones(cluster, clock)
        self._no_keda_until = float("-inf")
        self._comparison = Comparison()
        self._rollout = RolloutWatch()

    async def look(
        self, name: str, uid: str, spec: GatewaySpec, undispatched: int | None
    ) -> ClusterSnapshot:
        """One look.

        Args:
            name: of the Gateway, which its autoscaler has too.
            uid: of the Gateway.
            spec: its spec.
            undispatched: what the last sweep counted; None: not known.

        Raises:
            ApiNotFound: there is no such Deployment.
            KubeError: Kubernetes could not be asked.
        """
        deployment = await self._cluster.deployment(spec.target.name)
        pods = {
            pod.name: pod
            for pod in await self._cluster.pods(deployment.selector)
            if pod.phase not in _ENDED
        }
        zones = await self._zones.of(pods.values())
        every = await self._cluster.autoscalers()
        scaled = await self._scaled_objects()
        every += scaled or []
        scalers = tuple(one for one in every if one.target == ("Deployment", spec.target.name))
        own, foreign = sort_scalers(name, uid, scalers)
        connection, roster, reason, text = await self._ask_redis(spec)
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
        return ClusterSnapshot(
            observation=observation,
            deployment=deployment,
            pods=pods,
            scalers=scalers,
            names_taken=frozenset((one.api, one.name) for one in every if one.owner != uid),
            has_keda=scaled is not None,
            disagreement=self._comparison.look(spec.target.name, pods, roster, now),
            rollout=self._rollout.look(deployment, pods, now),
            connection=connection,
            redis_reason=reason,
            redis_text=text,
        )

    async def _scaled_objects(self) -> list[Autoscaler] | None:
        """None without KEDA, or without the right to see: then there are none of ours."""
        if self._clock() < self._no_keda_until:
            return None
        try:
            found = await self._cluster.scaled_objects()
        except ApiForbidden:
            found = None
        if found is None:
            self._no_keda_until = self._clock() + KEDA_S
        return found

    async def _ask_redis(
        self, spec: GatewaySpec
    ) -> tuple[RedisConnection | None, list[PodRecord] | None, str, str]:
        connection = None
        try:
            connection = await self._redis.open(
                spec.redis, key_prefix=spec.streams.prefix, group=spec.streams.group
            )
            pods = Pods(connection.topology, connection.settings, clock=self._clock)
            return connection, await pods.roster(), "", ""
        except RedisNotConfigured as error:
            return None, None, error.reason, str(error)
        except RedisUnavailable as error:
            self._redis.distrust()
            return connection, None, "Unreachable", str(error)
