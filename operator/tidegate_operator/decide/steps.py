"""How far replicas may move now: a step within a period, whoever made the moves before.

Moves are those that were seen, not those that were asked for, so a change by hand counts and one
that failed does not. A step down does not make room for a larger step up, nor the other way round.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from tidegate_operator.decide.memory import Change
from tidegate_operator.model.scaling import Down, Up


def highest_now(up: Up, replicas: int, changes: Iterable[Change], now_s: float) -> int:
    """The most replicas that a step up may lead to."""
    gained = sum(one.by for one in changes if one.by > 0 and one.at_s > now_s - up.period_s)
    start = replicas - gained
    return max(replicas, start + max(up.max_pods, math.ceil(start * up.max_percent / 100)))


def lowest_now(down: Down, replicas: int, changes: Iterable[Change], now_s: float) -> int:
    """The fewest replicas that a step down may lead to."""
    lost = sum(-one.by for one in changes if one.by < 0 and one.at_s > now_s - down.period_s)
    start = replicas + lost
    return min(replicas, start - max(down.max_pods, start * down.max_percent // 100))
