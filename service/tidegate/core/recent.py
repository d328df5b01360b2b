"""Quantiles of what a histogram has counted lately: a histogram itself only grows, so after a day
it says little about now.

Two snapshots are kept, taken at least `WINDOW_S` apart whenever `turn` is called; a quantile is
over what came since the older one, which is between one and two windows ago if `turn` is called
often.
"""

from __future__ import annotations

from tidegate.core.histogram import Histogram

WINDOW_S = 10.0


class RecentQuantiles:
    """Of one histogram; `now` is monotonic time in seconds."""

    def __init__(self, histogram: Histogram, now: float) -> None:
        self._histogram = histogram
        self._older = self._newer = tuple(histogram.counts)
        self._since = now

    def turn(self, now: float) -> None:
        """Forget what is too old."""
        if now - self._since >= WINDOW_S:
            self._older, self._newer = self._newer, tuple(self._histogram.counts)
            self._since = now

    def quantile(self, share: float) -> float | None:
        """The upper bound of the bucket that has this quantile; None when nothing came."""
        recent = Histogram(self._histogram.bounds)
        recent.counts = [
            now - then for now, then in zip(self._histogram.counts, self._older, strict=True)
        ]
        return recent.quantile(share) if recent.count else None
