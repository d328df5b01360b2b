"""What `bench.million` computes: who watches what, how many fit, when they come back."""

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.million.comeback import after_close_s, after_refusal_s
from bench.million.memory import Memory
from bench.million.pauses import late, read_pauses
from bench.million.room import (
    RESERVE_BYTES,
    SPARE_FILES,
    VIEWER_BYTES,
    Limits,
    affordable,
    processes,
)
from bench.million.scene import CROWDED, in_crowd, path, watched
from bench.million.site import Tally
from bench.million.wheel import SLOT_S, Wheel
from tidegate.client.watching import Return, Watching, delay_bound_s
from tidegate.model.close_codes import CLOSE_CODES

GIB = 2**30


@given(
    viewers=st.integers(1, 3_000),
    share=st.floats(0, 1),
    operations=st.integers(2, 300),
)
def test_viewers_are_dealt_out_evenly(viewers: int, share: float, operations: int) -> None:
    counts = Counter(watched(one, share=share, operations=operations) for one in range(viewers))

    assert counts.pop(CROWDED, 0) == in_crowd(viewers, share)
    assert set(counts) <= set(range(1, operations))
    others = [counts[one] for one in range(1, operations)]
    assert max(others) - min(others) <= 1


def test_the_operations_of_viewers_are_those_of_the_publisher() -> None:
    assert path(0, share=0.5, operations=100_000) == "/ws/operations/bench-00001"
    assert path(1, share=0.5, operations=100_000) == "/ws/operations/bench-00000"


def test_memory_is_never_taken_to_the_last() -> None:
    assert affordable(0, 10**6, 22 * GIB) == 20 * GIB // VIEWER_BYTES
    assert affordable(500, 1_000, 200 * GIB) == 1_000
    assert affordable(500, 1_000, RESERVE_BYTES) == 500
    assert affordable(500, 1_000, RESERVE_BYTES // 2) == 500


@pytest.mark.parametrize(
    ("viewers", "files", "expected"),
    [
        # As many processes as the limit of descriptors asks for, and one replica to spare.
        (10**6, 20_000, (54, 53, 10**6)),
        (10**6, 1_048_576, (4, 2, 10**6)),
        (2_000, 20_000, (4, 2, 2_000)),
        (10**6, SPARE_FILES + 10, (200, 200, 1_990)),
        (10**6, 100, (0, 0, 0)),
    ],
)
def test_as_many_processes_as_are_needed(
    viewers: int, files: int, expected: tuple[int, int, int]
) -> None:
    limits = Limits(32 * GIB, files, 10**7)

    found = processes(viewers, replicas=0, swarms=0, cores=2, limits=limits)

    assert (found.replicas, found.swarms, found.viewers) == expected
    assert bool(found.because) is (found.viewers < viewers)


def test_what_allows_no_more_is_said() -> None:
    few = processes(40_000, replicas=2, swarms=2, cores=2, limits=Limits(GIB, 20_000, 10**7))
    assert (few.viewers, few.because) == (
        19_000,
        "a process may have 20,000 descriptors (ulimit -n)",
    )
    machine = processes(40_000, replicas=0, swarms=0, cores=2, limits=Limits(GIB, 50_000, 40_000))
    assert machine.viewers == 17_000
    assert "fs.file-max" in machine.because


@given(
    code=st.sampled_from([*CLOSE_CODES, 1005, 4999]),
    failures=st.integers(0, 20),
    asked_ms=st.none() | st.integers(0, 10**7),
    seed=st.integers(0, 99),
)
def test_a_viewer_comes_back_as_a_client_does(
    code: int, failures: int, asked_ms: int | None, seed: int
) -> None:
    client = Watching("42", ["ws://a:1"], rng=random.Random(seed))
    client.received({"type": "current_state", "cursor": "0-0", "data": {}}, 0.0)
    for _ in range(failures):
        client.not_connected("refused")
    if asked_ms is not None:
        client.received({"type": "reconnect", "data": {"after_ms": asked_ms}}, 0.0)
    rng = random.Random(seed)
    for turn in range(failures):
        rng.uniform(0, delay_bound_s(turn))

    delay_s = after_close_s(code, failures=failures, asked_ms=asked_ms, uniform=rng.uniform)

    decision = client.closed(code)
    assert delay_s == (decision.delay_s if isinstance(decision, Return) else None)


@pytest.mark.parametrize("status", [None, 400, 404, 408, 429, 500, 503])
def test_a_refused_viewer_comes_back_as_a_client_does(status: int | None) -> None:
    client = Watching("42", ["ws://a:1"], rng=random.Random(5))

    delay_s = after_refusal_s(
        status, failures=0, retry_after_s=2.0, uniform=random.Random(5).uniform
    )

    decision = client.not_connected("why", status=status, retry_after_s=2.0)
    assert delay_s == (decision.delay_s if isinstance(decision, Return) else None)


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


def test_memory_is_split_by_whose_it_is() -> None:
    before = Memory(servers=100, redis=10, clients=20, kernel=30, available=10_000)
    after = Memory(servers=400, redis=20, clients=40, kernel=430, available=9_000)

    split = after.since(before)

    assert (split.total, split.other) == (1_000, 270)
    assert split.per_viewer(10) == {
        "servers": 30,
        "redis": 1,
        "clients": 2,
        "kernel": 40,
        "total": 100,
        "other": 27,
    }


def test_pauses_are_read_from_metrics() -> None:
    text = """
tidegate_gc_pause_seconds_bucket{generation="2",le="0.5"} 3
tidegate_gc_pause_seconds_bucket{generation="2",le="1.0"} 5
tidegate_gc_pause_seconds_bucket{generation="2",le="+Inf"} 7
tidegate_gc_pause_seconds_count{generation="2"} 7
tidegate_gc_pause_seconds_sum{generation="2"} 9.5
tidegate_loop_lag_seconds_bucket{le="1.0"} 10
tidegate_loop_lag_seconds_count 11
tidegate_loop_lag_seconds_sum 2.5
"""
    before, now = read_pauses(""), read_pauses(text)

    assert now == (9.5, 2, 1)
    # One process was there before, one has started since.
    assert late({1: now, 3: before}, {1: now, 2: now}) == {
        "gc_s": 9.5,
        "gc_over_1s": 2,
        "lag_over_1s": 1,
    }


def test_tallies_add_up() -> None:
    one = {
        "states": {"open": 3, "away": 1},
        "at": {"0": 2, "1": 1},
        "delivered": 5,
        "missed": 0,
        "repeated": 1,
        "returned": 2,
        "last_ns": 7,
        "back_ns": 9,
        "happened": {"close 1012": 1},
    }

    total = Tally.of([one, one | {"last_ns": 8}])

    assert (total.open, total.states["away"], total.at[0]) == (6, 2, 4)
    assert (total.counts["delivered"], total.counts["repeated"]) == (10, 2)
    assert (total.last_ns, total.back_ns) == (8, 9)
    assert total.happened == {"close 1012": 2}
