"""Reconciles one Gateway while this process leads: a loop that scales, and one that sweeps.

shown --> observe --> decide --> act --> status --> wait until it is shown again
due   --> tick, tick, ... --> report --> wait for the interval
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from tidegate_operator.loops.loop_health import LoopHealth
from tidegate_operator.loops.scaling import Api, ScalingLoop
from tidegate_operator.loops.sweeping import SweepLoop
from tidegate_operator.observe.redis_connection import RedisConnector
from tidegate_operator.settings import OperatorSettings


class GatewayReconciler:
    """One Gateway. `show` it, and `run` until cancelled."""

    def __init__(
        self,
        name: str,
        api: Api,
        settings: OperatorSettings,
        health: LoopHealth,
        *,
        may_continue: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self.name = name
        self._health = health
        self._redis = RedisConnector(api, settings, clock)
        self.sweep = SweepLoop(name, health, may_continue=may_continue, clock=clock)
        self.scaling = ScalingLoop(
            name,
            api,
            self._redis,
            settings,
            health,
            self.sweep,
            may_continue=may_continue,
            clock=clock,
        )

    def show(self, resource: Mapping[str, Any]) -> None:
        """This is the resource now."""
        self.scaling.show(resource)

    async def run(self) -> None:
        """Both loops, until cancelled."""
        loops = (self.scaling, self.sweep)
        try:
            async with asyncio.TaskGroup() as tasks:
                for loop in loops:
                    tasks.create_task(loop.run(), name=loop.name)
        finally:
            for loop in loops:
                self._health.forget(loop.name)
            await self._redis.close()

    def state(self) -> dict[str, Any]:
        """For people: what was last seen and decided."""
        scaling, report = self.scaling, self.sweep.state.report
        snapshot, decision = scaling.snapshot, scaling.decision
        made: dict[str, Any] = {"conditions": dict(scaling.conditions)}
        if snapshot is not None:
            look = snapshot.observation
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
        if scaling.result is not None:
            made["failures"] = dict(scaling.result.failures)
        if report is not None:
            made["sweep"] = report.as_dict()
        return made
