"""When a replica drops, refuses and closes, by how much of its container's memory is used."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.memory_pressure import (
    BACK_BY,
    GROWTH_PER_S,
    MARKS,
    SPREAD,
    MemoryLevel,
    MemoryPressure,
)

LIMIT = 256 * 1_048_576
NAMES = [f"gateway-7d4b9c-{n:05d}" for n in range(100)]


def used(share: float) -> int:
    return round(share * LIMIT)


def test_levels_rise_with_what_is_used() -> None:
    pressure = MemoryPressure(LIMIT, NAMES[0])
    levels = [pressure.update(used(share)) for share in (0.1, 0.7, 0.8, 0.85, 0.9, 1.0)]
    assert levels == [0, 0, 1, 2, 3, 3]


def test_a_level_is_left_only_well_below_its_mark() -> None:
    pressure = MemoryPressure(LIMIT, NAMES[0])
    assert pressure.update(used(0.9)) is MemoryLevel.CLOSING
    lowest = MARKS[MemoryLevel.DROPPING] - SPREAD - BACK_BY
    assert pressure.update(used(MARKS[MemoryLevel.CLOSING] - SPREAD - BACK_BY - 0.001)) < 3
    assert pressure.update(used(MARKS[MemoryLevel.DROPPING] - SPREAD)) is MemoryLevel.DROPPING
    assert pressure.update(used(lowest - 0.001)) is MemoryLevel.NORMAL
    assert pressure.update(used(lowest + 0.001)) is MemoryLevel.NORMAL


def test_replicas_that_are_filled_alike_do_not_all_act_at_once() -> None:
    replicas = [MemoryPressure(LIMIT, name) for name in NAMES]
    middle = used(MARKS[MemoryLevel.DROPPING] - SPREAD / 2)
    acting = sum(one.update(middle) is MemoryLevel.DROPPING for one in replicas)
    assert 25 < acting < 75
    assert MemoryPressure(LIMIT, NAMES[0]).update(middle) == replicas[0].level, "the same each time"


@given(st.integers(0, LIMIT), st.integers(0, LIMIT))
def test_no_level_is_reached_before_its_time(amount: int, grown: int) -> None:
    pressure = MemoryPressure(LIMIT, "pod")
    level = pressure.update(amount)
    later = amount + min(grown, int(pressure.time_to_next(amount) * GROWTH_PER_S) - 1)
    assert later < LIMIT
    assert pressure.update(later) <= level


@given(st.lists(st.integers(0, 2 * LIMIT), max_size=50), st.integers(1, LIMIT))
def test_the_excess_is_what_brings_it_below_the_last_level(amounts: list[int], limit: int) -> None:
    pressure = MemoryPressure(limit, "pod")
    for amount in amounts:
        level = pressure.update(amount)
        excess = pressure.excess(amount)
        assert 0 <= excess <= amount
        if level is MemoryLevel.CLOSING:
            assert pressure.update(max(0, amount - excess - 1)) < MemoryLevel.CLOSING
