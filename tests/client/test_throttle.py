"""Leading and trailing edge, for any course of events."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tidegate.client.throttle import TIDY_ABOVE, Throttle
from tidegate.model.ids import OperationId

A, B = OperationId("a"), OperationId("b")


def test_the_first_goes_out_at_once_and_the_last_of_a_burst_after_the_interval() -> None:
    throttle = Throttle(1.0)
    assert throttle.offer(A, b"1", 10.0)
    assert not throttle.offer(A, b"2", 10.1)
    assert not throttle.offer(A, b"3", 10.9)
    assert throttle.due(10.9) == []
    assert throttle.next_due() == 11.0
    assert throttle.due(11.0) == [A]
    assert throttle.take_due(A, 11.0) == b"3"
    assert throttle.take_due(A, 11.0) is None
    assert throttle.next_due() is None
    assert not throttle.offer(A, b"4", 11.5)  # the trailing one counts as well


def test_what_is_taken_along_is_not_sent_again() -> None:
    throttle = Throttle(1.0)
    throttle.offer(A, b"1", 0.0)
    throttle.offer(A, b"2", 0.5)
    assert throttle.take(A) == b"2"
    assert throttle.take(A) is None
    assert throttle.due(9.0) == []


def test_what_could_not_be_sent_gives_way_to_what_is_newer() -> None:
    throttle = Throttle(1.0)
    throttle.offer(A, b"1", 0.0)
    throttle.put_back(A, b"1", 5.0)
    assert not throttle.offer(A, b"2", 1.5)
    throttle.put_back(A, b"1", 5.0)
    assert throttle.take_due(A, 5.0) == b"2"


def test_operations_do_not_slow_each_other_and_an_end_starts_anew() -> None:
    throttle = Throttle(1.0)
    assert throttle.offer(A, b"1", 0.0)
    assert throttle.offer(B, b"1", 0.0)
    throttle.offer(A, b"2", 0.1)
    throttle.forget(A)
    assert throttle.held() == []
    assert throttle.offer(A, b"3", 0.2)


def test_quiet_operations_are_forgotten() -> None:
    throttle = Throttle(1.0)
    for n in range(10 * TIDY_ABOVE):
        throttle.offer(OperationId(f"op-{n}"), b"1", 10.0 * n)
    assert len(throttle._free_at) <= TIDY_ABOVE + 1


@given(
    st.lists(
        st.tuples(st.floats(0, 0.7), st.sampled_from([A, B]), st.booleans()),
        min_size=1,
        max_size=40,
    )
)
def test_the_last_update_is_always_sent_and_the_rate_is_kept(
    course: list[tuple[float, OperationId, bool]],
) -> None:
    """Bug B17: a throttle with a leading edge only leaves a bar at 97 %."""
    throttle = Throttle(1.0)
    now = 0.0
    sent: dict[OperationId, list[tuple[float, bytes]]] = {A: [], B: []}
    last: dict[OperationId, bytes] = {}

    def run_until(then: float) -> None:
        while (due := throttle.next_due()) is not None and due <= then:
            for operation in throttle.due(due):
                text = throttle.take_due(operation, due)
                assert text is not None
                sent[operation].append((due, text))

    for number, (pause, operation, is_flushed) in enumerate(course):
        run_until(now + pause)
        now += pause
        text = str(number).encode()
        last[operation] = text
        if throttle.offer(operation, text, now):
            sent[operation].append((now, text))
        elif is_flushed:
            assert throttle.take(operation) == text
            sent[operation].append((now, text))
    flushed = any(flushed for _, _, flushed in course)
    run_until(now + 10)

    for operation, text in last.items():
        assert sent[operation][-1][1] == text
        numbers = [int(text) for _, text in sent[operation]]
        assert numbers == sorted(set(numbers))
        times = [at for at, _ in sent[operation]]
        if not flushed:
            assert all(b - a >= 1.0 - 1e-9 for a, b in itertools.pairwise(times))
