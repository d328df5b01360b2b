"""What the demo backend makes up."""

import random

from hypothesis import given
from hypothesis import strategies as st

from tidegate.cli.demo_backend import LONGEST_S, SHORTEST_S, plan_operation
from tidegate.model.ids import OperationId

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
