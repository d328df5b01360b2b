"""Costs are found again from totals, and are never negative."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.fit import fit
from bench.fleet_costs import POINTS, Reading, check, find_costs
from tidegate.cli.size_costs import redis_amounts, replica_amounts

REPLICA_US = (9_000.0, 2.0, 9.0, 140.0, 120.0, 8.0, 60.0)
REDIS_US = (1_000.0, 2.0, 130.0, 12.0, 14.0)


@given(st.lists(st.floats(0.1, 100), min_size=3, max_size=3))
def test_exact_totals_give_the_costs(costs: list[float]) -> None:
    rows = [(1, 0, 0), (1, 2, 0), (3, 1, 5), (0, 1, 1), (2, 2, 2)]
    totals = [sum(a * c for a, c in zip(row, costs, strict=True)) for row in rows]

    assert fit(rows, totals) == pytest.approx(costs, rel=1e-6)


def test_no_cost_is_negative() -> None:
    found = fit([(1, 1), (1, 2), (1, 3)], [10.0, 9.0, 8.0])

    assert found[1] == 0
    assert 8 <= found[0] <= 10


def test_what_tells_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="as many rows"):
        fit([(1, 2)], [1.0])
    with pytest.raises(ValueError, match="above 0"):
        fit([(1,), (2,)], [1.0, 0.0])
    with pytest.raises(ValueError, match="do not determine"):
        fit([(1, 1), (2, 2), (3, 3)], [1.0, 2.0, 3.0])


def test_the_points_tell_all_costs_apart() -> None:
    measured = {}
    for point in POINTS:
        replicas = replica_amounts(point.work, further_share=0.3)
        redis = redis_amounts(point.work, further_share=0.4)
        measured[point.name] = Reading(
            point.name,
            point.per_second,
            sum(a * c for a, c in zip(replicas, REPLICA_US, strict=True)) / 1e6,
            sum(a * c for a, c in zip(redis, REDIS_US, strict=True)) / 1e6,
            0.0,
        )

    costs = find_costs(measured)

    assert tuple(costs.replica.values()) == pytest.approx(REPLICA_US, rel=0.01)
    assert tuple(costs.redis.values()) == pytest.approx(REDIS_US, rel=0.01)
    assert (costs.replica_further_share, costs.redis_further_share) == (0.3, 0.4)
    assert max(abs(one.off) for one in check(measured, costs)) < 0.01
