"""Pauses of the event loops, from metrics."""

from bench.million.pauses import late, read_pauses


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
