"""What happened on this replica since it started, as plain integers that only grow.

Kept apart from any metrics library so that the hot path pays one addition; telemetry reads them
when it is scraped.
"""

from __future__ import annotations

from collections import Counter


class Counters:
    """Totals since the start."""

    __slots__ = (
        "bytes_sent",
        "closes",
        "deliveries",
        "gaps",
        "joins",
        "lagged",
        "malformed",
        "replayed_entries",
        "skipped",
    )

    def __init__(self) -> None:
        #: Frames written to viewers live, and their bytes.
        self.deliveries = 0
        self.bytes_sent = 0
        #: Frames written as history or to catch up.
        self.replayed_entries = 0
        #: Entries that lagging viewers were not sent.
        self.skipped = 0
        #: Times a viewer fell behind.
        self.lagged = 0
        #: Viewers that joined.
        self.joins = 0
        #: Gaps announced to an operation's live viewers.
        self.gaps = 0
        #: Entries that could not be read.
        self.malformed = 0
        #: Closes by name of their code.
        self.closes: Counter[str] = Counter()

    def delivered(self, frames: int, size_bytes: int) -> None:
        """A pass wrote so many frames."""
        self.deliveries += frames
        self.bytes_sent += size_bytes

    def replayed(self, frames: int) -> None:
        """Frames written to one viewer that was not live."""
        self.replayed_entries += frames
