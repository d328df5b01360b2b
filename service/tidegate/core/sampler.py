"""Which of many are measured: each one while they are few, above `MANY_PER_S` one in `STRIDE`, at
random, which then stands for so many.

At random, because what is measured comes in patterns: every eighth could always be the same one.
"""

from __future__ import annotations

from random import random

MANY_PER_S = 500
STRIDE = 8
#: Whether they are many is decided again after so many.
WINDOW = 64
_WINDOW_S = WINDOW / MANY_PER_S


class Sampler:
    """`pick` for each, and `measured` when one that was picked has been. Off, it picks none."""

    __slots__ = ("_passed", "_since", "_skip", "_stride")

    def __init__(self, *, is_on: bool) -> None:
        self._stride = 1 if is_on else 0
        #: So many go by before the next one is picked.
        self._skip = 0
        self._passed = 0
        self._since = float("-inf")

    def pick(self) -> int:
        """How many this one stands for; 0: it is not to be measured."""
        if self._skip:
            self._skip -= 1
            return 0
        stride = self._stride
        if stride > 1:
            self._skip = int(random() * (2 * stride - 1))  # STRIDE - 1 in the mean
        return stride

    def measured(self, now: float) -> None:
        """At this monotonic time (s). After a pause each one is measured again."""
        self._passed += self._stride
        if now - self._since > _WINDOW_S:
            self._stride, self._skip = 1, 0
        elif self._passed >= WINDOW:
            self._stride = STRIDE
        else:
            return
        self._passed, self._since = 0, now
