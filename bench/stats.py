"""Percentiles of one round and the summary of several. Pure.

A percentile is an observed value (nearest rank), never interpolated: with few samples the p99.9 is
the maximum, and nothing is made up between two observations. Several rounds are summed up by
median, minimum and maximum; with three rounds a standard deviation would pretend to know more.

Two figures differ where the ranges of their rounds do not overlap, and each has `MIN_ROUNDS`. By
chance that happens to two equal ones in one of ten comparisons with three rounds, and in one of 126
with five; a test of ranks says the same.
"""

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

#: Two rounds have no spread worth the name.
MIN_ROUNDS: Final = 3


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


class Difference(enum.Enum):
    """Whether two figures differ by more than their rounds do among themselves."""

    REAL = "outside the spread"
    WITHIN = "within the spread"
    TOO_FEW_ROUNDS = "too few rounds to say"


def judge(a: Spread, b: Spread, *, rounds: int) -> Difference:
    """By the ranges of their rounds; `rounds` is that of the figure with fewer."""
    if rounds < MIN_ROUNDS:
        return Difference.TOO_FEW_ROUNDS
    return Difference.WITHIN if b.low <= a.high and a.low <= b.high else Difference.REAL


def ratio(ours: float, theirs: float) -> float | None:
    """`ours / theirs`, or None where that says nothing."""
    return ours / theirs if theirs > 0 else None
