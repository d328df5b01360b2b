"""Timers of many viewers."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bench.million.wheel import SLOT_S, Wheel


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 2**40)), max_size=200))
def test_what_is_due_comes_once_and_not_too_early(added: list[tuple[float, int]]) -> None:
    wheel = Wheel()
    due = dict(enumerate(added))
    for index, (delay_s, _) in due.items():
        wheel.add(1000 + delay_s, index)
    seen: list[tuple[float, int]] = []
    moments = [1000 + step * 0.1 for step in range(55)]
    for moment in moments:
        seen += [(moment, index) for index in wheel.due(moment)]

    assert sorted(index for _, index in seen) == sorted(due)
    assert len(wheel) == 0
    assert wheel.next_s is None
    for moment, index in seen:
        assert moment - 0.1 - 2 * SLOT_S <= 1000 + due[index][0] <= moment
    assert all(a <= b for (a, _), (b, _) in pairwise(seen))


def test_what_is_added_meanwhile_waits_for_the_next_turn() -> None:
    wheel = Wheel()
    wheel.add(10.0, 1)
    found = []
    for one in wheel.due(11.0):
        found.append(one)
        wheel.add(10.0, 2)
    assert found == [1]
    assert list(wheel.due(12.0)) == [2]
