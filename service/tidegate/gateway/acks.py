"""Asks viewers for acknowledgements of entries, which measure the latency that users see.

Only viewers that support it are asked, at a limited rate per replica; each time it is one of those
that were just written to. A request is one more frame after the entry. A request that is not
answered in time is forgotten, so a viewer that never answers costs nothing.
"""

from __future__ import annotations

import random
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tidegate.core.clock import ServerClock
from tidegate.core.latency import EntryLatency
from tidegate.gateway.viewer import ChannelViewer, ViewerState
from tidegate.model.batch import Batch
from tidegate.model.frames import ack_request_frame
from tidegate.model.ids import StreamId

#: Requests that are open at a time, and for how long.
OPEN_MAX = 1_000
PATIENCE_S = 60.0


class _Request(NamedTuple):
    entry_id: StreamId
    clock: ServerClock | None
    asked_at: float


class Acks:
    """The requests of one replica; times are monotonic seconds."""

    def __init__(self, per_s: float, now: Callable[[], float] = time.monotonic) -> None:
        """`per_s`: requests per second at the most; 0 asks nobody. `now`: monotonic time."""
        self._now = now
        self._interval_s = 1 / per_s if per_s else float("inf")
        self._next_at = 0.0 if per_s else float("inf")
        self._open: OrderedDict[ChannelViewer, _Request] = OrderedDict()
        self.latency = EntryLatency()
        self.counts: Counter[str] = Counter()

    def offer(
        self,
        viewers: Iterable[ChannelViewer],
        seq: int,
        entry_id: StreamId,
        clock: ServerClock | None,
    ) -> None:
        """These viewers answer, and those of them whose item is `seq` were just sent this entry."""
        now = self._now()
        if now < self._next_at:
            return
        self._next_at = now + self._interval_s
        self._give_up(now)
        able = [
            viewer
            for viewer in viewers
            if viewer.seq == seq
            and viewer.state is ViewerState.LIVE
            and viewer.sender.writable
            and viewer not in self._open
        ]
        if not able or len(self._open) >= OPEN_MAX:
            return
        viewer = random.choice(able)
        self._open[viewer] = _Request(entry_id, clock, now)
        self.counts["asked"] += 1
        operation = viewer.owner.topic.operation
        viewer.sender.write(Batch([ack_request_frame(operation, entry_id)]))

    def acked(self, viewer: ChannelViewer | None, entry_id: StreamId) -> None:
        """A viewer says that it has this entry; what it was not asked for is only counted."""
        request = None if viewer is None else self._open.get(viewer)
        if viewer is None or request is None or request.entry_id != entry_id:
            self.counts["unasked"] += 1
            return
        del self._open[viewer]
        self.counts["answered"] += 1
        self.latency.observe(request.clock, self._now(), (entry_id.ms,))

    def left(self, viewer: ChannelViewer) -> None:
        """It is gone, and will not answer."""
        if self._open.pop(viewer, None) is not None:
            self.counts["unanswered"] += 1

    def _give_up(self, now: float) -> None:
        while self._open:
            viewer, request = next(iter(self._open.items()))
            if now - request.asked_at < PATIENCE_S:
                return
            del self._open[viewer]
            self.counts["unanswered"] += 1
