"""What the demo backend makes up."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.cli.demo_plans import plan_kind, plan_operation
from tidegate.model.ids import OperationId
from tidegate.web.demo.requests import KINDS, LONGEST_S, SHORTEST_S, Kind

ID = OperationId("demo-1")


def test_the_same_seed_gives_the_same_plans() -> None:
    one, other = random.Random(7), random.Random(7)
    assert [plan_operation(ID, one) for _ in range(20)] == [
        plan_operation(ID, other) for _ in range(20)
    ]


def test_some_fail_some_are_cancelled_and_lengths_differ() -> None:
    rng = random.Random(1)
    plans = [plan_operation(ID, rng) for _ in range(200)]
    assert {plan.outcome for plan in plans} == {"completed", "failed", "cancelled"}
    lengths = sorted(plan.length_s for plan in plans)
    assert SHORTEST_S <= lengths[0] < 10
    assert 60 < lengths[-1] <= LONGEST_S


@given(st.integers())
def test_every_plan_starts_rises_and_ends_once(seed: int) -> None:
    plan = plan_operation(ID, random.Random(seed))
    assert plan.steps[0].type == "operation_started"
    assert plan.steps[-1].type == f"operation_{plan.outcome}"
    assert [s for s in plan.steps if "operation_" in s.type] == [plan.steps[0], plan.steps[-1]]
    progress = [s.data["progress"] for s in plan.steps if s.type == "progress"]
    assert progress == sorted(progress)
    assert 0 < progress[0] <= progress[-1] <= 1
    assert (progress[-1] == 1) is (plan.outcome == "completed")
    assert sum(s.delay_s for s in plan.steps) < 1.5 * plan.length_s + 2
    assert len(plan.steps) < 1000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length_s", [SHORTEST_S, LONGEST_S])
def test_what_was_asked_for_takes_as_long_and_ends(kind: Kind, length_s: float) -> None:
    plan = plan_kind(ID, random.Random(3), kind, length_s)
    assert plan.outcome == ("failed" if kind == "failure" else "completed")
    assert plan.steps[-1].type == f"operation_{plan.outcome}"
    assert len(plan.steps) < 1000
    took_s = sum(step.delay_s for step in plan.steps)
    assert took_s < 1.5 * length_s + 2
    if kind != "failure":
        assert took_s > 0.6 * length_s
