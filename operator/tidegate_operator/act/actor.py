"""Carries a decision out: remove and keep autoscalers, costs before the scale, then shedding.

It judges nothing: what is not in the decision is not done. Before each step it asks whether this
process still leads, and stops if not. A step that fails is told in what is handed back and does not
stop the others, unless they build on it.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from tidegate.model.errors import RedisUnavailable, TidegateError
from tidegate.redis.control import Control, Message, Rebalance
from tidegate_operator.act import autoscaler
from tidegate_operator.decide.records import Decision, DeletionCost, Scale, Scaler, Shed
from tidegate_operator.kube.errors import ApiConflict, ApiForbidden, ApiNotFound, KubeError
from tidegate_operator.kube.objects import MARK, DeploymentState, Reference
from tidegate_operator.model.gateway import GatewaySpec
from tidegate_operator.observe.observer import ClusterSnapshot

log = structlog.get_logger(__name__)

#: The Deployment's controller writes its status while we look: so often is the same scale tried
#: with a newer version, as long as nobody else has written the number itself.
SCALE_TRIES = 3
#: An autoscaler of ours is written again after so long, in case someone changed it by hand.
KEEP_AGAIN_S = 300.0
_API = {Scaler.HPA: "hpa", Scaler.KEDA: "keda"}


class NoLongerLeading(TidegateError):
    """Another one leads, or may soon: nothing more was done."""


class ClusterWriter(Protocol):
    """What is written to Kubernetes; `Kube` is one."""

    async def deployment(self, name: str) -> DeploymentState: ...

    async def scale(self, name: str, version: str, replicas: int) -> None: ...

    async def set_deletion_cost(self, pod: str, uid: str, cost: int) -> None: ...

    async def apply_autoscaler(self, api: str, manifest: Mapping[str, Any]) -> None: ...

    async def delete_autoscaler(self, api: str, name: str) -> None: ...


@dataclass(slots=True)
class ActionResult:
    """What was done. `failures` are sentences for people, by a word for programs."""

    scaled: Scale | None = None
    removed: tuple[str, ...] = ()
    kept: str = ""
    costs: int = 0
    shed: list[Shed] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


class Actor:
    """Acts for one gateway."""

    def __init__(
        self, writer: ClusterWriter, may_continue: Callable[[], bool], clock: Callable[[], float]
    ) -> None:
        self._writer = writer
        self._may_continue = may_continue
        self._clock = clock
        self._kept_at: dict[str, float] = {}

    async def carry_out(
        self, gateway: Reference, spec: GatewaySpec, snapshot: ClusterSnapshot, decision: Decision
    ) -> ActionResult:
        """Do what the decision says.

        Raises:
            NoLongerLeading: before the step that was not taken.
        """
        result = ActionResult()
        for scaler in sorted(decision.remove):
            await self._try(result, "RemoveFailed", self._remove(result, gateway, snapshot, scaler))
        if decision.keep is not None:
            keep = self._keep(result, gateway, spec, snapshot, decision.keep)
            await self._try(result, "AutoscalerFailed", keep)
        await self._write_costs(result, snapshot, decision.costs)
        if decision.scale is not None:
            await self._write_costs(result, snapshot, decision.scale.costs)
            await self._try(
                result, "ScaleFailed", self._scale(result, spec, snapshot, decision.scale)
            )
        if decision.shed:
            await self._shed(result, snapshot, decision.shed)
        return result

    # -- inside ------------------------------------------------------------------------------------

    def _fence(self) -> None:
        if not self._may_continue():
            raise NoLongerLeading("another operator leads, or may soon")

    async def _try(self, result: ActionResult, word: str, step: Awaitable[None]) -> None:
        try:
            await step
        except KubeError as error:
            result.failures[word] = str(error)

    async def _remove(
        self, result: ActionResult, gateway: Reference, snapshot: ClusterSnapshot, scaler: Scaler
    ) -> None:
        for one in snapshot.scalers:
            if one.owner == gateway.uid and one.api == _API[scaler] and not one.deleting:
                self._fence()
                await self._writer.delete_autoscaler(one.api, one.name)
                result.removed = (*result.removed, f"{scaler}/{one.name}")

    async def _keep(
        self,
        result: ActionResult,
        gateway: Reference,
        spec: GatewaySpec,
        snapshot: ClusterSnapshot,
        scaler: Scaler,
    ) -> None:
        api = _API[scaler]
        if (api, gateway.name) in snapshot.names_taken:
            result.failures["NameTaken"] = (
                f"there is another {scaler} with the name {gateway.name}: rename or delete it"
            )
            return
        if api == "keda" and not snapshot.has_keda:
            result.failures["KedaMissing"] = (
                "mode keda needs KEDA and the right to write its ScaledObjects: install KEDA, "
                "or choose another mode"
            )
            return
        make = autoscaler.hpa if scaler is Scaler.HPA else autoscaler.scaled_object
        manifest = make(gateway, spec.target.name, spec.scaling, snapshot.observation.wall)
        mark = manifest["metadata"]["annotations"][MARK]
        there = [one for one in snapshot.scalers if one.api == api and one.owner == gateway.uid]
        since = self._clock() - self._kept_at.get(api, float("-inf"))
        if there and there[0].mark == mark and since < KEEP_AGAIN_S:
            return
        self._fence()
        await self._writer.apply_autoscaler(api, manifest)
        self._kept_at[api] = self._clock()
        if not there or there[0].mark != mark:
            result.kept = f"{scaler}/{gateway.name}"

    async def _write_costs(
        self, result: ActionResult, snapshot: ClusterSnapshot, costs: Sequence[DeletionCost]
    ) -> None:
        """The best that can be done: without them the scale is as right, only less gentle."""
        for one in costs:
            pod = snapshot.pods.get(one.pod)
            if pod is None:
                continue
            self._fence()
            try:
                await self._writer.set_deletion_cost(pod.name, pod.uid, one.cost)
                result.costs += 1
            except ApiNotFound:
                continue  # it went by itself
            except KubeError as error:
                result.failures["DeletionCostFailed"] = str(error)
                if isinstance(error, ApiForbidden):
                    return

    async def _scale(
        self, result: ActionResult, spec: GatewaySpec, snapshot: ClusterSnapshot, scale: Scale
    ) -> None:
        name, version = spec.target.name, snapshot.deployment.version
        for _ in range(SCALE_TRIES):
            self._fence()
            try:
                await self._writer.scale(name, version, scale.replicas)
            except ApiConflict:
                now = await self._writer.deployment(name)
                if now.replicas != scale.before or now.uid != snapshot.deployment.uid:
                    raise ApiConflict(
                        "another client changed the number of replicas", 409
                    ) from None
                version = now.version
            else:
                result.scaled = scale
                return
        raise ApiConflict("the Deployment changes too quickly; the next round tries again", 409)

    async def _shed(
        self, result: ActionResult, snapshot: ClusterSnapshot, sheds: Sequence[Shed]
    ) -> None:
        if snapshot.connection is None:
            return
        control = Control(snapshot.connection.topology, snapshot.connection.settings, _ignore)
        for one in sheds:
            self._fence()
            message = Rebalance(one.pod, one.connections, _bounded(one.over_s))
            try:
                listeners = await control.publish(message)
            except RedisUnavailable as error:
                result.failures["RebalanceFailed"] = str(error)
                return
            if listeners == 0:
                result.failures["RebalanceFailed"] = "no replica listens on the control channel"
                return
            result.shed.append(one)


def _bounded(over_s: float) -> float:
    return min(3_600.0, over_s) if math.isfinite(over_s) else 3_600.0


def _ignore(message: Message) -> None:
    """The operator sends; it does not listen."""
