"""Latencies are by the server's clock; what cannot be told is counted and not guessed."""

from __future__ import annotations

import pytest

from tidegate.core.clock import ServerClock
from tidegate.core.latency import EntryLatency

EPOCH = 1_795_413_516.0
NOW_MS = int(EPOCH * 1000)


def clock_at(offset_s: float, round_trip_s: float = 0.001) -> ServerClock:
    """Its server says `EPOCH + offset_s` when the monotonic clock says 100."""
    clock = ServerClock()
    half = round_trip_s / 2
    clock.answered(100 - half, 100 + half, EPOCH + offset_s)
    return clock


@pytest.mark.parametrize("offset_s", [0.0, 3600.0, -86_400.0, 0.25])
def test_the_difference_of_the_clocks_is_taken_out(offset_s: float) -> None:
    latency = EntryLatency()
    id_ms = NOW_MS + round(offset_s * 1000)  # written by the server's clock, at 100
    latency.observe(clock_at(offset_s), 100.04, [id_ms], times=3)
    assert latency.histogram.count == 3
    assert latency.histogram.sum == pytest.approx(3 * 0.04, abs=1e-4)


def test_each_entry_of_a_write_has_its_own() -> None:
    latency = EntryLatency()
    latency.observe(clock_at(0), 100.5, [NOW_MS, NOW_MS + 400, NOW_MS + 499], times=2)
    assert latency.histogram.count == 6
    assert latency.histogram.sum == pytest.approx(2 * (0.5 + 0.1 + 0.001), abs=1e-4)


def test_without_a_clock_nothing_is_measured() -> None:
    latency = EntryLatency()
    latency.observe(None, 100.0, [NOW_MS], times=2)
    latency.observe(ServerClock(), 100.0, [NOW_MS, NOW_MS])
    assert (latency.histogram.count, latency.no_clock) == (0, 4)


@pytest.mark.parametrize(
    "id_ms",
    [0, 1, 5, NOW_MS - 86_400_001, NOW_MS + 2, NOW_MS + 3_600_000, 2**64 - 1],
    ids=["zero", "one", "counted", "yesterday", "soon", "later", "greatest"],
)
def test_an_id_that_is_no_time_is_not_taken_for_one(id_ms: int) -> None:
    latency = EntryLatency()
    latency.observe(clock_at(0), 100.0, [id_ms], times=5)
    assert (latency.histogram.count, latency.not_a_time) == (0, 5)


def test_less_than_the_clocks_are_known_to_is_nothing() -> None:
    """Half of a round trip of 20 ms: an entry that seems to come 5 ms before it was written."""
    latency = EntryLatency()
    latency.observe(clock_at(0, round_trip_s=0.02), 100.0, [NOW_MS + 5])
    assert (latency.histogram.counts[0], latency.histogram.sum) == (1, 0.0)
    latency.explain(clock_at(0, round_trip_s=0.02), 100.0, NOW_MS + 5, "a" * 32)
    assert latency.histogram.exemplars.keys() == {0}


def test_an_exemplar_is_in_the_bucket_of_its_entry() -> None:
    latency = EntryLatency()
    latency.observe(clock_at(0), 100.04, [NOW_MS])
    latency.explain(clock_at(0), 100.04, NOW_MS, "a" * 32)
    ((index, exemplar),) = latency.histogram.exemplars.items()
    assert latency.histogram.counts[index] == 1
    assert exemplar.trace_id == "a" * 32
    latency.explain(clock_at(0), 100.0, 5, "b" * 32)
    latency.explain(None, 100.0, NOW_MS, "b" * 32)
    assert len(latency.histogram.exemplars) == 1
