"""A trace through `decide`, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from tidegate_operator.decide.decision import decide
from tidegate_operator.decide.memory import DecisionState
from tidegate_operator.decide.records import Decision, Observation, Reason
from tidegate_operator.model.gateway import GatewaySpec
from tidegate_operator.simulate.cluster import Balancer, SimulatedCluster
from tidegate_operator.simulate.trace import Point

TICK_S = 5.0
#: A Monday at midnight.
START = datetime(2026, 1, 5, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class World:
    """What is simulated around the decisions. Times in seconds.

    Attributes:
        interval_s: between two decisions; a multiple of 5.
        start_s: until a new pod is ready.
        drain_s: until a pod that is taken away is gone.
        balancer: where a viewer that connects ends up.
        replicas: at the beginning; 0: as many as the load of the first row needs.
        begins: what the calendar says at t = 0.
    """

    interval_s: float = 5.0
    start_s: float = 20.0
    drain_s: float = 30.0
    balancer: Balancer = Balancer.TURN
    replicas: int = 0
    begins: datetime = START


class ReplayedDecision(NamedTuple):
    """One decision and the moment it was taken in.

    Attributes:
        load: connections there were, seen or not.
        replicas: before the decision.
        serving: pods that took viewers.
        after: replicas after it.
    """

    t_s: float
    load: int
    replicas: int
    serving: int
    after: int
    known: bool
    decision: Decision


class Summary(NamedTuple):
    """Figures of a replay.

    Attributes:
        ups, downs: changes of replicas.
        turns: changes of direction within `down.windowS` of the one before.
        step_max: pods in the largest change.
        blind_changes: changes that were made while no figures were known.
        over_target_s: time in which the load was above what the serving pods are meant to carry.
        pod_hours: of all pods.
        reconnects: viewers that had to connect again, because of scaling or rebalancing.
        shed: of those, sent away to even out the pods.
    """

    duration_s: float
    load_peak: int
    replicas_least: int
    replicas_most: int
    ups: int
    downs: int
    turns: int
    step_max: int
    blind_changes: int
    over_target_s: float
    pod_hours: float
    reconnects: int
    shed: int


@dataclass(frozen=True, slots=True)
class Replay:
    """All samples, and their figures."""

    samples: tuple[ReplayedDecision, ...]
    summary: Summary


def replay(spec: GatewaySpec, trace: Sequence[Point], world: World) -> Replay:
    """Run a trace to its end."""
    cluster = SimulatedCluster(world.start_s, world.drain_s, world.balancer)
    cluster.begin(world.replicas or _pods_for(spec, trace[0]))
    samples = tuple(_samples(spec, trace, world, cluster))
    return Replay(samples, _summary(spec, samples, world, cluster))


def _samples(
    spec: GatewaySpec, trace: Sequence[Point], world: World, cluster: SimulatedCluster
) -> Iterator[ReplayedDecision]:
    memory = DecisionState()
    next_look_s = 0.0
    # Everyone is there when the first decision is taken.
    cluster.advance(0.0, trace[0])
    for now, after in pairwise((*trace, trace[-1]._replace(t_s=trace[-1].t_s + TICK_S))):
        while cluster.now_s + trace[0].t_s < after.t_s:
            if cluster.now_s >= next_look_s:
                next_look_s += world.interval_s
                seen = _observe(cluster, now, world)
                decision, memory = decide(spec, seen, memory)
                _act(cluster, decision)
                yield ReplayedDecision(
                    t_s=cluster.now_s,
                    load=now.connections,
                    replicas=seen.replicas,
                    serving=cluster.serving,
                    after=cluster.replicas,
                    known=seen.redis_reachable,
                    decision=decision,
                )
            cluster.advance(TICK_S, now)


def _observe(cluster: SimulatedCluster, load: Point, world: World) -> Observation:
    return Observation(
        at_s=cluster.now_s,
        wall=world.begins + timedelta(seconds=cluster.now_s),
        replicas=cluster.replicas,
        pods=cluster.seen(load),
        redis_reachable=load.leases > 0,
        undispatched=load.undispatched,
    )


def _act(cluster: SimulatedCluster, decision: Decision) -> None:
    cluster.annotate(decision.costs)
    if decision.scale is not None:
        cluster.annotate(decision.scale.costs)
        cluster.scale(decision.scale.replicas)
    cluster.shed(decision.shed)


def _pods_for(spec: GatewaySpec, load: Point) -> int:
    need = -(-load.connections // spec.scaling.connections_per_pod)
    return min(max(need, spec.scaling.min), spec.scaling.max)


def _summary(
    spec: GatewaySpec, samples: Sequence[ReplayedDecision], world: World, cluster: SimulatedCluster
) -> Summary:
    moves = [(one.t_s, one.after - one.replicas) for one in samples if one.after != one.replicas]
    turns = sum(
        1
        for (then, before), (now, by) in pairwise(moves)
        if (before > 0) != (by > 0) and now - then < spec.scaling.down.window_s
    )
    target = spec.scaling.connections_per_pod
    return Summary(
        duration_s=samples[-1].t_s,
        load_peak=max(one.load for one in samples),
        replicas_least=min(one.after for one in samples),
        replicas_most=max(one.after for one in samples),
        ups=sum(by > 0 for _, by in moves),
        downs=sum(by < 0 for _, by in moves),
        turns=turns,
        step_max=max((abs(by) for _, by in moves), default=0),
        blind_changes=sum(
            one.after != one.replicas
            for one in samples
            if not one.known and one.decision.reason is not Reason.BELOW_MIN
        ),
        over_target_s=sum(world.interval_s for one in samples if one.load > one.serving * target),
        pod_hours=round(sum(one.after for one in samples) * world.interval_s / 3_600, 2),
        reconnects=cluster.reconnects,
        shed=sum(order.connections for one in samples for order in one.decision.shed),
    )
