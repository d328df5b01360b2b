"""How to send everyone away without a storm: a pure plan from counts and settings.

Each tick closes as many as the one before, and the window is the most that it takes: few are gone
sooner. Each viewer is told a delay of its own; the delays add the time that the other replicas need
beyond the window, so that connects reach them at `absorb_per_s` at the most.
"""

from __future__ import annotations

import math
from typing import NamedTuple

TICK_S = 0.1


class DrainPlan(NamedTuple):
    """So many closes at each tick, and delays drawn evenly from 0 to `spread_s`."""

    per_tick: int
    ticks: int
    spread_s: float


def plan_drain(
    connections: int, *, window_s: float, absorb_per_s: float, jitter_s: float
) -> DrainPlan:
    """The plan for so many connections; without any it is empty."""
    if connections <= 0:
        return DrainPlan(0, 0, jitter_s)
    ticks = max(1, round(window_s / TICK_S))
    per_tick = math.ceil(connections / ticks)
    needed_s = connections / absorb_per_s
    return DrainPlan(
        per_tick, math.ceil(connections / per_tick), max(jitter_s, needed_s - window_s)
    )
