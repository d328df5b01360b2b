"""How long to wait before something is tried again: exponential backoff with jitter.

All that is retried against Redis uses it, in the gateway and in the operator. Clients use full
jitter instead (`client.watching`): there are many of them, and nobody waits for the first try.
"""

from __future__ import annotations

import random
from collections.abc import Callable

#: Each delay is its bound times something between these, so that replicas drift apart.
JITTER = (0.5, 1.5)


class Backoff:
    """`next_s` after each failure, `reset` after a success."""

    __slots__ = ("_bound_s", "_first_s", "_longest_s", "_uniform")

    def __init__(
        self,
        first_s: float,
        longest_s: float,
        *,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Seconds; the bound is doubled from the first to the longest."""
        self._bound_s = self._first_s = first_s
        self._longest_s = longest_s
        self._uniform = uniform

    def reset(self) -> None:
        """The next failure is a first one."""
        self._bound_s = self._first_s

    def exhaust(self) -> None:
        """It will not get better soon: the next delay is the longest."""
        self._bound_s = self._longest_s

    def next_s(self) -> float:
        """Seconds to wait now."""
        delay_s = self._bound_s * self._uniform(*JITTER)
        self._bound_s = min(2 * self._bound_s, self._longest_s)
        return delay_s
