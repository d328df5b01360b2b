"""The histogram of plain integers agrees with counting by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core import bounds
from tidegate.core.histogram import Exemplar, Histogram

VALUES = st.lists(st.tuples(st.floats(0, 20, allow_nan=False), st.integers(1, 1000)), max_size=50)


@given(VALUES)
def test_each_value_is_in_the_first_bucket_that_reaches_it(seen: list[tuple[float, int]]) -> None:
    histogram = Histogram((1, 2, 5, 10))
    for value, times in seen:
        histogram.observe(value, times)
    limits = [float("-inf"), *histogram.bounds, float("inf")]
    for index, count in enumerate(histogram.counts):
        low, high = limits[index], limits[index + 1]
        assert count == sum(times for value, times in seen if low < value <= high)
    assert histogram.count == sum(times for _, times in seen)
    assert histogram.sum == pytest.approx(sum(value * times for value, times in seen))


@given(VALUES, st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_the_bound_above_it(seen: list[tuple[float, int]], share: float) -> None:
    histogram = Histogram((1, 2, 5, 10, 20))
    for value, times in seen:
        histogram.observe(value, times)
    every = sorted(value for value, times in seen for _ in range(times))
    if not every:
        assert histogram.quantile(share) == 0
        return
    exact = every[max(0, -int(-share * len(every) // 1) - 1)]
    assert histogram.quantile(share) == min(b for b in histogram.bounds if b >= exact)


def test_above_the_last_bound_the_last_bound_is_all_that_is_known() -> None:
    histogram = Histogram((1, 2))
    histogram.observe(100)
    assert (histogram.counts, histogram.quantile(0.5)) == ([0, 0, 1], 2)


@pytest.mark.parametrize("wrong", [(), (1, 1), (2, 1)])
def test_bounds_must_rise(wrong: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="rise"):
        Histogram(wrong)


def test_an_exemplar_is_the_last_of_its_bucket() -> None:
    histogram = Histogram((1, 2))
    for value, trace in ((0.5, "a"), (0.7, "b"), (9, "c")):
        histogram.observe(value)
        histogram.explain(value, trace)
    assert histogram.exemplars == {0: Exemplar(0.7, "b"), 2: Exemplar(9, "c")}


def test_latencies_are_told_apart_from_a_tenth_of_a_millisecond_to_a_minute() -> None:
    assert (bounds.LATENCY_S[0], bounds.LATENCY_S[-1]) == (0.0001, 60)
    steps = [b / a for a, b in zip(bounds.LATENCY_S, bounds.LATENCY_S[1:], strict=False)]
    assert max(steps) <= 3
