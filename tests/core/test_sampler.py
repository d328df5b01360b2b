"""Each one while they are few; one in eight, at random and with its weight, while they are many."""

from __future__ import annotations

import random

import pytest

from tidegate.core.sampler import MANY_PER_S, STRIDE, WINDOW, Sampler


def picked(sampler: Sampler, count: int, per_s: float, start: float = 0.0) -> list[int]:
    """What each of so many stands for, at this rate."""
    found = []
    for n in range(count):
        stands_for = sampler.pick()
        if stands_for:
            sampler.measured(start + n / per_s)
        found.append(stands_for)
    return found


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(7)


@pytest.mark.parametrize("per_s", [1, MANY_PER_S / 10, MANY_PER_S * 0.9])
def test_few_are_all_measured(per_s: float) -> None:
    assert picked(Sampler(is_on=True), 10_000, per_s) == [1] * 10_000


@pytest.mark.parametrize("per_s", [MANY_PER_S * 4, MANY_PER_S * 100])
def test_many_are_sampled_and_what_is_counted_is_near_what_was(per_s: float) -> None:
    found = picked(Sampler(is_on=True), 100_000, per_s)
    assert set(found[:WINDOW]) == {1}
    assert set(found[WINDOW + 1 :]) <= {0, STRIDE}
    assert sum(found) == pytest.approx(100_000, rel=0.03)


def test_no_pattern_in_what_comes_is_always_or_never_hit() -> None:
    found = picked(Sampler(is_on=True), 80_000, MANY_PER_S * 10)
    for place in range(STRIDE):
        share = sum(map(bool, found[place::STRIDE])) / len(found[place::STRIDE])
        assert share == pytest.approx(1 / STRIDE, rel=0.1)


def test_after_a_pause_each_one_is_measured_again() -> None:
    sampler = Sampler(is_on=True)
    picked(sampler, 10_000, MANY_PER_S * 10)
    late = picked(sampler, 100, MANY_PER_S / 10, start=60.0)
    first = next(n for n, stands_for in enumerate(late) if stands_for)
    assert first < 2 * STRIDE - 1
    assert late[first] == STRIDE
    assert set(late[first + 1 :]) == {1}


def test_off_none_is_measured() -> None:
    assert picked(Sampler(is_on=False), 1000, 1) == [0] * 1000
