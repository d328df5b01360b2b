"""How long entries took from the time in their id to some moment here.

The id's time is of the server's clock and in whole milliseconds, cut off: a figure is up to 1 ms
too long. Which ids are times nobody says, so one that would be in the future or older than a day is
counted as none.
"""

from __future__ import annotations

from collections.abc import Iterable

from tidegate.core.bounds import LATENCY_S
from tidegate.core.clock import ServerClock
from tidegate.core.histogram import Histogram

PLAUSIBLE_S = 86_400.0


class EntryLatency:
    """Latencies of one kind; `now` is monotonic time in seconds."""

    __slots__ = ("histogram", "no_clock", "not_a_time")

    def __init__(self) -> None:
        self.histogram = Histogram(LATENCY_S)
        #: What could not be told: the server's clock is not known, or the id is no time.
        self.no_clock = 0
        self.not_a_time = 0

    def observe(
        self, clock: ServerClock | None, now: float, ids_ms: Iterable[int], times: int = 1
    ) -> None:
        """Entries with these id times (ms since the epoch) have arrived, `times` times each."""
        if clock is None or clock.offset_s is None:
            self.no_clock += times * sum(1 for _ in ids_ms)
            return
        server_now = now + clock.offset_s
        observe = self.histogram.observe
        for ms in ids_ms:
            age_s = server_now - ms / 1000
            if age_s < 0 <= age_s + clock.error_s(now):
                age_s = 0.0  # no more than the clocks are known to
            if 0 <= age_s <= PLAUSIBLE_S:
                observe(age_s, times)
            else:
                self.not_a_time += times

    def explain(self, clock: ServerClock | None, now: float, id_ms: int, trace_id: str) -> None:
        """The trace of an entry that is observed as well: the exemplar of its bucket."""
        if clock is not None and clock.offset_s is not None:
            age_s = now + clock.offset_s - id_ms / 1000
            if 0 <= age_s <= PLAUSIBLE_S:
                self.histogram.explain(age_s, trace_id)
