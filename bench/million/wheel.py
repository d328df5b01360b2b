"""Timers for many small numbers: a slot for each 20 ms, with an array of numbers. Pure.

A timer takes eight bytes; in a heap of tuples it would take about a hundred.
"""

from array import array
from collections.abc import Iterator
from typing import Final

SLOT_S: Final = 0.02


class Wheel:
    """Numbers below 2**64, each due at a time of the monotonic clock, rounded up to its slot."""

    def __init__(self) -> None:
        self._slots: dict[int, array[int]] = {}
        self._next: int | None = None

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))

    @property
    def next_s(self) -> float | None:
        """When the next number is due, in seconds of the clock; None if there is none."""
        return None if not self._slots else min(self._slots) * SLOT_S

    def add(self, due_s: float, number: int) -> None:
        """Add a number, which `due` returns at this time or up to one slot later."""
        slot = int(due_s / SLOT_S) + 1
        if self._next is not None:
            slot = max(slot, self._next)
        self._slots.setdefault(slot, array("Q")).append(number)

    def due(self, now_s: float) -> Iterator[int]:
        """The numbers that are due, each once. Those added meanwhile are left for the next call."""
        until = int(now_s / SLOT_S)
        if self._next is None:
            self._next = min(self._slots, default=until)
        first, self._next = self._next, max(self._next, until + 1)
        for slot in range(first, until + 1):
            if (numbers := self._slots.pop(slot, None)) is not None:
                yield from numbers
