"""How far replicas may move now: a step within a period, whoever made the moves before.

Moves are those that were seen, not those that were asked for, so a change by hand counts and one
that failed does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from tidegate_operator.decide.memory import Change
from tidegate_operator.model.scaling import Down, Up


def highest_now(up: Up, replicas: int, changes: Iterable[Change], now_s: float) -> int:
    """The most replicas that a step up may lead to."""
    start = _at_period_start(replicas, changes, now_s - up.period_s)
    return max(replicas, start + max(up.max_pods, math.ceil(start * up.max_percent / 100)))


def lowest_now(down: Down, replicas: int, changes: Iterable[Change], now_s: float) -> int:
    """The fewest replicas that a step down may lead to."""
    start = _at_period_start(replicas, changes, now_s - down.period_s)
    return min(replicas, start - max(down.max_pods, start * down.max_percent // 100))


def _at_period_start(replicas: int, changes: Iterable[Change], since_s: float) -> int:
    return replicas - sum(change.by for change in changes if change.at_s > since_s)
