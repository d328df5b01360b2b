"""A token bucket: so many at once, so many per second in the long run. `now` is an argument."""

from __future__ import annotations


class TokenBucket:
    """Starts full."""

    __slots__ = ("_burst", "_left", "_per_s", "_since")

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left = float(burst)
        self._since = 0.0

    def take(self, now: float) -> bool:
        """Whether one more is allowed now; if so it is taken."""
        if now > self._since:
            self._left = min(self._burst, self._left + (now - self._since) * self._per_s)
            self._since = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
