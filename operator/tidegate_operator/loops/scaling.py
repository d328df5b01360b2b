"""The loop that scales one Gateway: shown --> observe --> decide --> act --> status.

A round runs when the resource is shown to it, which happens at least every `interval_s`. What it
remembers lives as long as the leadership; the rest is read again each time.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog

from tidegate.model.errors import InvalidInput
from tidegate.redis.batches import end_if_cancelled
from tidegate_operator.act.actor import ActionResult, Actor, ClusterWriter, NoLongerLeading
from tidegate_operator.decide.decision import decide
from tidegate_operator.decide.memory import DecisionState
from tidegate_operator.decide.records import Decision, Shed
from tidegate_operator.kube.errors import ApiConflict, ApiNotFound, KubeError
from tidegate_operator.kube.objects import Reference
from tidegate_operator.loops.conditions import Facts
from tidegate_operator.loops.loop_health import LoopHealth
from tidegate_operator.loops.scope import OutOfScope, Scope
from tidegate_operator.loops.status import compose, flips, is_news, version_of
from tidegate_operator.loops.sweeping import SweepLoop
from tidegate_operator.model.gateway import GROUP, KIND, VERSION, GatewaySpec, read_spec
from tidegate_operator.model.status import LastScale
from tidegate_operator.observe.observer import ClusterReader, ClusterSnapshot, Observer
from tidegate_operator.observe.redis_connection import RedisConnector, Secrets
from tidegate_operator.settings import OperatorSettings

log = structlog.get_logger(__name__)


class StatusWriter(Protocol):
    """Where it is said how a gateway is; `Kube` is one."""

    async def patch_status(
        self, name: str, version: str | None, status: Mapping[str, Any]
    ) -> dict[str, Any]: ...

    async def event(
        self, regarding: Reference, *, reason: str, action: str, note: str, warning: bool, by: str
    ) -> None: ...


class Api(ClusterReader, ClusterWriter, Secrets, StatusWriter, Protocol):
    """All that is asked of Kubernetes; `Kube` is one."""


class ScalingLoop:
    """`show` it the resource, and `run` until cancelled. What it sees, `sweep` is told."""

    def __init__(
        self,
        gateway: str,
        api: Api,
        redis: RedisConnector,
        settings: OperatorSettings,
        health: LoopHealth,
        sweep: SweepLoop,
        *,
        may_continue: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self.name = f"scale/{gateway}"
        self._gateway = gateway
        self._api = api
        self._settings = settings
        self._scope = Scope.of(settings)
        self._health = health
        self._sweep = sweep
        self._may_continue = may_continue
        self._clock = clock
        self._observer = Observer(api, redis, clock)
        self._actor = Actor(api, may_continue, clock)
        self._memory = DecisionState()
        self._resource: Mapping[str, Any] = {}
        self._shown = asyncio.Event()
        self._written_at = float("-inf")
        #: The version of the definition, by the last answer to a write.
        self._served: int | None = None
        self.spec: GatewaySpec | None = None
        self.snapshot: ClusterSnapshot | None = None
        self.decision: Decision | None = None
        self.result: ActionResult | None = None
        self.last_scale: LastScale | None = None
        self.conditions: Mapping[str, str] = {}
        self.decisions: Counter[str] = Counter()
        self.scales: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    def show(self, resource: Mapping[str, Any]) -> None:
        """This is the resource now: look, decide, act."""
        self._resource = resource
        self._shown.set()

    async def run(self) -> None:
        """Rounds, until cancelled."""
        while True:
            end_if_cancelled()
            await self._health.wait(self.name, self._shown)
            try:
                with self._health.round(self.name) as told:
                    told.error = await self._round(self._resource)
            except NoLongerLeading:
                continue  # the end of the leadership cancels this, unless it was renewed yet
            except Exception:
                log.exception("reconciliation failed", gateway=self._gateway)

    async def _round(self, resource: Mapping[str, Any]) -> str:
        """One round; what went wrong, if anything."""
        meta = resource["metadata"]
        if meta.get("deletionTimestamp"):
            return ""
        gateway = Reference(f"{GROUP}/{VERSION}", KIND, self._gateway, str(meta["uid"]))
        problem: tuple[str, str] | None = None
        snapshot, decision, result = None, None, None
        try:
            spec = read_spec(resource.get("spec") or {})
            self._scope.check(spec)
            self._know(spec)
            undispatched = self._sweep.undispatched(spec)
            snapshot = await self._observer.look(self._gateway, gateway.uid, spec, undispatched)
            self._take(snapshot)
            decision, self._memory = decide(spec, snapshot.observation, self._memory)
            self.decisions[decision.reason] += 1
            result = await self._actor.carry_out(gateway, spec, snapshot, decision)
            await self._tell(gateway, decision, result)
        except InvalidInput as error:
            self._know(None)
            problem = ("InvalidSpec", str(error))
        except OutOfScope as error:
            self._know(None)
            self._take(None)
            problem = (error.reason, str(error))
        except ApiNotFound as error:
            self._take(None)
            text = f"there is no Deployment {self.spec.target.name}" if self.spec else str(error)
            problem = ("TargetNotFound", f"{text}: make it, or delete this Gateway")
        except KubeError as error:
            problem = (error.reason, str(error))
        self.decision, self.result = decision, result
        facts = Facts(
            generation=int(meta.get("generation", 0)),
            spec=self.spec,
            problem=problem,
            snapshot=snapshot,
            decision=decision,
            result=result,
            scaled=self.last_scale,
            sweep=self._sweep.state,
            served=self._served,
            leader=self._settings.identity,
        )
        await self._write_status(gateway, resource, facts)
        return "" if problem is None else problem[1]

    def _know(self, spec: GatewaySpec | None) -> None:
        self.spec = spec
        self._sweep.know(spec)

    def _take(self, snapshot: ClusterSnapshot | None) -> None:
        self.snapshot = snapshot
        self._sweep.take(snapshot)

    async def _tell(self, gateway: Reference, decision: Decision, result: ActionResult) -> None:
        """The log, counts and events of what was done."""
        for word, text in result.failures.items():
            self.failures[word] += 1
            log.warning("action failed", gateway=self._gateway, failure=word, reason=text)
        for shed in result.shed:
            self.counts["shed"] += shed.connections
            log.info("rebalancing", gateway=self._gateway, **_fields(shed))
        if result.removed or result.kept:
            note = f"mode {self.spec.scaling.mode}" if self.spec else ""
            log.info(
                "autoscaler changed",
                gateway=self._gateway,
                removed=result.removed,
                written=result.kept,
            )
            for one in result.removed:
                await self._event(gateway, "AutoscalerRemoved", "HandOver", f"{one}: {note}")
            if result.kept:
                await self._event(
                    gateway, "AutoscalerWritten", "HandOver", f"{result.kept}: {note}"
                )
        if result.scaled is None:
            return
        before, after = result.scaled.before, result.scaled.replicas
        direction = "up" if after > before else "down"
        self.scales[direction] += 1
        self.last_scale = LastScale(
            time=datetime.now(UTC).replace(microsecond=0),
            before=before,
            after=after,
            reason=decision.reason,
            message=decision.message[:1_024],
        )
        log.info(
            "scaled",
            gateway=self._gateway,
            before=before,
            after=after,
            reason=decision.reason.value,
            message=decision.message,
            deletion_costs=result.costs,
        )
        note = f"{before} -> {after} pods: {decision.message}"
        reason = f"Scaled{direction.capitalize()}"
        await self._event(gateway, reason, "Scale", note)

    async def _event(
        self, gateway: Reference, reason: str, action: str, note: str, *, warning: bool = False
    ) -> None:
        """Tell an event; that it is not taken changes nothing."""
        try:
            await self._api.event(
                gateway,
                reason=reason,
                action=action,
                note=note,
                warning=warning,
                by=self._settings.identity,
            )
        except KubeError as error:
            self.counts["events_lost"] += 1
            log.info("failed to create event", gateway=self._gateway, reason=str(error))

    async def _write_status(
        self, gateway: Reference, resource: Mapping[str, Any], facts: Facts
    ) -> None:
        before = resource.get("status") or {}
        made = compose(before, facts, datetime.now(UTC))
        self.conditions = {one["type"]: one["status"] for one in made["conditions"]}
        due = self._clock() - self._written_at >= self._settings.status_s
        if not (due or is_news(before, made)) or not self._may_continue():
            return
        version = str(resource["metadata"].get("resourceVersion", ""))
        try:
            answer = await self._api.patch_status(self._gateway, version, made)
        except ApiConflict:
            return  # the resource changed: it will be shown again
        except KubeError as error:
            self.failures["StatusFailed"] += 1
            log.warning("failed to write status", gateway=self._gateway, reason=str(error))
            return
        self._written_at = self._clock()
        self._served = version_of(answer)
        for one in flips(before, made):
            await self._event(
                gateway, one["reason"], f"{one['type']}Check", one["message"], warning=True
            )


def _fields(shed: Shed) -> dict[str, Any]:
    return {"pod": shed.pod, "connections": shed.connections, "over_s": round(shed.over_s, 1)}
