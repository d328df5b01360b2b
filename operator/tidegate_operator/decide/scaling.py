"""How many pods there should be: the algorithm of mode `internal`.

    least, most   pods' worth of load that is certain, and that is possible (`demand.py`)
    up            to ceil(least), once least exceeds the pods there are by `up.tolerancePercent`
    down          to ceil(most / (1 - down.tolerancePercent)): after the step the load is that far
                  below the pods' target; the highest such need of `down.windowS` counts
    in between    nothing

So a load that stands still leads to one number and stays there: after a step up to ceil(x), down
needs at least ceil(x); after a step down the load is at most (1 - tolerance) of the pods. To turn
round it must cross the band between the two tolerances.

Up goes at once, in steps (`steps.py`). Down also waits for a window, for the last step up to be
over, for draining pods (their viewers come back as load) and for a rolling update to end. The
bounds go before all this upwards: below `min` nothing waits. Downwards from above `max` the steps
stay, because every pod less makes viewers connect again.

The form is that of HorizontalPodAutoscaler (tolerance, stabilisation, rate policies, and its
assumptions about missing pods) and of Knative's KPA (fast up, slow down).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from tidegate_operator.decide.demand import without_lease
from tidegate_operator.decide.memory import DecisionState
from tidegate_operator.decide.records import Demand, Observation, Reason
from tidegate_operator.decide.schedule import Bounds
from tidegate_operator.decide.steps import highest_now, lowest_now
from tidegate_operator.model.scaling import Scaling

#: Division leaves dust: 3.0000000001 pods' worth are 3.
_DUST = 1e-9


class Move(NamedTuple):
    """Replicas to be written, the same as now to leave them, and why.

    `desired` is where this leads if the load stays; `limited`: the load asks for more than `max`.
    """

    replicas: int
    desired: int
    reason: Reason
    message: str
    limited: bool = False


class Needs(NamedTuple):
    """Pods for the load of one moment.

    Attributes:
        up: pods that the certain load fills.
        down: the fewest that do for the possible load, with room to spare; None: unknown.
        by: the signal that asks for most.
    """

    up: int
    down: int | None
    by: str


def needs(scaling: Scaling, asked: Sequence[Demand], replicas: int) -> Needs:
    """What the demands mean for so many replicas; within the tolerance `up` is no more than now."""
    strongest = max(asked, key=lambda one: (one.least, one.most))
    least, most = strongest.least, max(one.most for one in asked)
    up = _ceil(least)
    if least <= replicas * (1 + scaling.up.tolerance_percent / 100) + _DUST:
        up = min(up, replicas)
    room = 1 - scaling.down.tolerance_percent / 100
    return Needs(up, None if math.isinf(most) else _ceil(most / room), strongest.signal)


def move(
    scaling: Scaling,
    floor: int,
    bounds: Bounds,
    seen: Observation,
    need: Needs,
    memory: DecisionState,
) -> Move:
    """The next step.

    Args:
        scaling: tolerances and steps.
        floor: `spec.replicas`: never fewer, within the bounds.
        bounds: that hold now.
        seen: replicas, pods, the rollout.
        need: of this moment.
        memory: needs and changes until now, this moment's too.
    """
    now = seen.replicas
    if now == 0:
        return Move(
            0,
            0,
            Reason.SWITCHED_OFF,
            "the Deployment was scaled to 0: scale it to 1 or more, and it is scaled again",
        )
    low = min(max(bounds.min, floor), bounds.max)
    limited = need.up > bounds.max
    wanted = min(max(need.up, low), bounds.max)
    if wanted > now:
        return _up(scaling, low, wanted, seen, need, memory, bounds)._replace(limited=limited)
    if now > bounds.max:
        return _above_max(scaling, bounds, seen, need, memory)._replace(limited=limited)
    return _down(scaling, low, seen, need, memory)._replace(limited=limited)


def _up(
    scaling: Scaling,
    low: int,
    wanted: int,
    seen: Observation,
    need: Needs,
    memory: DecisionState,
    bounds: Bounds,
) -> Move:
    now = seen.replicas
    top = highest_now(scaling.up, now, memory.changes, seen.at_s)
    replicas = max(min(wanted, top), low)
    if replicas == low and low > now:
        by_hand = low > bounds.min
        text = f"spec.replicas asks for {low}" if by_hand else f"the least is {low}"
        return Move(replicas, wanted, Reason.BY_HAND if by_hand else Reason.BELOW_MIN, text)
    text = f"{need.by} asks for {need.up} pods"
    if replicas <= now:
        return Move(
            now, wanted, Reason.STEP_LIMIT, f"{text}; the step of this period has been made"
        )
    return Move(replicas, wanted, Reason.LOAD_UP, text)


def _above_max(
    scaling: Scaling, bounds: Bounds, seen: Observation, need: Needs, memory: DecisionState
) -> Move:
    now = seen.replicas
    text = f"the most is {bounds.max}"
    held = _held(seen, need)
    if held is not None:
        return Move(now, bounds.max, held[0], f"{text}; {held[1]}")
    step = max(bounds.max, lowest_now(scaling.down, now, memory.changes, seen.at_s))
    if step >= now:
        return Move(now, bounds.max, Reason.STEP_LIMIT, f"{text}; the step was made")
    return Move(step, bounds.max, Reason.ABOVE_MAX, text)


def _down(
    scaling: Scaling, low: int, seen: Observation, need: Needs, memory: DecisionState
) -> Move:
    now = seen.replicas
    if need.down is None:
        return Move(now, now, *_held_for_figures(seen))
    desired = max(low, min(need.down, now))
    text = f"{need.by} asks for {need.down} pods"
    if desired >= now:
        return Move(now, now, Reason.STEADY, f"{text}, the least is {low}")
    held = _held(seen, need) or _too_soon(scaling, seen, memory)
    if held is not None:
        return Move(now, desired, held[0], f"{text}; {held[1]}")
    highest = max((past.pods for past in memory.needs), default=now)
    target = max(low, highest)
    if target >= now:
        window = f"{highest} in the last {scaling.down.window_s} s"
        return Move(now, desired, Reason.WINDOW, f"{text}, {window}")
    step = max(target, lowest_now(scaling.down, now, memory.changes, seen.at_s))
    if step >= now:
        return Move(now, desired, Reason.STEP_LIMIT, f"{text}; the step was made")
    return Move(step, desired, Reason.LOAD_DOWN, text)


def _held(seen: Observation, need: Needs) -> tuple[Reason, str] | None:
    """Why nothing may be taken away now, whatever the load."""
    if seen.rolling_out:
        return Reason.ROLLOUT, "waiting for the rolling update"
    if need.down is None:
        return _held_for_figures(seen)
    draining = [pod.name for pod in seen.pods if pod.terminating and pod.figures is not None]
    if draining:
        return Reason.DRAINING, f"waiting for {', '.join(sorted(draining))} to drain"
    return None


def _held_for_figures(seen: Observation) -> tuple[Reason, str]:
    if not seen.redis_reachable:
        return Reason.UNKNOWN, "Redis is away, so no figures are known: replicas stay"
    missing = ", ".join(without_lease(seen)) or "a signal"
    return Reason.UNKNOWN, f"no figures of {missing}: replicas stay"


def _too_soon(
    scaling: Scaling, seen: Observation, memory: DecisionState
) -> tuple[Reason, str] | None:
    down = scaling.down
    if memory.grew_since(seen.at_s - down.after_up_s):
        return Reason.AFTER_UP, f"a pod was added in the last {down.after_up_s} s"
    since = memory.since_s
    if since is None or seen.at_s - since < down.window_s:
        return Reason.WINDOW, f"figures are known for less than {down.window_s} s"
    return None


def _ceil(pods: float) -> int:
    return math.ceil(pods - _DUST)
