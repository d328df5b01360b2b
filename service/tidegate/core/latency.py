"""How long entries took from the time in their id to some moment here.

The id's time is of the server's clock and in whole milliseconds, cut off: a figure is up to 1 ms
too long. Which ids are times nobody says, so one that would be in the future or older than a day is
counted as none.

One observation takes 0.75 us where all is in the processor's caches, and some times that where it
is not, as on the way of an entry that came alone: hence the `core.sampler`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from tidegate.core.bounds import LATENCY_S
from tidegate.core.clock import ServerClock
from tidegate.core.histogram import Histogram

PLAUSIBLE_S = 86_400.0
#: An id may be ahead of the clocks by the error of the offset, but not by more than this.
AHEAD_MAX_S = 1.0


def _seems_ahead(clock: ServerClock, now: float, age_s: float) -> bool:
    """Whether this age is below nothing, by no more than the clocks are known to."""
    return age_s < 0 <= age_s + min(clock.error_s(now), AHEAD_MAX_S)


class EntryLatency:
    """Latencies of one kind; `now` is monotonic time in seconds."""

    __slots__ = ("histogram", "no_clock", "not_a_time")

    def __init__(self) -> None:
        self.histogram = Histogram(LATENCY_S)
        #: What could not be told: the server's clock is not known, or the id is no time.
        self.no_clock = 0
        self.not_a_time = 0

    def observe(
        self, clock: ServerClock | None, now: float, ids_ms: Sequence[int], times: int = 1
    ) -> None:
        """Entries with these id times (ms since the epoch) have arrived, `times` times each."""
        if clock is None or (offset_s := clock.offset_s) is None:
            self.no_clock += times * len(ids_ms)
            return
        histogram = self.histogram
        for ms in ids_ms:
            age_s = now + offset_s - ms / 1000
            if 0 <= age_s <= PLAUSIBLE_S:  # as `Histogram.observe`, without the call
                histogram.counts[bisect_left(LATENCY_S, age_s)] += times
                histogram.sum += age_s * times
            elif _seems_ahead(clock, now, age_s):
                histogram.observe(0.0, times)  # no more than the clocks are known to
            else:
                self.not_a_time += times

    def explain(self, clock: ServerClock | None, now: float, id_ms: int, trace_id: str) -> None:
        """The trace of an entry that is observed as well: the exemplar of its bucket."""
        if clock is not None and clock.offset_s is not None:
            age_s = now + clock.offset_s - id_ms / 1000
            if _seems_ahead(clock, now, age_s):
                age_s = 0.0  # as it is observed
            if 0 <= age_s <= PLAUSIBLE_S:
                self.histogram.explain(age_s, trace_id)
