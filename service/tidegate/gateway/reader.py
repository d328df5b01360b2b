"""Answers who reads without staying: from the topic and its ring where the operation is followed
and they are current, else from the stream. Nothing is followed, kept or changed for it.

Implements `core.reading.Reader`. The status of a stream is folded from as many of its newest
entries as an attach reads, so that it is the same whether or not somebody watches.
"""

from __future__ import annotations

from collections.abc import Mapping

from tidegate.core.ports import Log
from tidegate.core.reading import EventsPage, Gap, OperationState
from tidegate.core.records import Page
from tidegate.core.recovery import find_gap
from tidegate.core.ring import Ring, RingBudget
from tidegate.core.topic import Topic, TopicRules, TopicState
from tidegate.gateway.channel import Channel
from tidegate.model.frames import Frame, GapReason
from tidegate.model.ids import ZERO, OperationId, StreamId, stream_id


class StreamReader:
    """Reads; `newest` is how many entries tell the status, `max_bytes` what goes into a page."""

    def __init__(
        self,
        channels: Mapping[OperationId, Channel],
        log: Log,
        rules: TopicRules,
        *,
        newest: int,
        max_bytes: int,
    ) -> None:
        self._channels = channels
        self._log = log
        self._rules = rules
        self._newest = newest
        self._max_bytes = max_bytes

    async def state(self, operation: OperationId) -> OperationState | None:
        """See `Reader`."""
        topic = self._followed(operation)
        if topic is None:
            _, before = await self._log.locate(operation, self._newest)
            page = await self._log.after(operation, before)
            topic = self._snapshot(operation, page)
            while page.more:  # one at a time: all of them may be 25 MB
                page = await self._log.after(operation, stream_id(page.entries[-1].id))
                topic = self._snapshot(operation, page, topic)
            if not page.info.exists:
                return None
        return OperationState(topic.status, topic.finished, topic.last)

    async def page(
        self, operation: OperationId, after: StreamId | None, limit: int
    ) -> EventsPage | None:
        """See `Reader`."""
        topic = self._followed(operation)
        if topic is not None:
            frames = _from_ring(topic, after)
            if frames is not None:
                chosen = self._fitting(frames[:limit])
                more = len(frames) > len(chosen)
                frames = chosen
                cursor = frames[-1].id if more else topic.last
                state = OperationState(topic.status, topic.finished, topic.last)
                return EventsPage([f.payload for f in frames], cursor, more, None, state)
        return await self._from_log(operation, after, limit)

    # -- inside -----------------------------------------------------------------------------------

    def _followed(self, operation: OperationId) -> Topic | None:
        """The topic, if it knows as much as anybody."""
        channel = self._channels.get(operation)
        if channel is None or not channel.ready or channel.stale_since is not None:
            return None
        topic = channel.topic
        known = topic.state is TopicState.LIVE and not topic.vanished and topic.last != ZERO
        return topic if known else None

    async def _from_log(
        self, operation: OperationId, after: StreamId | None, limit: int
    ) -> EventsPage | None:
        reason: GapReason | None = None
        if after is None:
            _, before = await self._log.locate(operation, None)
            page = await self._log.after(operation, before)
        else:
            page = await self._log.after(operation, after)
            if page.info.exists:
                reason = find_gap(after, page.info)
            if reason is GapReason.REWOUND:
                reason = GapReason.UNKNOWN_CURSOR
                page = await self._log.after(operation, ZERO)
        info = page.info
        if not info.exists:
            return None
        entries = page.entries[:limit]
        topic = self._snapshot(operation, page._replace(entries=entries))
        frames = self._fitting(topic.render(entries))
        if len(frames) < len(entries):
            entries = entries[: len(frames)]
            topic = self._snapshot(operation, page._replace(entries=entries))
        more = page.more or len(page.entries) > len(entries)
        cursor = stream_id(entries[-1].id) if more else info.last
        if more or len(entries) < min(self._newest, info.length):
            state = await self.state(operation)
            if state is None:
                return None  # gone in the meantime
            more = more or state.cursor > cursor
        else:
            state = OperationState(topic.status, topic.finished, topic.last)
        gap = None
        if reason is not None and after is not None:
            gap = Gap(after, stream_id(entries[0].id) if entries else None, reason)
        return EventsPage([frame.payload for frame in frames], cursor, more, gap, state)

    def _snapshot(self, operation: OperationId, page: Page, before: Topic | None = None) -> Topic:
        """A topic that has just these entries, behind those of `before`."""
        ring = Ring(1, 1, RingBudget(1))
        topic = Topic(operation, ring, self._rules)
        if before is not None:
            topic.status, topic.finished = before.status, before.finished
        topic.page(page._replace(after=None, more=False))
        return topic

    def _fitting(self, frames: list[Frame]) -> list[Frame]:
        """As many as go into a page, but one in any case."""
        size = 0
        for index, frame in enumerate(frames):
            size += len(frame.payload)
            if index and size > self._max_bytes:
                return frames[:index]
        return frames


def _from_ring(topic: Topic, after: StreamId | None) -> list[Frame] | None:
    """The frames above `after`, or None when the ring does not reach back so far."""
    if after is None:
        _, frames = topic.ring.newest(topic.length)
        return frames if len(frames) >= topic.length else None
    if after > topic.last or not topic.ring.covers(after):
        return None
    return topic.ring.after(after)
