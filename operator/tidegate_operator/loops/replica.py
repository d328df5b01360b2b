"""One replica of the operator: the election, and while it leads, a reconciler for each Gateway.

    run: health port > election > (leading) rounds of the fleet > reconcilers
                     > watchdog

All tasks belong to one TaskGroup. Each round lists the Gateways and shows each one to its
reconciler, so a watch that went silent delays a change and loses none. Whatever ends one of these
tasks ends the process, after the Lease was given up: Kubernetes starts it again, and another one
goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import structlog

from tidegate import __version__
from tidegate.model.errors import TidegateError
from tidegate_operator.kube.client import Kube
from tidegate_operator.kube.errors import ApiNotFound, KubeError
from tidegate_operator.leader.candidate import Leader
from tidegate_operator.loops.definition import MISSING, DefinitionState
from tidegate_operator.loops.leaderless import PATIENCE_TERMS, explain, tell_leaderless
from tidegate_operator.loops.loop_health import LoopHealth
from tidegate_operator.loops.numbers import numbers_of
from tidegate_operator.loops.reconciler import GatewayReconciler
from tidegate_operator.loops.scope import Scope
from tidegate_operator.settings import OperatorSettings
from tidegate_operator.telemetry.health import Health, serve_health
from tidegate_operator.telemetry.metrics import Numbers, new_registry

log = structlog.get_logger(__name__)

FLEET = "gateways"
WATCH_S = 1.0
#: Gateways of one namespace that are looked after; each costs connections to its Redis.
GATEWAYS_MAX = 200


class LoopStuck(TidegateError):
    """A loop sits in something that does not end."""


class Operator:
    """One replica. `run` until `stop`; `wake` when a Gateway changed."""

    def __init__(self, settings: OperatorSettings, kube: Kube) -> None:
        self._settings = settings
        self._kube = kube
        self._clock = time.monotonic
        self._health = LoopHealth(self._clock)
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()
        self._scope = Scope.of(settings)
        self._others: set[str] = set()
        self._definition = DefinitionState()
        self._reconcilers: dict[str, tuple[GatewayReconciler, asyncio.Task[None]]] = {}
        self._leader = Leader(
            kube,
            lease=settings.lease,
            identity=settings.identity,
            terms=settings.terms,
            work=self._lead,
        )
        #: What reconcilers of ended leaderships and deleted Gateways have counted.
        self._counted: defaultdict[str, dict[tuple[str, ...], float]] = defaultdict(dict)

    def wake(self) -> None:
        """Look now."""
        self._woken.set()

    def stop(self) -> None:
        """End all loops, give the Lease up, end. Any number of times."""
        self._stopping.set()
        self._leader.stop()

    async def run(self) -> None:
        """Run until `stop`.

        Raises:
            TidegateError: the port is taken, or a loop is stuck.
        """
        settings = self._settings
        async with serve_health(
            settings.host,
            settings.port,
            alive=self.alive,
            ready=self.ready,
            state=self.state,
            registry=new_registry(self.numbers),
        ) as port:
            log.info(
                "serving",
                version=__version__,
                namespace=settings.namespace,
                identity=settings.identity,
                port=port,
            )
            try:
                async with asyncio.TaskGroup() as tasks:
                    watchdog = tasks.create_task(self._watchdog(), name="watchdog")
                    leaderless = tasks.create_task(self._leaderless(), name="leaderless")
                    election = tasks.create_task(self._leader.run(), name="election")
                    await asyncio.wait({election, watchdog}, return_when=asyncio.FIRST_COMPLETED)
                    watchdog.cancel()
                    leaderless.cancel()
            except BaseExceptionGroup as group:
                raise _first(group) from group
        log.info("stopped")

    # -- leading -----------------------------------------------------------------------------------

    async def _lead(self) -> None:
        """The leader's work: rounds of the fleet, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    self._woken.clear()
                    try:
                        with self._health.round(FLEET):
                            await self._reconcile_all(tasks)
                    except KubeError as error:
                        log.warning("failed to list gateways", reason=str(error))
                    await self._rest()
        finally:
            for reconciler, _ in self._reconcilers.values():
                self._count(reconciler)
            self._reconcilers.clear()
            self._health.forget(FLEET)

    async def _rest(self) -> None:
        """Until the next round is due or asked for."""
        try:
            async with asyncio.timeout(self._settings.interval_s):
                await self._woken.wait()
        except TimeoutError:
            pass

    async def _reconcile_all(self, tasks: asyncio.TaskGroup) -> None:
        """A reconciler for each Gateway, and each Gateway for its reconciler to look at."""
        every = {str(one["metadata"]["name"]): one for one in await self._gateways()}
        found = {name: one for name, one in every.items() if self._scope.serves(name)}
        others = set(every) - set(found)
        for name in sorted(others - self._others):
            serves = self._settings.gateway
            log.info("gateway not served by this operator", gateway=name, serves=serves)
        self._others = others
        for name in sorted(set(self._reconcilers) - set(found)):
            log.info("gateway deleted", gateway=name)
            reconciler, task = self._reconcilers.pop(name)
            task.cancel()
            self._count(reconciler)
        for name, resource in sorted(found.items()):
            if name not in self._reconcilers:
                if len(self._reconcilers) >= GATEWAYS_MAX:
                    log.error("too many gateways", limit=GATEWAYS_MAX, left_out=name)
                    continue
                log.info("gateway added", gateway=name)
                reconciler = GatewayReconciler(
                    name,
                    self._kube,
                    self._settings,
                    self._health,
                    may_continue=self._leader.leads,
                    clock=self._clock,
                )
                self._reconcilers[name] = (
                    reconciler,
                    tasks.create_task(reconciler.run(), name=f"reconcile {name}"),
                )
            self._reconcilers[name][0].show(resource)

    async def _leaderless(self) -> None:
        """Says so when nobody leads; the leader says everything else."""
        while True:
            await asyncio.sleep(self._settings.terms.duration_s / 2)
            if (message := self._no_leader()) is not None:
                serves = self._settings.gateway or ""
                await tell_leaderless(self._kube, serves, message, by=self._settings.identity)

    def _no_leader(self) -> str | None:
        """Why nobody leads, once that is more than a takeover."""
        since_s = self._leader.leaderless_s()
        if since_s < PATIENCE_TERMS * self._settings.terms.duration_s:
            return None
        return explain(self._settings.lease, since_s, self._leader.trouble)

    async def _gateways(self) -> list[dict[str, Any]]:
        """All there are; none without their definition, with which they are gone, too."""
        try:
            found = await self._kube.gateways()
        except ApiNotFound:
            self._definition.lost()
            return []
        self._definition.found()
        return found

    async def is_served(self) -> bool:
        """Whether the API server serves Gateways. Raises KubeError: it cannot be asked."""
        await self._gateways()
        return not self._definition.is_missing

    # -- health ------------------------------------------------------------------------------------

    async def _watchdog(self) -> None:
        """Ends the process when a loop is stuck: the Lease is given up on the way out."""
        while True:
            await asyncio.sleep(WATCH_S)
            if stuck := self._health.stuck(self._settings.stuck_s):
                raise LoopStuck(
                    f"no round of {', '.join(stuck)} ended within {self._settings.stuck_s:g} s"
                )

    def alive(self) -> Health:
        """Whether a restart would not help."""
        stuck = self._health.stuck(self._settings.stuck_s)
        if time.monotonic() - self._leader.turned_at > self._settings.stuck_s:
            stuck.append("election")
        if stuck:
            return Health(well=False, reason=f"stuck: {', '.join(stuck)}")
        return Health(well=True, reason="leading" if self._leader.leads() else "following")

    def ready(self) -> Health:
        """Whether it leads, or could: it has spoken with the API server, and sees a leader."""
        if self._stopping.is_set():
            return Health(well=False, reason="stopping")
        if self._leader.spoke_at is None:
            return Health(well=False, reason="the API server has not answered yet")
        if self._definition.is_missing:
            return Health(well=False, reason=MISSING)
        if (message := self._no_leader()) is not None:
            return Health(well=False, reason=message)
        return Health(well=True, reason="leading" if self._leader.leads() else "following")

    def state(self) -> dict[str, Any]:
        """For people: the last round of each gateway. No secrets."""
        return {
            "version": __version__,
            "identity": self._settings.identity,
            "leads": self._leader.leads(),
            "holder": self._leader.holder,
            "loops": {
                name: {
                    "age_s": round(self._health.age_s(name), 1),
                    "lasted_s": round(loop.lasted_s, 3),
                    "rounds": loop.rounds,
                    "errors": loop.errors,
                    "error": loop.error,
                }
                for name, loop in sorted(self._health.loops.items())
            },
            "gateways": {
                name: reconciler.state() for name, (reconciler, _) in self._reconcilers.items()
            },
        }

    # -- metrics -----------------------------------------------------------------------------------

    def numbers(self) -> Numbers:
        """The values of the metrics."""
        made: defaultdict[str, dict[tuple[str, ...], float]] = defaultdict(dict)
        for name, values in self._counted.items():
            made[name].update(values)
        reconcilers = [reconciler for reconciler, _ in self._reconcilers.values()]
        for reconciler in reconcilers:
            for name, values in numbers_of(reconciler, self._clock()).items():
                _add(made[name], values)
        made["tidegate_operator_leader"][()] = int(self._leader.leads())
        made["tidegate_operator_gateways"][()] = len(reconcilers)
        for event, number in self._leader.counts.items():
            made["tidegate_operator_election_events_total"][(event,)] = number
        for name, loop in self._health.loops.items():
            made["tidegate_operator_loop_age_seconds"][(name,)] = self._health.age_s(name)
            made["tidegate_operator_loop_duration_seconds"][(name,)] = loop.lasted_s
            made["tidegate_operator_loop_rounds_total"][(name,)] = loop.rounds
            made["tidegate_operator_loop_errors_total"][(name,)] = loop.errors
        for call, number in self._kube.calls.items():
            made["tidegate_operator_api_calls_total"][call] = number
        return made

    def _count(self, reconciler: GatewayReconciler) -> None:
        """Keep the counters of a reconciler that ends; its gauges end with it."""
        for name, values in numbers_of(reconciler, self._clock()).items():
            if name.endswith("_total"):
                _add(self._counted[name], values)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The cause; the rest is what its end brought about."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _add(to: dict[tuple[str, ...], float], values: Mapping[tuple[str, ...], float]) -> None:
    for labels, value in values.items():
        to[labels] = to.get(labels, 0) + value
