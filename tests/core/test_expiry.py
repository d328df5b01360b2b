"""The end of a token, with time that only the test moves."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core.expiry import Expiry, ExpiryState

VALID, WARNED, ENDED = ExpiryState.VALID, ExpiryState.WARNED, ExpiryState.ENDED


def test_a_warning_a_minute_ahead_then_the_end() -> None:
    expiry = Expiry("ann", 1000.0)
    assert expiry.due == 940
    assert expiry.step(939.9) is None
    assert expiry.step(940) is WARNED
    assert expiry.left_s(940) == 60
    assert expiry.due == 1000
    assert expiry.step(999.9) is None
    assert expiry.step(1000) is ENDED
    assert expiry.step(2000) is None
    assert expiry.left_s(2000) == 0
    assert expiry.due is None


def test_a_short_token_warns_at_once_and_a_late_step_ends_without_a_warning() -> None:
    assert Expiry("ann", 1000.0).step(990) is WARNED
    assert Expiry("ann", 1000.0).step(1000) is ENDED


def test_without_an_end_there_is_nothing_to_do() -> None:
    expiry = Expiry("ann", None)
    assert expiry.due is None
    assert expiry.step(1e12) is None
    assert expiry.left_s(0) is None


@pytest.mark.parametrize("before", [0.0, 950.0])
def test_a_renewed_token_starts_over(before: float) -> None:
    expiry = Expiry("ann", 1000.0)
    expiry.step(before)
    assert expiry.renew("ann", 2000.0)
    assert (expiry.state, expiry.due) == (VALID, 1940)
    assert expiry.renew("ann", None)
    assert expiry.due is None
    assert expiry.renew("ann", 1500.0)  # nearer than before, and that counts
    assert expiry.due == 1440


def test_another_users_token_and_one_that_is_too_late_change_nothing() -> None:
    expiry = Expiry("ann", 1000.0)
    assert not expiry.renew("bob", 2000.0)
    assert expiry.due == 940
    expiry.step(1000)
    assert not expiry.renew("ann", 2000.0)
    assert expiry.state is ENDED


def test_a_clock_that_is_set_back_only_waits() -> None:
    expiry = Expiry("ann", 1000.0)
    assert expiry.step(945) is WARNED
    assert expiry.step(100) is None
    assert expiry.state is WARNED
    assert expiry.step(1000) is ENDED


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 200), st.none() | st.floats(0, 2000)), max_size=30))
def test_nobody_is_let_stay_past_the_end_or_closed_before_it(
    steps: list[tuple[float, float | None]],
) -> None:
    expiry, now = Expiry("ann", 500.0), 0.0
    for later, renewed in steps:
        now += later
        ended = expiry.step(now) is ENDED or expiry.state is ENDED
        assert expiry.expires_at is not None
        assert ended is (now >= expiry.expires_at) or expiry.state is WARNED
        if now >= expiry.expires_at:
            assert expiry.step(now) in (ENDED, None)
            assert expiry.state is ENDED
            return
        if renewed is not None:
            assert expiry.renew("ann", now + renewed)
