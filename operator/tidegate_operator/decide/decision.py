"""From an observation to a decision: the one function that the operator and the simulator call."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from tidegate_operator.decide import costs, rebalance
from tidegate_operator.decide.demand import demands
from tidegate_operator.decide.memory import DecisionState
from tidegate_operator.decide.records import (
    Decision,
    DeletionCost,
    Demand,
    Observation,
    Reason,
    Scale,
)
from tidegate_operator.decide.scaling import Move, Needs, move, needs
from tidegate_operator.decide.schedule import bounds_at
from tidegate_operator.decide.steps import lowest_now
from tidegate_operator.decide.writer import Writing, writing
from tidegate_operator.model.gateway import GatewaySpec
from tidegate_operator.model.scaling import Mode, Scaling


class DecisionResult(NamedTuple):
    """What to do, and what to remember until the next observation."""

    decision: Decision
    memory: DecisionState


def decide(spec: GatewaySpec, seen: Observation, memory: DecisionState) -> DecisionResult:
    """What to do about a gateway now.

    Nothing is assumed to have been done: the next observation tells what was.
    """
    scaling = spec.scaling
    memory = memory.looked(seen.at_s, seen.replicas, keep_s=_longest_s(scaling))
    asked = demands(scaling, seen, settled=_is_settled(scaling, seen, memory))
    need = needs(scaling, asked, seen.replicas)
    # What is unknown may have been needed: all that is there.
    least = need.down if need.down is not None else seen.replicas
    memory = memory.needed(seen.at_s, least, window_s=scaling.down.window_s)

    who = writing(scaling.mode, seen)
    if who.reason is not None:
        decision = _by_another(who, seen, asked)
    elif scaling.mode is Mode.NONE:
        decision = _by_hand(spec.replicas, seen, asked)
    else:
        bounds = bounds_at(scaling, seen.wall)
        step = move(scaling, spec.replicas, bounds, seen, need, memory)
        decision = _moved(step, seen, asked)
    if decision.keep is not None:
        decision, memory = _costs_for_another(scaling, decision, seen, need, memory)
    return _with_rebalancing(spec, decision, seen, memory)


def _by_another(who: Writing, seen: Observation, asked: tuple[Demand, ...]) -> Decision:
    return Decision(
        desired=seen.replicas,
        reason=who.reason or Reason.STEADY,
        message=who.message,
        remove=who.remove,
        keep=who.keep,
        demands=asked,
    )


def _by_hand(wanted: int, seen: Observation, asked: tuple[Demand, ...]) -> Decision:
    step = Move(wanted, wanted, Reason.BY_HAND, f"spec.replicas asks for {wanted}")
    if wanted == seen.replicas:
        step = step._replace(reason=Reason.STEADY, message=f"there are {wanted}, as asked")
    return _moved(step, seen, asked)


def _moved(step: Move, seen: Observation, asked: tuple[Demand, ...]) -> Decision:
    decision = Decision(
        desired=step.desired,
        reason=step.reason,
        message=step.message,
        limited=step.limited,
        demands=asked,
    )
    fewer = seen.replicas - step.replicas
    if fewer == 0:
        return decision
    given, conflict = _costs(seen, fewer)
    return replace(
        decision, scale=Scale(seen.replicas, step.replicas, given), cost_conflict=conflict
    )


def _costs(seen: Observation, fewer: int) -> tuple[tuple[DeletionCost, ...], tuple[str, ...]]:
    if fewer <= 0:
        return (), ()
    if conflict := costs.conflicts(seen.pods):
        return (), conflict
    return costs.deletion_costs(seen.pods, fewer), ()


def _costs_for_another(
    scaling: Scaling, decision: Decision, seen: Observation, need: Needs, memory: DecisionState
) -> tuple[Decision, DecisionState]:
    """Another one takes pods away without telling us before: when it is about to, by the load."""
    too_soon = seen.at_s - memory.costs_at_s < scaling.down.period_s
    if too_soon or seen.rolling_out or need.down is None or need.down >= seen.replicas:
        return decision, memory
    fewer = seen.replicas - lowest_now(scaling.down, seen.replicas, (), seen.at_s)
    given, conflict = _costs(seen, fewer)
    decision = replace(decision, costs=given, cost_conflict=conflict)
    return decision, replace(memory, costs_at_s=seen.at_s)


def _with_rebalancing(
    spec: GatewaySpec, decision: Decision, seen: Observation, memory: DecisionState
) -> DecisionResult:
    starting = any(not pod.ready and not pod.terminating for pod in seen.pods)
    grew = memory.grew_since(seen.at_s - spec.scaling.down.after_up_s)
    quiet = decision.scale is None and not (starting and grew)
    plan = rebalance.plan(spec.rebalance, seen, memory.balancing, quiet=quiet)
    return DecisionResult(
        replace(decision, shed=plan.shed, balance=plan.balance),
        replace(memory, balancing=plan.memory),
    )


def _is_settled(scaling: Scaling, seen: Observation, memory: DecisionState) -> bool:
    serving = sum(pod.serves for pod in seen.pods)
    recently = memory.grew_since(seen.at_s - scaling.down.after_up_s)
    return serving >= seen.replicas and not recently


def _longest_s(scaling: Scaling) -> float:
    return max(scaling.up.period_s, scaling.down.period_s, scaling.down.after_up_s)
