"""Sending viewers of over-full pods away, until no pod has much more than the mean.

    EVEN --a pod above 1 + 1.5 tolerance--> SHEDDING --none above 1 + tolerance--> EVEN
    SHEDDING --three rounds without gain--> GIVEN_UP --half an hour--> EVEN
    any --figures missing, pods starting or draining, rollout--> WAITING, and back

A round has every over-full pod send away what it has above the mean, all pods together at the
rate of the spec, and then waits until the pods' figures show it. Where those viewers come back is
up to the load balancer. With one that takes pods in turn or at random some return to full pods, and
each round leaves a part of the excess that is as large as the part of full pods; with one that
takes the pod with the fewest connections a single round does it. With one that sends a client to
the same pod always nothing helps, so it is given up.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from tidegate_operator.decide.memory import Balancing
from tidegate_operator.decide.records import Balance, Observation, Shed
from tidegate_operator.model.gateway import RebalanceSpec

#: Longest time over which a round spreads its closes: what a round decides grows old.
ROUND_S = 20.0
#: From the last close of a round until the figures show where its viewers went: a viewer's delay
#: before it comes back, and a renewal of the leases.
SETTLE_S = 10.0
BEGIN_FACTOR = 1.5
#: Fewer viewers above the mean than this are no load to speak of, whatever their percentage.
EXCESS_MIN = 4
FRUITLESS_MAX = 3
REST_S = 1_800.0


class RebalancePlan(NamedTuple):
    """What to shed now, and what to remember."""

    shed: tuple[Shed, ...]
    balance: Balance
    memory: Balancing


def plan(
    rules: RebalanceSpec, seen: Observation, memory: Balancing, *, quiet: bool
) -> RebalancePlan:
    """The next round, or none.

    Args:
        rules: tolerance and rate.
        seen: the pods and their figures.
        memory: of the last plan.
        quiet: no pod was started a short time ago that is not ready yet, and replicas are not
            being changed right now.
    """
    if not rules.enabled:
        return RebalancePlan((), Balance.OFF, Balancing())
    if seen.at_s < memory.not_before_s:
        resting = memory.fruitless >= FRUITLESS_MAX
        return RebalancePlan((), Balance.GIVEN_UP if resting else Balance.SHEDDING, memory)
    counts = _connections(seen)
    if not quiet or counts is None:
        return RebalancePlan((), Balance.WAITING, memory)
    if len(counts) < 2:
        return RebalancePlan((), Balance.EVEN, Balancing())
    if memory.fruitless >= FRUITLESS_MAX:
        memory = Balancing()

    mean = sum(counts.values()) / len(counts)
    tolerated = max(mean * rules.tolerance_percent / 100, EXCESS_MIN)
    if max(counts.values()) - mean <= tolerated * (1 if memory.under_way else BEGIN_FACTOR):
        return RebalancePlan((), Balance.EVEN, Balancing())

    excess = sum(max(0.0, n - mean) for n in counts.values())
    fruitless = memory.fruitless + 1 if _was_fruitless(memory, excess, len(counts)) else 0
    memory = replace(memory, fruitless=fruitless)
    if fruitless >= FRUITLESS_MAX:
        return RebalancePlan((), Balance.GIVEN_UP, replace(memory, not_before_s=seen.at_s + REST_S))
    shed = _round(rules, counts, mean, tolerated)
    memory = replace(
        memory,
        under_way=True,
        excess=excess,
        sent_away=sum(one.connections for one in shed),
        not_before_s=seen.at_s + max(one.over_s for one in shed) + SETTLE_S,
    )
    return RebalancePlan(shed, Balance.SHEDDING, memory)


def _was_fruitless(memory: Balancing, excess: float, pods: int) -> bool:
    """Viewers that come back on any pod with the same chance leave one in `pods` behind at least,
    where only one pod is not over-full; half of that is taken for nothing.
    """
    return memory.under_way and excess > memory.excess - memory.sent_away / (2 * pods)


def _connections(seen: Observation) -> dict[str, int] | None:
    """Connections of the serving pods; None while they say little about the load to come."""
    if not seen.redis_reachable or seen.rolling_out:
        return None
    counts: dict[str, int] = {}
    for pod in seen.pods:
        if pod.serves and pod.figures is None:
            return None
        if pod.terminating and pod.figures is not None and pod.figures.connections > 0:
            return None
        if pod.serves and pod.figures is not None:
            counts[pod.name] = pod.figures.connections
    return counts


def _round(
    rules: RebalanceSpec, counts: dict[str, int], mean: float, tolerated: float
) -> tuple[Shed, ...]:
    excess = {name: int(n - mean) for name, n in counts.items() if n - mean > tolerated}
    budget = int(rules.rate_per_s * ROUND_S)
    total = sum(excess.values())
    part = min(1.0, budget / total)
    # Rounded down for each, so that the sum keeps the rate; the worst one gets one at least.
    shares = {name: int(n * part) for name, n in excess.items()}
    if not any(shares.values()):
        shares[max(excess, key=lambda name: excess[name])] = 1
    over_s = max(1.0, sum(shares.values()) / rules.rate_per_s)
    return tuple(Shed(name, n, over_s) for name, n in sorted(shares.items()) if n > 0)
