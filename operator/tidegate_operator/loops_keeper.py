"""Looks after one Gateway while this process leads: a loop that scales, and one that sweeps.

    shown --> observe --> decide --> act --> status --> wait until it is shown again
    due   --> tick, tick, ... --> report --> wait for the interval

The first one runs when the resource is shown to it, which happens at least every `interval_s`. What
it remembers lives as long as the leadership; the rest is read again each time.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog

from tidegate.model.errors import InvalidInput, RedisUnavailable, TidegateError
from tidegate_operator.act import Actor, Done, NoLongerLeading, Writer
from tidegate_operator.decide.decision import decide
from tidegate_operator.decide.memory import Memory
from tidegate_operator.decide.records import Decision, Shed
from tidegate_operator.kube_objects import (
    Conflict,
    KubeError,
    NotFound,
    Reference,
)
from tidegate_operator.loops_pulse import Pulse
from tidegate_operator.loops_status import Facts, SweepState, compose, flips, is_news
from tidegate_operator.model.gateway import GROUP, KIND, VERSION, GatewaySpec, read_spec
from tidegate_operator.model.status import LastScale
from tidegate_operator.model.streams import Pace
from tidegate_operator.observe import Cluster, Observer, Seen
from tidegate_operator.observe_redis import RedisWay, Secrets, Way
from tidegate_operator.redis.looking import LOOK_COST, SCRIPT_COST
from tidegate_operator.redis.sweep import Fenced, Sweep
from tidegate_operator.settings import OperatorSettings
from tidegate_operator.streams.report import Report

log = structlog.get_logger(__name__)

#: A loop that waits beats so often.
BEAT_S = 5.0
#: What Kubernetes told of the pods is believed for so long by the sweep.
PODS_BELIEVED_S = 30.0
#: A count of the last sweep is a figure for scaling for so many intervals of the sweep.
COUNT_BELIEVED_INTERVALS = 2.0
SWEEP_BACKOFF_MIN_S, SWEEP_BACKOFF_MAX_S = 0.5, 15.0
#: A new leader sweeps soon, but not at once: it may not be the only thing that has just begun.
FIRST_SWEEP_S = (1.0, 5.0)


class Api(Cluster, Writer, Secrets, Protocol):
    """All that is asked of Kubernetes; `Kube` is one."""

    async def patch_status(
        self, name: str, version: str | None, status: Mapping[str, Any]
    ) -> dict[str, Any]: ...

    async def event(
        self, regarding: Reference, *, reason: str, action: str, note: str, warning: bool, by: str
    ) -> None: ...


class Keeper:
    """One Gateway. `show` it, and `run` until cancelled."""

    def __init__(
        self,
        name: str,
        api: Api,
        settings: OperatorSettings,
        pulse: Pulse,
        *,
        may_continue: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self.name = name
        self._api = api
        self._settings = settings
        self._pulse = pulse
        self._may_continue = may_continue
        self._clock = clock
        self._redis = RedisWay(api, settings, clock)
        self._observer = Observer(api, self._redis, clock)
        self._actor = Actor(api, may_continue, clock)
        self._memory = Memory()
        self._resource: Mapping[str, Any] = {}
        self._shown = asyncio.Event()
        self._changed = asyncio.Event()
        self._written_at = float("-inf")
        self.spec: GatewaySpec | None = None
        self.seen: Seen | None = None
        self.seen_at = float("-inf")
        self.decision: Decision | None = None
        self.done: Done | None = None
        self.last_scale: LastScale | None = None
        self.sweep = SweepState(datetime.now(UTC))
        self.sweep_ended_at = float("-inf")
        self.conditions: Mapping[str, str] = {}
        self.decisions: Counter[str] = Counter()
        self.scales: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.expired: Counter[str] = Counter()
        self.changes: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    def show(self, resource: Mapping[str, Any]) -> None:
        """This is the resource now: look, decide, act."""
        self._resource = resource
        self._shown.set()

    async def run(self) -> None:
        """Both loops, until cancelled."""
        loops = (f"scale/{self.name}", f"sweep/{self.name}")
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._scaling(loops[0]), name=loops[0])
                tasks.create_task(self._sweeping(loops[1]), name=loops[1])
        finally:
            for loop in loops:
                self._pulse.forget(loop)
            await self._redis.close()

    def state(self) -> dict[str, Any]:
        """For people: what was last seen and decided."""
        seen, decision, report = self.seen, self.decision, self.sweep.report
        made: dict[str, Any] = {"conditions": dict(self.conditions)}
        if seen is not None:
            look = seen.observation
            made["replicas"] = look.replicas
            made["pods"] = {
                pod.name: {
                    "ready": pod.ready,
                    "terminating": pod.terminating,
                    "connections": None if pod.figures is None else pod.figures.connections,
                }
                for pod in look.pods
            }
        if decision is not None:
            made["decision"] = {
                "desired": decision.desired,
                "reason": decision.reason.value,
                "message": decision.message,
            }
        if self.done is not None:
            made["failures"] = dict(self.done.failures)
        if report is not None:
            made["sweep"] = report.as_dict()
        return made

    # -- scaling -----------------------------------------------------------------------------------

    async def _scaling(self, loop: str) -> None:
        while True:
            await self._wait(self._shown, loop)
            self._shown.clear()
            try:
                with self._pulse.round(loop) as told:
                    told.error = await self._round(self._resource)
            except NoLongerLeading:
                continue  # the end of the leadership cancels this, unless it was renewed yet
            except Exception:
                log.exception("a round failed", gateway=self.name)

    async def _round(self, resource: Mapping[str, Any]) -> str:
        """One round; what went wrong, if anything."""
        meta = resource["metadata"]
        if meta.get("deletionTimestamp"):
            return ""
        gateway = Reference(f"{GROUP}/{VERSION}", KIND, self.name, str(meta["uid"]))
        problem: tuple[str, str] | None = None
        seen, decision, done = None, None, None
        try:
            spec = read_spec(resource.get("spec") or {})
            self._know(spec)
            seen = await self._observer.look(self.name, gateway.uid, spec, self._undispatched(spec))
            self._see(seen)
            decision, self._memory = decide(spec, seen.observation, self._memory)
            self.decisions[decision.reason] += 1
            done = await self._actor.carry_out(gateway, spec, seen, decision)
            await self._tell(gateway, decision, done)
        except InvalidInput as error:
            self._know(None)
            problem = ("InvalidSpec", str(error))
        except NotFound as error:
            self._see(None)
            text = f"there is no Deployment {self.spec.target.name}" if self.spec else str(error)
            problem = ("TargetNotFound", f"{text}: make it, or delete this Gateway")
        except KubeError as error:
            problem = (type(error).__name__, str(error))
        self.decision, self.done = decision, done
        facts = Facts(
            generation=int(meta.get("generation", 0)),
            spec=self.spec,
            problem=problem,
            seen=seen,
            decision=decision,
            done=done,
            scaled=self.last_scale,
            sweep=self.sweep,
        )
        await self._write_status(gateway, resource, facts)
        return "" if problem is None else problem[1]

    def _know(self, spec: GatewaySpec | None) -> None:
        self.spec = spec
        self._changed.set()

    def _see(self, seen: Seen | None) -> None:
        self.seen = seen
        if seen is not None:
            self.seen_at = self._clock()
        self._changed.set()

    def _undispatched(self, spec: GatewaySpec) -> int | None:
        report = self.sweep.report
        limit_s = COUNT_BELIEVED_INTERVALS * spec.streams.pace.interval_s
        if report is None or self._clock() - self.sweep_ended_at > limit_s:
            return None
        return report.tally.undispatched

    async def _tell(self, gateway: Reference, decision: Decision, done: Done) -> None:
        """The log, counts and events of what was done."""
        for word, text in done.failures.items():
            self.failures[word] += 1
            log.warning("not done", gateway=self.name, failure=word, reason=text)
        for shed in done.shed:
            self.counts["shed"] += shed.connections
            log.info("rebalancing", gateway=self.name, **_fields(shed))
        if done.removed or done.kept:
            note = f"mode {self.spec.scaling.mode}" if self.spec else ""
            log.info("autoscalers", gateway=self.name, removed=done.removed, written=done.kept)
            for one in done.removed:
                await self._event(gateway, "AutoscalerRemoved", "HandOver", f"{one}: {note}")
            if done.kept:
                await self._event(gateway, "AutoscalerWritten", "HandOver", f"{done.kept}: {note}")
        if done.scaled is None:
            return
        before, after = done.scaled.before, done.scaled.replicas
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
            gateway=self.name,
            before=before,
            after=after,
            reason=decision.reason.value,
            message=decision.message,
            deletion_costs=done.costs,
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
            log.info("event not taken", gateway=self.name, reason=str(error))

    async def _write_status(
        self, gateway: Reference, resource: Mapping[str, Any], facts: Facts
    ) -> None:
        before = resource.get("status") or {}
        made = compose(before, facts, datetime.now(UTC))
        self.conditions = {one["type"]: one["status"] for one in made["conditions"]}
        due = self._clock() - self._written_at >= self._settings.status_s
        if not (is_news(before, made) or (due and before != made)) or not self._may_continue():
            return
        version = str(resource["metadata"].get("resourceVersion", ""))
        try:
            await self._api.patch_status(self.name, version, made)
        except Conflict:
            return  # the resource changed: it will be shown again
        except KubeError as error:
            self.failures["StatusFailed"] += 1
            log.warning("status not written", gateway=self.name, reason=str(error))
            return
        self._written_at = self._clock()
        for one in flips(before, made):
            await self._event(
                gateway, one["reason"], f"{one['type']}Check", one["message"], warning=True
            )

    # -- sweeping ----------------------------------------------------------------------------------

    async def _sweeping(self, loop: str) -> None:
        """Sweeps, one after the other, while there is something to sweep."""
        sweep: Sweep | None = None
        of: Way | None = None
        patience_s = SWEEP_BACKOFF_MIN_S
        next_s = self._clock() + random.uniform(*FIRST_SWEEP_S)
        try:
            while True:
                way = None if self.seen is None else self.seen.way
                spec = self.spec
                if spec is None or way is None or not spec.streams.enabled:
                    await self._wait(self._changed, loop)
                    self._changed.clear()
                    continue
                if sweep is None or way is not of:
                    if sweep is not None:
                        await sweep.close()
                    sweep, of = self._new_sweep(way), way
                if (left_s := next_s - self._clock()) > 0:
                    self._pulse.beat(loop)
                    await asyncio.sleep(min(left_s, BEAT_S))
                    continue
                try:
                    with self._pulse.round(loop, allow_s=tick_s(spec.streams.pace)) as told:
                        report, told.error = await self._tick(sweep, spec)
                except Fenced:
                    next_s = self._clock() + BEAT_S  # as above
                    continue
                if told.error:
                    next_s = self._clock() + patience_s * random.uniform(0.5, 1.0)
                    patience_s = min(2 * patience_s, SWEEP_BACKOFF_MAX_S)
                else:
                    patience_s = SWEEP_BACKOFF_MIN_S
                if report is not None:
                    self._swept(report)
                    # Longer, never shorter, so that many gateways drift apart.
                    next_s = self._clock() + spec.streams.pace.interval_s * random.uniform(1, 1.05)
        finally:
            if sweep is not None:
                await sweep.close()

    async def _tick(self, sweep: Sweep, spec: GatewaySpec) -> tuple[Report | None, str]:
        try:
            report = await sweep.tick(spec.streams)
        except Fenced:
            raise
        except TidegateError as error:
            kind = "" if isinstance(error, RedisUnavailable) else f"{type(error).__name__}: "
            text = kind + (str(error) or type(error).__name__)
            if text != self.sweep.error:
                log.warning("sweep interrupted", gateway=self.name, reason=text)
            self._set_sweep(error=text)
            return None, text
        except Exception as error:
            log.exception("a sweep failed", gateway=self.name)
            self._set_sweep(error=type(error).__name__)
            return None, type(error).__name__
        if self.sweep.error:
            self._set_sweep(error="")
        return report, ""

    def _set_sweep(self, *, error: str) -> None:
        state = self.sweep
        self.sweep = SweepState(state.began, state.report, state.ended, error)

    def _swept(self, report: Report) -> None:
        self.sweep = SweepState(self.sweep.began, report, datetime.now(UTC))
        self.sweep_ended_at = self._clock()
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
            gateway=self.name,
            streams=report.streams,
            seconds=round(report.seconds, 1),
            expiring=report.expiring,
            dry_run=report.dry_run,
            **{name: number for name, number in sorted(tally.done.items()) if number},
        )

    def _new_sweep(self, way: Way) -> Sweep:
        return Sweep(
            way.topology,
            way.settings.redis,
            may_continue=self._may_continue,
            kubernetes_pods=self._pods,
            lease_s=way.settings.slots.lease_s,
        )

    def _pods(self) -> frozenset[str] | None:
        """The names of all pods that exist, as the last look told; None when that is too old."""
        if self.seen is None or self._clock() - self.seen_at > PODS_BELIEVED_S:
            return None
        return frozenset(self.seen.pods)

    # -- waiting -----------------------------------------------------------------------------------

    async def _wait(self, event: asyncio.Event, loop: str) -> None:
        """Until the event, with a beat now and then."""
        while not event.is_set():
            self._pulse.beat(loop)
            try:
                async with asyncio.timeout(BEAT_S):
                    await event.wait()
            except TimeoutError:
                continue


def tick_s(pace: Pace) -> float:
    """How long one tick may take by its pace: a page of keys, each looked at and changed.

    SCAN's COUNT is a hint, so a page may be twice as long; a key takes four changes at the most.
    """
    keys = 2 * pace.scan_count
    commands = keys * (LOOK_COST + 4 * SCRIPT_COST) + pace.scan_count
    return commands / pace.commands_per_s + 4 * keys / pace.changes_per_s


def _fields(shed: Shed) -> dict[str, Any]:
    return {"pod": shed.pod, "connections": shed.connections, "over_s": round(shed.over_s, 1)}
