"""The guard rails for memory, and the pace."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.operator.sweeping import spec
from tidegate.model.ids import StreamId
from tidegate_operator.streams.look import Look
from tidegate_operator.streams.memory import Candidates, Level, MemoryUsage, reading_of
from tidegate_operator.streams.pacing import BURST_S, Bucket
from tidegate_operator.streams.retention import RetentionState

MEMORY = spec().memory


def look(name: str, size: int, expires_at_ms: int | None = None) -> Look:
    key = name.encode()
    return Look(key, StreamId(1, 0), None, expires_at_ms=expires_at_ms, size_bytes=size)


@pytest.mark.parametrize(
    ("used", "limit", "level"),
    [
        (0, 0, Level.UNKNOWN),
        (10**12, 0, Level.UNKNOWN),
        (749, 1000, Level.OK),
        (750, 1000, Level.WARN),
        (899, 1000, Level.WARN),
        (900, 1000, Level.HIGH),
        (2000, 1000, Level.HIGH),
    ],
)
def test_levels(used: int, limit: int, level: Level) -> None:
    assert MemoryUsage(used, limit).level(MEMORY) is level


def test_the_limit_is_redis_own_or_the_spec() -> None:
    info: dict[str, object] = {"used_memory": 5, "maxmemory": 0, "maxmemory_policy": "allkeys-lru"}
    limited = spec(memory={"limit_bytes": 2_000_000}).memory
    assert reading_of(info, MEMORY) == MemoryUsage(5, 0, "allkeys-lru")
    assert reading_of(info, limited).limit == 2_000_000
    assert reading_of(info | {"maxmemory": 7}, limited).limit == 7
    assert reading_of(info, MEMORY).evicts_running
    assert not reading_of(info | {"maxmemory_policy": "volatile-ttl"}, MEMORY).evicts_running
    # Managed services leave fields out; what is no number is unknown.
    assert reading_of({"maxmemory": "all of it"}, MEMORY) == MemoryUsage(0, 0, "")


def names(candidates: Candidates, excess: int, by_ms: int = 100) -> list[str]:
    return [one.key.decode() for one, _ in candidates.to_free(excess, by_ms)]


def test_finished_ones_go_first_the_biggest_first_and_no_more_than_needed() -> None:
    def filled() -> Candidates:
        candidates = Candidates()
        for name, size, state in (
            ("small", 10, RetentionState.FINISHED),
            ("failed", 1000, RetentionState.FAILED),
            ("running", 9999, RetentionState.RUNNING),
            ("idle", 9999, RetentionState.IDLE),
            ("orphan", 9999, RetentionState.ORPHAN),
            ("big", 100, RetentionState.FINISHED),
        ):
            candidates.add(look(name, size), state)
        return candidates

    assert names(filled(), 0) == []
    assert names(filled(), 1) == ["big"]
    assert names(filled(), 100) == ["big"]
    assert names(filled(), 101) == ["big", "small"]
    assert names(filled(), 111) == ["big", "small", "failed"]
    assert names(filled(), 10**9) == ["big", "small", "failed"]


def test_what_goes_anyway_counts_as_freed() -> None:
    candidates = Candidates()
    candidates.add(look("going", 100, expires_at_ms=100), RetentionState.FINISHED)
    candidates.add(look("later", 50, expires_at_ms=101), RetentionState.FINISHED)
    candidates.add(look("never", 40), RetentionState.FINISHED)
    assert names(candidates, 140) == ["later"]
    assert len(candidates) == 0


@given(st.lists(st.tuples(st.integers(0, 50), st.sampled_from(RetentionState)), max_size=60))
def test_only_the_biggest_are_remembered(rows: list[tuple[int, RetentionState]]) -> None:
    candidates = Candidates(most=5)
    for number, (size, state) in enumerate(rows):
        candidates.add(look(str(number), size), state)
    assert len(candidates) <= 5
    kept = sorted(
        (
            (state is RetentionState.FINISHED, one.size_bytes)
            for one, state in candidates.to_free(10**9, 0)
        ),
        reverse=True,
    )
    allowed = [
        (state is RetentionState.FINISHED, size)
        for size, state in rows
        if state in (RetentionState.FINISHED, RetentionState.FAILED)
    ]
    assert kept == sorted(allowed, reverse=True)[:5]


# -- pace ------------------------------------------------------------------------------------------


@given(
    st.floats(1, 1e5),
    st.lists(st.tuples(st.floats(0, 500), st.floats(0, 2)), min_size=1, max_size=50),
)
def test_in_any_stretch_of_time_no_more_is_sent_than_allowed(
    per_s: float, works: list[tuple[float, float]]
) -> None:
    """Each work waits as it was told, then some time passes before the next."""
    now, sent = 0.0, []
    bucket = Bucket(per_s, now)
    for cost, pause_s in works:
        now += bucket.take(cost, now)
        sent.append((now, cost))
        now += pause_s
    for first in range(len(sent)):
        total = 0.0
        for at, cost in sent[first:]:
            total += cost
            # The first one may have been paid by waiting before it.
            allowed = per_s * (at - sent[first][0] + BURST_S) + sent[first][1]
            assert total <= allowed * (1 + 1e-9) + 1e-6


def test_a_clock_that_steps_back_gives_nothing_away() -> None:
    bucket = Bucket(10, 100.0)
    assert bucket.take(1, 100.0) == 0
    assert bucket.take(1, 50.0) == pytest.approx(0.1)
    assert bucket.take(1, 100.0) == pytest.approx(0.2)


def test_another_rate_holds_at_once() -> None:
    bucket = Bucket(1000, 0.0)
    bucket.take(100, 0.0)
    bucket.change(10)
    assert bucket.take(10, 0.0) == pytest.approx(1.0)
