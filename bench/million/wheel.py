"""What is due when, for many small numbers: a slot for each 20 ms, and an array in each. Pure.

A heap of tuples would have some hundred bytes for each viewer that is away; this has eight.
"""

from array import array
from collections.abc import Iterator
from typing import Final

SLOT_S: Final = 0.02


class Wheel:
    """Numbers below 2**64, each due at a moment of the monotonic clock, to the slot."""

    def __init__(self) -> None:
        self._slots: dict[int, array[int]] = {}
        self._next: int | None = None

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))

    @property
    def next_s(self) -> float | None:
        """When something is due at the earliest; None where nothing is."""
        return None if not self._slots else min(self._slots) * SLOT_S

    def add(self, due_s: float, number: int) -> None:
        """`due` hands it out at this moment or up to a slot later."""
        slot = int(due_s / SLOT_S) + 1
        if self._next is not None:
            slot = max(slot, self._next)
        self._slots.setdefault(slot, array("Q")).append(number)

    def due(self, now_s: float) -> Iterator[int]:
        """Those that are due by now, each once; what is added meanwhile waits for the next call."""
        until = int(now_s / SLOT_S)
        if self._next is None:
            self._next = min(self._slots, default=until)
        first, self._next = self._next, max(self._next, until + 1)
        for slot in range(first, until + 1):
            if (numbers := self._slots.pop(slot, None)) is not None:
                yield from numbers
