"""The clock of a server is known as well as its answers allow, and never worse than it says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.clock import PHI, STAGES, ServerClock

EPOCH = 1_795_413_516.0
WAY_S = st.floats(0, 0.5, allow_nan=False)


def test_before_an_answer_nothing_is_known() -> None:
    clock = ServerClock()
    assert clock.offset_s is None
    assert clock.error_s(0.0) == float("inf")


@given(
    st.floats(-1e6, 1e6, allow_nan=False),
    st.lists(st.tuples(WAY_S, WAY_S), min_size=1, max_size=30),
    st.floats(-PHI, PHI, allow_nan=False),
)
def test_the_error_is_never_above_its_bound(
    offset_s: float, ways: list[tuple[float, float]], drift: float
) -> None:
    """Whatever the way there and the way back take, and while the clocks drift."""
    clock, now = ServerClock(), 1000.0

    def server(at: float) -> float:
        return EPOCH + offset_s + at + drift * (at - 1000.0)

    for there, back in ways:
        sent, received = now, now + there + back
        clock.answered(sent, received, server(sent + there))
        assert clock.offset_s is not None
        # Of an answer the round trip is drifted through as well; floats at 1e9 have 0.2 us.
        allowed = clock.error_s(received) + PHI * (there + back) + 1e-6
        assert abs(server(received) - (received + clock.offset_s)) <= allowed
        now = received + 1.0
    later = now + 3600
    assert abs(server(later) - (later + (clock.offset_s or 0))) <= clock.error_s(later) + 2e-5


def test_the_quickest_of_the_last_answers_counts() -> None:
    clock = ServerClock()
    clock.answered(0.0, 0.001, EPOCH)  # half a millisecond at most, and right
    for second in range(1, STAGES):
        # 80 ms, all of it on the way back: by itself it would be 40 ms off.
        clock.answered(second, second + 0.08, EPOCH + second)
    assert clock.offset_s == pytest.approx(EPOCH - 0.0005, abs=1e-6)
    assert clock.error_s(8.0) < 0.001
    clock.answered(9.0, 9.08, EPOCH + 9.0)  # the quick one is too long ago now
    assert clock.error_s(9.08) == pytest.approx(0.04, abs=0.001)


@pytest.mark.parametrize("step_s", [-7200.0, -0.2, 0.2, 30.0])
def test_a_clock_that_was_set_is_believed_at_once(step_s: float) -> None:
    clock = ServerClock()
    for second in range(5):
        clock.answered(second, second + 0.001, EPOCH + second)
    clock.answered(6.0, 6.002, EPOCH + 6.0 + step_s)
    assert clock.offset_s == pytest.approx(EPOCH + step_s, abs=0.002)


def test_another_server_has_another_clock() -> None:
    clock = ServerClock()
    clock.answered(0.0, 0.001, EPOCH)
    clock.forget()
    assert clock.offset_s is None
    assert clock.error_s(1.0) == float("inf")
