"""Processes pages of the log in slices of the event loop's time, shared fairly between users.

Making frames of a page of 500 entries takes milliseconds, in which nothing else is done; ten
readers at once would need ten times that in every iteration of the event loop. So pages are
processed in slices of a fraction of a millisecond, one in two iterations, each for the user whose
slices have cost the least (`core.fair_share`): a user with ten connections has the share of one,
and short reads precede long ones. Readers that wait here hold a page and a place at the log
(`core.ports.Log`), so there are few.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tidegate.concurrency.fair_turns import FairConcurrencyLimiter
from tidegate.model.entries import RawEntry

#: About half a millisecond: of small entries, and of large ones.
SLICE_ENTRIES = 100
SLICE_BYTES = 32_768
#: What an entry costs beside its bytes, as bytes.
ENTRY_COSTS_BYTES = 256


class Slice(NamedTuple):
    """Entries that are worked through in one go, and what that costs, as bytes."""

    entries: Sequence[RawEntry]
    cost: int


class Slices:
    """Gives slices of this loop's time to users."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._turns = FairConcurrencyLimiter(1, 1)
        #: Slices given.
        self.given = 0

    async def of(self, part: Slice, by: str) -> None:
        """The time for this part, as soon as it is this user's: what the caller does up to its next
        await.
        """
        await self._turns.take(by)
        self.given += 1
        # Not at once: what the slice is for comes first, and then a round of the loop.
        # More rounds or a pause between slices gain nothing: tried with 4 and 12, on two cores.
        self._loop.call_soon(self._turns.give_back, by, part.cost)


def slices_of(entries: Sequence[RawEntry]) -> Iterator[Slice]:
    """The entries in parts of a slice each, in order."""
    start = size = 0
    for index, raw in enumerate(entries):
        more = sum(map(len, raw.fields or ()))
        if index > start and (index - start >= SLICE_ENTRIES or size + more > SLICE_BYTES):
            yield _slice(entries[start:index], size)
            start, size = index, 0
        size += more
    if start < len(entries):
        yield _slice(entries[start:], size)


def _slice(entries: Sequence[RawEntry], size: int) -> Slice:
    return Slice(entries, size + ENTRY_COSTS_BYTES * len(entries))
