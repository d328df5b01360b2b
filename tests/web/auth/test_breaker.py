"""The breaker's table, with time that only the test moves."""

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tidegate.web.auth.breaker import Breaker, State


def state(breaker: Breaker) -> State:
    return breaker.state


def test_it_opens_after_failures_in_a_row_tries_and_closes() -> None:
    breaker = Breaker(3, 5.0)
    for _ in range(2):
        assert breaker.may_pass(0)
        breaker.failed(0)
    breaker.worked(0)  # not in a row any more
    for now in (1, 2, 3):
        assert state(breaker) is State.CLOSED
        assert breaker.may_pass(now)
        breaker.failed(now)
    assert state(breaker) is State.OPEN
    assert breaker.opened == 1
    assert not breaker.may_pass(7.9)
    assert breaker.may_pass(8)
    assert state(breaker) is State.TRYING
    assert not breaker.may_pass(8)  # only one tries
    breaker.failed(9)
    assert state(breaker) is State.OPEN
    assert not breaker.may_pass(13.9)
    assert breaker.may_pass(14)
    breaker.worked(14)
    assert state(breaker) is State.CLOSED
    assert breaker.may_pass(14)
    breaker.failed(14)
    assert state(breaker) is State.CLOSED  # counts anew


def test_a_try_that_is_given_up_lets_the_next_one_try_at_once() -> None:
    breaker = Breaker(1, 5.0)
    breaker.failed(0)
    assert breaker.may_pass(5)
    breaker.given_up(6)
    assert breaker.may_pass(6)
    assert not breaker.may_pass(6)


def test_a_try_that_nobody_reports_does_not_hold_for_ever() -> None:
    breaker = Breaker(1, 5.0)
    breaker.failed(0)
    assert breaker.may_pass(5)
    assert not breaker.may_pass(9.9)
    assert breaker.may_pass(10)


def test_a_late_success_of_an_earlier_request_closes() -> None:
    breaker = Breaker(1, 5.0)
    assert breaker.may_pass(0)
    assert breaker.may_pass(0)
    breaker.failed(1)
    breaker.worked(2)
    assert breaker.may_pass(2)


EVENTS = st.tuples(
    st.sampled_from(["may_pass", "worked", "failed", "given_up"]), st.integers(0, 10)
)


@hypothesis_settings(deadline=None)
@given(st.lists(EVENTS))
def test_in_whatever_order_it_lets_somebody_through_in_the_end(
    events: list[tuple[str, int]],
) -> None:
    breaker, now = Breaker(2, 5.0), 0  # whole seconds: no rounding
    for name, later in events:
        now += later
        getattr(breaker, name)(now)
    assert breaker.may_pass(now + 5)
