"""Serves requests that read without watching: from the topic and its ring if the operation is
followed and they are current, otherwise from the stream. Nothing is followed, kept or changed for
them.

Implements `core.reading.Reader`. Each page is one read from the log, and is processed in slices
(`gateway.slices`). The status, if a page does not contain it, comes from `OperationStates`, which
folds each entry once, however many pages are requested.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tidegate.core.ports import Log
from tidegate.core.reading import EventsPage, Gap, OperationState
from tidegate.core.records import Page, StreamInfo
from tidegate.core.recovery import find_gap
from tidegate.core.ring import Ring, RingBudget
from tidegate.core.topic import Topic, TopicRules, TopicState
from tidegate.gateway.channel import Channel
from tidegate.gateway.slices import Slices, slices_of
from tidegate.gateway.states import OperationStates
from tidegate.model.frames import Frame, GapReason
from tidegate.model.ids import ZERO, OperationId, StreamId, stream_id
from tidegate.model.joined_frames import join

Shown = Callable[[Sequence[Frame]], Sequence[Frame]]


class StreamReader:
    """Reads; `newest` is how many entries tell the status, `max_bytes` what goes into a page."""

    def __init__(
        self,
        channels: Mapping[OperationId, Channel],
        log: Log,
        rules: TopicRules,
        slices: Slices,
        states: OperationStates,
        *,
        newest: int,
        max_bytes: int,
    ) -> None:
        self._channels = channels
        self._log = log
        self._rules = rules
        self._slices = slices
        self._states = states
        self._newest = newest
        self._max_bytes = max_bytes

    async def state(self, operation: OperationId, *, by: str = "") -> OperationState | None:
        """See `Reader`."""
        topic = self._followed(operation)
        kept = None if topic is None else self._states.now(topic)
        if kept is None:
            kept = await self._states.read(operation, by or operation, topic)
        if kept is None:
            return None
        return OperationState(kept.status, kept.finished, kept.at, kept.data)

    async def page(
        self,
        operation: OperationId,
        after: StreamId | None,
        limit: int,
        *,
        by: str = "",
        joined: bool = True,
    ) -> EventsPage | None:
        """See `Reader`."""
        shown = join if joined else _each
        topic = self._followed(operation)
        if topic is not None:
            frames = _from_ring(topic, after)
            if frames is not None:
                chosen = self._fitting(frames[:limit])
                more = len(frames) > len(chosen)
                frames = chosen
                cursor = frames[-1].id if more else topic.last
                state = OperationState(topic.status, topic.finished, topic.last)
                events = [frame.payload for frame in shown(frames)]
                return EventsPage(events, cursor, more, None, state)
        return await self._from_log(operation, after, limit, by or operation, shown)

    async def newest(
        self, operation: OperationId, count: int, *, by: str = ""
    ) -> Sequence[bytes] | None:
        """See `Reader`."""
        before = await self._locate(operation, count, by or operation)
        page = await self.page(operation, before, count, by=by)
        return None if page is None else page.events

    # -- inside -----------------------------------------------------------------------------------

    def _followed(self, operation: OperationId) -> Topic | None:
        """The topic, if it knows as much as anyone."""
        channel = self._channels.get(operation)
        if channel is None or not channel.ready or channel.stale_since is not None:
            return None
        topic = channel.topic
        known = topic.state is TopicState.LIVE and not topic.vanished and topic.last != ZERO
        return topic if known else None

    async def _status(self, operation: OperationId, by: str) -> OperationState | None:
        """Of a page: without what it does not tell."""
        topic = self._followed(operation)
        if topic is not None:
            return OperationState(topic.status, topic.finished, topic.last)
        kept = await self._states.read(operation, by)
        return None if kept is None else OperationState(kept.status, kept.finished, kept.at)

    async def _from_log(
        self, operation: OperationId, after: StreamId | None, limit: int, by: str, shown: Shown
    ) -> EventsPage | None:
        reason: GapReason | None = None
        if after is None:
            start = await self._locate(operation, None, by)
            page, topic, frames = await self._read(operation, start, by, limit=limit)
        else:
            page, topic, frames = await self._read(operation, after, by, limit=limit)
            if page.info.exists:
                reason = find_gap(after, page.info)
            if reason is GapReason.REWOUND:
                reason = GapReason.UNKNOWN_CURSOR
                page, topic, frames = await self._read(operation, ZERO, by, limit=limit)
        info = page.info
        if not info.exists:
            return None
        frames = self._fitting(frames)
        entries = page.entries[: len(frames)]
        more = page.more or len(page.entries) > len(entries)
        cursor = stream_id(entries[-1].id) if more else info.last
        if more or len(entries) < min(self._newest, info.length):
            state = await self._status(operation, by=by)
            if state is None:
                return None  # gone in the meantime
            more = more or state.cursor > cursor
        else:
            state = OperationState(topic.status, topic.finished, topic.last)
        gap = None
        if reason is not None and after is not None:
            gap = Gap(after, stream_id(entries[0].id) if entries else None, reason)
        return EventsPage([frame.payload for frame in shown(frames)], cursor, more, gap, state)

    def _snapshot(self, operation: OperationId, info: StreamInfo) -> Topic:
        """A topic of this moment, to fold entries into."""
        topic = Topic(operation, Ring(1, 1, RingBudget(1)), self._rules)
        topic.page(Page(info, (), more=False, after=None))
        return topic

    async def _locate(self, operation: OperationId, newest: int | None, by: str) -> StreamId:
        async with self._log.turn(operation, by) as pages:
            _, before = await pages.locate(operation, newest)
            return before

    async def _read(
        self,
        operation: OperationId,
        after: StreamId,
        by: str,
        *,
        limit: int,
    ) -> tuple[Page, Topic, list[Frame]]:
        """A page, and frames of so many of its entries, folded."""
        async with self._log.turn(operation, by) as pages:
            page = await pages.after(operation, after)
            topic = self._snapshot(operation, page.info)
            frames: list[Frame] = []
            for part in slices_of(page.entries[:limit]):
                await self._slices.of(part, by)
                frames += topic.fold(part.entries)
            return page, topic, frames

    def _fitting(self, frames: list[Frame]) -> list[Frame]:
        """As many as go into a page, but one in any case."""
        size = 0
        for index, frame in enumerate(frames):
            size += len(frame.payload)
            if index and size > self._max_bytes:
                return frames[:index]
        return frames


def _each(frames: Sequence[Frame]) -> Sequence[Frame]:
    """As they are."""
    return frames


def _from_ring(topic: Topic, after: StreamId | None) -> list[Frame] | None:
    """The frames above `after`, or None when the ring does not reach back so far."""
    if after is None:
        _, frames = topic.ring.newest(topic.length)
        return frames if len(frames) >= topic.length else None
    if after > topic.last or not topic.ring.covers(after):
        return None
    return topic.ring.after(after)
