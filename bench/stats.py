"""Percentiles of one round and the summary of several. Pure.

A percentile is an observed value (nearest rank), never interpolated: with few samples the p99.9 is
the maximum, and nothing is made up between two observations. Several rounds are summed up by
median, minimum and maximum; with three rounds a standard deviation would pretend to know more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of ascending values; `percent` in (0, 100].

    Raises `ValueError` without values or with another percentage."""
    if not ordered:
        raise ValueError("a percentile of nothing")
    if not 0 < percent <= 100:
        raise ValueError(f"a percentage is in (0, 100], not {percent}")
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and extremes of one figure over rounds."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Raises `ValueError` without values."""
    if not values:
        raise ValueError("a spread of nothing")
    return Spread(median(values), min(values), max(values))


def ratio(ours: float, theirs: float) -> float | None:
    """`ours / theirs`, or None where that says nothing."""
    return ours / theirs if theirs > 0 else None
