"""A token bucket: how long to wait before the next commands, so that there are at most so many a
second. `now` is an argument.
"""

from __future__ import annotations

#: Tokens that gather while nothing is sent, in seconds' worth: a tenth, so that a pause is not
#: followed by a burst that Redis feels.
BURST_S = 0.1


class Bucket:
    """Paces one thing. Costs above the burst are fine: they are paid back by a longer wait."""

    def __init__(self, per_s: float, now: float) -> None:
        self._per_s = per_s
        self._tokens = per_s * BURST_S
        self._at = now

    def change(self, per_s: float) -> None:
        """Another rate from here on."""
        self._per_s = per_s

    def take(self, cost: float, now: float) -> float:
        """Spend `cost`; returns the seconds to wait before it may be sent."""
        earned = max(0.0, now - self._at) * self._per_s
        self._at = max(self._at, now)
        self._tokens = min(self._tokens + earned, self._per_s * BURST_S) - cost
        return max(0.0, -self._tokens / self._per_s)
