"""Delays between tries: doubled up to a bound, spread, and short again after a success."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.examples import examples
from tidegate.core.backoff import JITTER, Backoff


def middle(low: float, high: float) -> float:
    return (low + high) / 2


def test_doubled_up_to_the_longest_and_short_again_after_a_success() -> None:
    backoff = Backoff(0.5, 3, uniform=middle)
    assert [backoff.next_s() for _ in range(5)] == [0.5, 1, 2, 3, 3]
    backoff.reset()
    assert backoff.next_s() == 0.5
    backoff.exhaust()
    assert [backoff.next_s() for _ in range(2)] == [3, 3]


@settings(max_examples=examples(200), deadline=None)
@given(st.floats(0.001, 60), st.floats(1, 300), st.integers(1, 60))
def test_no_delay_is_outside_of_its_bounds(first_s: float, times: float, failures: int) -> None:
    longest_s = first_s * times
    backoff = Backoff(first_s, longest_s)
    for _ in range(failures):
        assert first_s * JITTER[0] <= backoff.next_s() <= longest_s * JITTER[1]
