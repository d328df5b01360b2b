"""A histogram of plain integers: what the hot path pays for one observation is a bisection.

Not locked, so of one thread; telemetry reads it when it is scraped. Nothing in it grows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple


class Exemplar(NamedTuple):
    """One observation that a trace explains."""

    value: float
    trace_id: str


class Histogram:
    """Counts by upper bound (inclusive, rising), with a last one for everything above."""

    __slots__ = ("bounds", "counts", "exemplars", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        if not self.bounds or any(
            a >= b for a, b in zip(self.bounds, self.bounds[1:], strict=False)
        ):
            raise ValueError("bounds must rise")
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0
        #: The last one of each bucket; empty as long as nobody traces.
        self.exemplars: dict[int, Exemplar] = {}

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, as often as it was seen."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def explain(self, value: float, trace_id: str) -> None:
        """Keep the trace of a value that is observed as well, as its bucket's exemplar."""
        self.exemplars[bisect_left(self.bounds, value)] = Exemplar(value, trace_id)

    @property
    def count(self) -> int:
        """How many were observed."""
        return sum(self.counts)

    def summary(self) -> dict[str, float]:
        """Count, mean, and the bucket bounds of p50, p99 and p99.9; in the unit of the values."""
        count = self.count
        return {
            "count": count,
            "mean": self.sum / count if count else 0.0,
            **{f"p{100 * share:g}": self.quantile(share) for share in (0.5, 0.99, 0.999)},
        }

    def quantile(self, share: float) -> float:
        """The upper bound of the bucket in which the quantile lies; 0 when nothing was observed.

        Above the last bound the last bound is all that is known.
        """
        rank, seen = share * self.count, 0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            seen += count
            if seen and seen >= rank:
                return bound
        return self.bounds[-1] if seen or self.counts[-1] else 0.0
