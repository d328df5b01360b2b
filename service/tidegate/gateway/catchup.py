"""The path of one viewer from its cursor to the live frames: from the ring if it reaches back far
enough, otherwise in pages.

`proceed` never waits: it sends what the ring has and goes live, or starts one read of the stream,
whose task ends with another `proceed`. A viewer whose buffer is full is not written to until it
drains, so its memory is at most one page. Every page is checked for continuity with the cursor that
it was requested for; if that is not proven, a `gap` precedes it. A page is made into frames in
slices, between which the event loop does other work (`gateway.slices`). Entries that append to a
text are joined, and pages of them are kept for the next viewer (`core.joined_history`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from tidegate.core.conflation import Kept, conflate
from tidegate.core.ports import Log
from tidegate.core.records import Ask, Page, StreamInfo
from tidegate.core.recovery import find_gap
from tidegate.gateway.slices import Slices, slices_of
from tidegate.gateway.states import KeptState, OperationStates
from tidegate.gateway.stats import Counters
from tidegate.gateway.viewer import ChannelViewer, ViewerState
from tidegate.model import close_codes
from tidegate.model.batch import Batch
from tidegate.model.errors import RedisUnavailable, StreamUnusable
from tidegate.model.frames import (
    Frame,
    GapReason,
    current_state_frame,
    gap_frame,
    skipped_frame,
    stale_frame,
)
from tidegate.model.ids import ZERO, StreamId, stream_id
from tidegate.model.joined_frames import ends_at, entries_in, is_across, join
from tidegate.model.state_data import known_data

#: Frames are joined up to this size before the socket is asked again whether it can take more.
WRITE_MAX_BYTES = 65_536
RETRY_MIN_S, RETRY_MAX_S = 0.1, 2.0

T = TypeVar("T")
Spawn = Callable[[Coroutine[Any, Any, None], str], object]


class CatchUp:
    """Brings viewers from their cursor to the live frames."""

    def __init__(
        self,
        log: Log,
        spawn: Spawn,
        slices: Slices,
        states: OperationStates,
        *,
        conflated: bool,
        counters: Counters,
    ) -> None:
        self._log = log
        self._spawn = spawn
        self._slices = slices
        self._states = states
        self._conflated = conflated
        self._counters = counters

    def begin(self, viewer: ChannelViewer, ask: Ask) -> None:
        """The first frames of a viewer: its state, then history, then live.

        Who resumes has a state, so the stream is not read for another one.
        """
        owner = viewer.owner
        topic = owner.topic
        viewer.by = ask.by or topic.operation
        told = self._states.now(topic, kept_only=ask.after is not None)
        exists = topic.last != ZERO and not topic.vanished
        if told is None and ask.after is None and exists and owner.stale_since is None:
            viewer.reading = True
            self._spawn(self._begin_with_state(viewer, ask), "state")
        else:
            self._begin(viewer, ask, told)

    async def _begin_with_state(self, viewer: ChannelViewer, ask: Ask) -> None:
        """Read the state first; without one where Redis does not answer."""
        topic = viewer.owner.topic
        told = None
        try:
            told = await self._states.read(topic.operation, viewer.by, topic)
        except RedisUnavailable:
            pass  # a viewer that has no state folds its history
        except StreamUnusable as error:
            viewer.owner.refuse(viewer, close_codes.NOT_FOUND, "not_a_stream", str(error))
        viewer.reading = False
        if viewer.state is ViewerState.CATCHING_UP:
            self._begin(viewer, ask, self._states.now(topic) or told)

    def _begin(self, viewer: ChannelViewer, ask: Ask, told: KeptState | None) -> None:
        topic = viewer.owner.topic
        viewer.epoch = topic.epoch
        viewer.keep_until = viewer.boundary = topic.last
        if ask.after is not None:
            if ask.after <= topic.last and topic.ring.covers(ask.after):
                self._open_from_ring(viewer, ask, told, ask.after, topic.ring.after(ask.after))
                return
            if _kept_for(viewer, ask.after) is not None:
                self._open(viewer, ask, told, ask.after)
                return
        else:
            before, newest = topic.ring.newest(topic.length if ask.history is None else ask.history)
            wanted = topic.length if ask.history is None else min(ask.history, topic.length)
            if len(newest) >= wanted:
                if before is None:
                    before = newest[0].id.before() if newest else topic.last
                self._open_from_ring(viewer, ask, told, before, newest)
                return
        viewer.reading = True
        self._spawn(self._open_from_log(viewer, ask, told), "join")

    def proceed(self, viewer: ChannelViewer) -> None:
        """Go on from where the viewer stands."""
        owner = viewer.owner
        topic = owner.topic
        while viewer.state is ViewerState.CATCHING_UP and not viewer.reading:
            if viewer.restart is None and viewer.epoch != topic.epoch:
                viewer.restart = topic.epoch_reason
            if viewer.restart is None:
                if viewer.cursor == topic.last:
                    owner.go_live(viewer)
                    return
                if viewer.cursor > topic.last:
                    # Another replica was faster, or the log is shorter than it was.
                    owner.wait_ahead(viewer)
                    return
                if topic.ring.covers(viewer.cursor):
                    self._send(viewer, _joined_for(viewer, topic.ring.after(viewer.cursor)))
                    if viewer.state is ViewerState.CATCHING_UP:
                        viewer.cursor = topic.last
                    continue
                kept = _kept_for(viewer, viewer.cursor)
                if kept is not None:
                    viewer.removed = None
                    self._send(viewer, kept)
                    continue
            viewer.reading = True
            self._spawn(self._read(viewer), "catch-up")

    # -- the first frames ------------------------------------------------------------------------

    def _state(
        self,
        viewer: ChannelViewer,
        ask: Ask,
        told: KeptState | None,
        cursor: StreamId,
        sent: int | None,
        available: int,
    ) -> Batch:
        owner = viewer.owner
        topic = owner.topic
        if told is None or told.epoch != topic.epoch or told.at < cursor:
            frame = current_state_frame(  # else entries between them would be in no state
                topic.operation,
                cursor,
                topic.status,
                sent=sent,
                available=available,
                known=ask.state,
            )
        else:
            viewer.boundary = told.at
            frame = current_state_frame(
                topic.operation,
                cursor,
                told.status,
                sent=sent,
                available=available,
                known=known_data(ask.state) if ask.state else None,
                at=told.at,
                state=told.data,
            )
        state = Batch([frame])
        if owner.stale_since is not None:
            state.add(stale_frame(topic.operation, owner.stale_since))
            viewer.told_stale = True
        return state

    def _open_from_ring(
        self,
        viewer: ChannelViewer,
        ask: Ask,
        told: KeptState | None,
        cursor: StreamId,
        history: list[Frame],
    ) -> None:
        topic = viewer.owner.topic
        sent = len(history)
        batch = self._state(viewer, ask, told, cursor, sent, max(sent, topic.length))
        for frame in _joined_for(viewer, history):
            batch.add(frame)
        viewer.cursor = topic.last
        self._counters.replayed(viewer, sent)
        viewer.write(batch)
        self.proceed(viewer)

    def _open(
        self, viewer: ChannelViewer, ask: Ask, told: KeptState | None, cursor: StreamId
    ) -> None:
        viewer.cursor = cursor
        viewer.write(self._state(viewer, ask, told, cursor, None, viewer.owner.topic.length))
        self.proceed(viewer)

    async def _open_from_log(self, viewer: ChannelViewer, ask: Ask, told: KeptState | None) -> None:
        page: Page | None = None
        frames: Sequence[Frame] = ()
        if ask.after is None:
            located = await self._patiently(viewer, lambda: self._locate(viewer, ask.history))
            if located is None:
                return
            info, cursor = located
            viewer.removed = info.added - info.length
            sent: int | None = info.length if ask.history is None else min(ask.history, info.length)
        else:
            viewer.cursor = cursor = ask.after
            found = await self._patiently(
                viewer, lambda: self._read_page(viewer, ask.after or ZERO)
            )
            if found is None:
                return
            page, frames = found
            if page is None:
                viewer.reading = False
                self._open(viewer, ask, told, cursor)
                return
            info = page.info
            sent = None if page.more else len(page.entries)
        viewer.cursor = cursor
        viewer.keep_until = viewer.boundary = info.last
        viewer.write(self._state(viewer, ask, told, cursor, sent, info.length))
        viewer.reading = False
        if page is not None and viewer.state is ViewerState.CATCHING_UP:
            if not info.exists and cursor != ZERO:
                viewer.owner.wait_for_stream(viewer)
                return
            self._take(viewer, page, frames)
        self.proceed(viewer)

    # -- pages -----------------------------------------------------------------------------------

    async def _read(self, viewer: ChannelViewer) -> None:
        topic = viewer.owner.topic
        after = viewer.cursor if viewer.restart is None else ZERO
        epoch = topic.epoch
        found = await self._patiently(viewer, lambda: self._read_page(viewer, after))
        viewer.reading = False
        if found is None or viewer.state is not ViewerState.CATCHING_UP:
            return  # gone, or lagging again: the page is read again when it has drained
        page, frames = found
        if page is not None and (viewer.restart is None or topic.epoch == epoch):
            self._take(viewer, page, frames)  # else it may be of the log before
        self.proceed(viewer)

    async def _read_page(
        self, viewer: ChannelViewer, after: StreamId
    ) -> tuple[Page | None, Sequence[Frame]] | None:
        """A page and its frames, as soon as it is this user's turn. No page when by then what is
        wanted has been read for someone else; None when the viewer has gone.
        """
        topic = viewer.owner.topic
        async with self._log.turn(topic.operation, viewer.by) as pages:
            if viewer.state is ViewerState.CLOSED:
                return None
            current = viewer.restart is None and viewer.epoch == topic.epoch
            if current and _kept_for(viewer, after) is not None:
                return None, ()
            mark = topic.mark()
            page = await pages.after(topic.operation, after)
            frames: list[Frame] = []
            for part in slices_of(page.entries):
                await self._slices.of(part, viewer.by)
                rendered = topic.render(part.entries)
                frames[-1:] = join([*frames[-1:], *rendered], boundary=viewer.boundary)
            topic.keep(mark, page, frames)
            return page, frames

    async def _locate(
        self, viewer: ChannelViewer, newest: int | None
    ) -> tuple[StreamInfo, StreamId] | None:
        operation = viewer.owner.topic.operation
        async with self._log.turn(operation, viewer.by) as pages:
            if viewer.state is ViewerState.CLOSED:
                return None
            return await pages.locate(operation, newest)

    def _take(self, viewer: ChannelViewer, page: Page, found: Sequence[Frame]) -> None:
        """Send a page, behind a gap unless it provably follows the viewer's cursor."""
        owner = viewer.owner
        topic = owner.topic
        reason = viewer.restart
        info = page.info
        if reason is None and info.exists and viewer.removed != info.added - info.length:
            reason = find_gap(viewer.cursor, info)
            if reason is GapReason.REWOUND:
                viewer.restart = GapReason.UNKNOWN_CURSOR
                return
        if not info.exists or (
            reason is None and not page.entries and viewer.cursor < topic.last > info.last
        ):
            owner.wait_ahead(viewer)  # the topic knows of entries that are not there any more
            return
        viewer.removed = None
        if reason is not None:
            first = stream_id(page.entries[0].id) if page.entries else None
            found = [gap_frame(topic.operation, viewer.cursor, first, reason), *found]
            self._counters.gaps[reason] += 1
            viewer.restart = None
            viewer.epoch = topic.epoch
            viewer.cursor = ZERO
        self._send(viewer, found)
        if viewer.state is ViewerState.CATCHING_UP and not page.more:
            viewer.cursor = max(viewer.cursor, info.last)

    def _send(self, viewer: ChannelViewer, found: Sequence[Frame]) -> None:
        """Write these frames until the buffer is full; the cursor follows what was written."""
        if not found:
            return
        topic = viewer.owner.topic
        if self._conflated and viewer.lagging_since:
            kept = conflate(found, viewer.keep_until)
        else:
            kept = [Kept(frame, 0) for frame in found]
        batch = Batch()
        for frame, skipped in kept:
            if skipped:
                batch.add(skipped_frame(topic.operation, skipped))
                self._counters.skipped += skipped
            batch.add(frame)
            self._counters.replayed(viewer, entries_in(frame))
            if batch.size_bytes >= WRITE_MAX_BYTES:
                viewer.cursor = frame.id
                viewer.write(batch)
                batch = Batch()
                if viewer.state is not ViewerState.CATCHING_UP:
                    return
        if batch.frames:
            viewer.cursor = kept[-1].frame.id
            viewer.write(batch)

    async def _patiently(
        self, viewer: ChannelViewer, read: Callable[[], Coroutine[Any, Any, T | None]]
    ) -> T | None:
        """Read until it works; None when the viewer is gone or its key is no stream."""
        delay = RETRY_MIN_S
        found: T | None = None
        # Looked at again after the read: a viewer that has left has no socket to write to.
        while viewer.state is not ViewerState.CLOSED:
            if found is not None:
                return found
            try:
                found = await read()
            except RedisUnavailable:
                await asyncio.sleep(delay)
                delay = min(2 * delay, RETRY_MAX_S)
            except StreamUnusable as error:
                viewer.owner.refuse(viewer, close_codes.NOT_FOUND, "not_a_stream", str(error))
        return None


def _joined_for(viewer: ChannelViewer, frames: Sequence[Frame]) -> Sequence[Frame]:
    """Frames of the ring, joined on each side of its boundary."""
    topic = viewer.owner.topic
    upto = ends_at(frames, viewer.boundary)
    if upto in (0, len(frames)):
        return topic.joined(frames)
    return [*topic.joined(frames[:upto]), *join(frames[upto:])]


def _kept_for(viewer: ChannelViewer, cursor: StreamId) -> Sequence[Frame] | None:
    """What is kept behind a cursor, unless a frame of it reaches over the boundary."""
    kept = viewer.owner.topic.kept_after(cursor)
    return None if kept is None or is_across(kept, viewer.boundary) else kept
