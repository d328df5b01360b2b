"""The plan of a drain sends everybody away, within its window, no faster than others can take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.drain import TICK_S, DrainPlan, plan_drain


@given(
    connections=st.integers(1, 100_000),
    window_s=st.floats(0, 3600),
    absorb_per_s=st.floats(1, 100_000),
    jitter_s=st.floats(0, 300),
)
def test_everybody_leaves_in_time_and_nobody_is_overrun(
    connections: int, window_s: float, absorb_per_s: float, jitter_s: float
) -> None:
    plan = plan_drain(connections, window_s=window_s, absorb_per_s=absorb_per_s, jitter_s=jitter_s)
    assert plan.per_tick * plan.ticks >= connections
    assert plan.per_tick * (plan.ticks - 1) < connections
    assert (plan.ticks - 1) * TICK_S <= window_s
    assert plan.spread_s >= jitter_s
    assert connections <= absorb_per_s * (window_s + plan.spread_s) * (1 + 1e-9)


@pytest.mark.parametrize("connections", [0, -1])
def test_nobody_is_sent_nowhere(connections: int) -> None:
    plan = plan_drain(connections, window_s=1, absorb_per_s=1, jitter_s=2)
    assert plan == DrainPlan(0, 0, 2)
