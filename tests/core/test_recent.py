"""Quantiles of the last seconds."""

from __future__ import annotations

from tidegate.core.histogram import Histogram
from tidegate.core.recent import WINDOW_S, RecentQuantiles


def test_what_is_old_is_forgotten_after_two_windows() -> None:
    histogram = Histogram((1.0, 2.0, 3.0))
    recent = RecentQuantiles(histogram, 0.0)
    assert recent.quantile(0.99) is None
    histogram.observe(3.0, 100)
    recent.turn(WINDOW_S / 2)  # too early to forget anything
    assert recent.quantile(0.99) == 3.0
    recent.turn(WINDOW_S)
    histogram.observe(1.0, 100)
    assert recent.quantile(0.99) == 3.0
    assert recent.quantile(0.5) == 1.0
    recent.turn(2 * WINDOW_S)
    assert recent.quantile(0.99) == 1.0
    recent.turn(3 * WINDOW_S)
    assert recent.quantile(0.99) is None
    assert histogram.count == 200
