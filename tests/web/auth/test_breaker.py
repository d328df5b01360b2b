"""The breaker's table, with time that only the test moves."""

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.harness.examples import examples
from tidegate.web.auth.breaker import Breaker, BreakerState


def state(breaker: Breaker) -> BreakerState:
    return breaker.state


def test_it_opens_after_failures_in_a_row_tries_and_closes() -> None:
    breaker = Breaker(3, 5.0)
    for user in "ab":
        assert breaker.may_pass(user, 0)
        breaker.failed(user, 0)
    breaker.worked(0)  # not in a row any more
    for now, user in enumerate("abc", 1):
        assert state(breaker) is BreakerState.CLOSED
        assert breaker.may_pass(user, now)
        breaker.failed(user, now)
    assert state(breaker) is BreakerState.OPEN
    assert breaker.opened == 1
    assert not breaker.may_pass("d", 7.9)
    assert breaker.may_pass("d", 8)
    assert state(breaker) is BreakerState.TRYING
    assert not breaker.may_pass("e", 8)  # only one tries at a time
    for user in "def":
        breaker.failed(user, 9)
        assert user == "f" or breaker.may_pass(chr(ord(user) + 1), 9)
    assert state(breaker) is BreakerState.OPEN
    assert breaker.opened == 2
    assert not breaker.may_pass("a", 13.9)
    assert breaker.may_pass("a", 14)
    breaker.worked(14)
    assert state(breaker) is BreakerState.CLOSED
    assert breaker.may_pass("a", 14)
    breaker.failed("a", 14)
    assert state(breaker) is BreakerState.CLOSED  # counts anew


def test_one_user_whose_requests_fail_shut_out_all_others() -> None:
    breaker = Breaker(5, 5.0)
    for now in range(1000):
        assert breaker.may_pass("mallory", now)
        breaker.failed("mallory", now)
    assert state(breaker) is BreakerState.CLOSED
    assert breaker.may_pass("ann", 1000)


def test_one_user_was_always_first_to_try_and_kept_it_open() -> None:
    breaker = Breaker(2, 5.0)
    for user in ("ann", "bob"):
        breaker.failed(user, 0)
    assert state(breaker) is BreakerState.OPEN
    assert breaker.may_pass("mallory", 5)
    breaker.failed("mallory", 5)
    assert not breaker.may_pass("mallory", 5)
    assert breaker.may_pass("ann", 5)
    breaker.worked(5)
    assert state(breaker) is BreakerState.CLOSED


def test_the_only_user_tries_again_later() -> None:
    breaker = Breaker(2, 5.0)
    breaker.failed("ann", 0)
    breaker.failed("bob", 0)
    assert breaker.may_pass("ann", 5)
    breaker.failed("ann", 6)
    assert not breaker.may_pass("ann", 9.9)
    assert breaker.may_pass("ann", 10)


def test_a_try_that_is_given_up_lets_the_next_one_try_at_once() -> None:
    breaker = Breaker(1, 5.0)
    breaker.failed("ann", 0)
    assert breaker.may_pass("ann", 5)
    breaker.given_up()
    assert breaker.may_pass("ann", 6)
    assert not breaker.may_pass("ann", 6)


def test_a_try_that_nobody_reports_does_not_hold_for_ever() -> None:
    breaker = Breaker(1, 5.0)
    breaker.failed("ann", 0)
    assert breaker.may_pass("ann", 5)
    assert not breaker.may_pass("bob", 9.9)
    assert breaker.may_pass("bob", 10)


def test_a_late_success_of_an_earlier_request_closes() -> None:
    breaker = Breaker(1, 5.0)
    assert breaker.may_pass("ann", 0)
    assert breaker.may_pass("ann", 0)
    breaker.failed("ann", 1)
    breaker.worked(2)
    assert breaker.may_pass("ann", 2)


def test_failures_of_requests_that_were_under_way_do_not_keep_it_open_longer() -> None:
    breaker = Breaker(1, 5.0)
    assert breaker.may_pass("ann", 0)
    assert breaker.may_pass("bob", 0)
    breaker.failed("ann", 1)
    breaker.failed("bob", 4)
    assert breaker.opened == 1
    assert breaker.may_pass("bob", 6)


EVENTS = st.tuples(
    st.sampled_from(["may_pass", "worked", "failed", "given_up"]),
    st.sampled_from("abc"),
    st.integers(0, 10),
)


@hypothesis_settings(deadline=None, max_examples=examples(100))
@given(st.lists(EVENTS))
def test_in_whatever_order_it_lets_somebody_through_in_the_end(
    events: list[tuple[str, str, int]],
) -> None:
    breaker, now = Breaker(2, 5.0), 0  # whole seconds: no rounding
    for name, user, later in events:
        now += later
        match name:
            case "may_pass":
                breaker.may_pass(user, now)
            case "worked":
                breaker.worked(now)
            case "failed":
                breaker.failed(user, now)
            case _:
                breaker.given_up()
    assert breaker.may_pass("d", now + 5)
