"""Percentiles and spreads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stats import Spread, percentile, ratio, spread

NUMBERS = st.lists(st.integers(min_value=0, max_value=10**12), min_size=1, max_size=300)
PERCENTS = st.floats(min_value=0.1, max_value=100)


def test_percentile_takes_the_nearest_rank() -> None:
    values = [float(value) for value in range(1, 101)]

    assert percentile(values, 50) == 50
    assert percentile(values, 99) == 99
    assert percentile(values, 99.9) == 100
    assert percentile(values, 100) == 100


def test_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 1) == percentile([7.0], 99.9) == 7.0


@given(NUMBERS, PERCENTS)
def test_percentile_is_a_value_with_enough_at_or_below_it(
    numbers: list[int], percent: float
) -> None:
    value = percentile(sorted(numbers), percent)

    assert value in numbers
    share = 100 / len(numbers)
    at_or_below = sum(number <= value for number in numbers)
    below = sum(number < value for number in numbers)
    assert at_or_below * share >= percent * (1 - 1e-9)
    assert below * share < percent * (1 + 1e-9)


@pytest.mark.parametrize("percent", [0, -1, 100.1])
def test_percentile_refuses_what_is_no_percentage(percent: float) -> None:
    with pytest.raises(ValueError, match="percentage"):
        percentile([1.0], percent)


def test_nothing_has_no_percentile_and_no_spread() -> None:
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 50)
    with pytest.raises(ValueError, match="nothing"):
        spread([])


def test_spread_is_median_and_extremes() -> None:
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)


def test_ratio_says_nothing_over_nothing() -> None:
    assert ratio(6.0, 3.0) == 2.0
    assert ratio(6.0, 0.0) is None
