"""Counters of this replica since its start, as plain integers that only grow.

They do not depend on a metrics library, so that the hot path pays one addition; telemetry reads
them when it is scraped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tidegate.core.bounds import REPLAY_ENTRIES
from tidegate.core.histogram import Histogram
from tidegate.core.latency import EntryLatency
from tidegate.core.topic import Deliver, Effect, RepairCause
from tidegate.gateway.viewer import ChannelViewer
from tidegate.model.frames import GapReason


class Counters:
    """Totals since the start."""

    __slots__ = (
        "bytes_sent",
        "closes",
        "deliveries",
        "entries",
        "gaps",
        "joins",
        "lagged",
        "latency",
        "malformed",
        "repaired_entries",
        "repairs",
        "replay_at_join",
        "replay_to_catch_up",
        "replayed_entries",
        "skipped",
    )

    def __init__(self) -> None:
        #: Frames written to viewers live, and their bytes.
        self.deliveries = 0
        self.bytes_sent = 0
        #: From the time in an entry's id to its write to a live viewer, for each of those.
        self.latency = EntryLatency()
        #: Entries taken up for live viewers; of these, the ones that came in a page.
        self.entries = 0
        self.repaired_entries = 0
        #: Pages read to mend the order of a stream.
        self.repairs: Counter[RepairCause] = Counter()
        #: Entries written as history or to catch up, joined ones included.
        self.replayed_entries = 0
        #: Entries that lagging viewers were not sent.
        self.skipped = 0
        #: Times a viewer began to lag.
        self.lagged = 0
        #: Viewers that joined.
        self.joins = 0
        #: Entries written to a viewer before it was live: when it joined, after it had lagged.
        self.replay_at_join = Histogram(REPLAY_ENTRIES)
        self.replay_to_catch_up = Histogram(REPLAY_ENTRIES)
        #: Gap frames written to viewers.
        self.gaps: Counter[GapReason] = Counter()
        #: Entries that could not be read.
        self.malformed = 0
        #: Closes by name of their code.
        self.closes: Counter[str] = Counter()

    def delivered(self, frames: int, size_bytes: int) -> None:
        """A pass wrote so many frames."""
        self.deliveries += frames
        self.bytes_sent += size_bytes

    def repaired(self, effects: Sequence[Effect]) -> None:
        """A page led to these."""
        for effect in effects:
            if isinstance(effect, Deliver) and effect.gap is None:
                self.repaired_entries += len(effect.frames)

    def replayed(self, viewer: ChannelViewer, entries: int) -> None:
        """Entries written to one viewer that is not live."""
        self.replayed_entries += entries
        viewer.replayed += entries

    def went_live(self, viewer: ChannelViewer) -> None:
        """It has been written all that it missed."""
        caught_up = viewer.lagging_since != 0
        replay = self.replay_to_catch_up if caught_up else self.replay_at_join
        replay.observe(viewer.replayed)
        viewer.replayed = 0
