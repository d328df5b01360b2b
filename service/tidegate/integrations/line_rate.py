"""How many lines of a log viewers get in a second; those above it are counted."""

from __future__ import annotations

#: A person reads a few; a loop that logs each row writes thousands.
RATE_MAX = 100


class LineRate:
    """Pure: `now` is in seconds, of any clock that does not go back."""

    def __init__(self, rate_max: int = RATE_MAX) -> None:
        self._rate_max = rate_max
        self._second = -1
        self._count = 0
        self._left_out = 0

    def accept(self, now: float) -> bool:
        """Whether this line goes out."""
        if int(now) != self._second:
            self._second, self._count = int(now), 0
        self._count += 1
        if self._count <= self._rate_max:
            return True
        self._left_out += 1
        return False

    def left_out(self) -> dict[str, int]:
        """`{"left_out": n}` if lines were left out since the last call."""
        count, self._left_out = self._left_out, 0
        return {"left_out": count} if count else {}
