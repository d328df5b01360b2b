"""The states of operations, for `current_state` and for requests: folded from entries when a viewer
joins, never in the path of a live entry.

    now()   from what is in memory: a kept state and the ring behind it, or a ring that is whole
    read()  from the stream in pages, one read per operation at a time; `now` has it afterwards

Of a stream with more than `NEWEST_ENTRIES`, the newest are read, and the state is partial.

One state per operation is kept with its position, so that each entry is folded once, however many
viewers join. It is derived from entries only. It is continued only if that is proven: in the topic
in which it was folded, in the same epoch; otherwise its last entry must still be in the stream,
unchanged, and as many entries must follow as were added. Otherwise it is folded again. All kept
states together are bounded by `KEPT_MAX_BYTES`; the one that was used longest ago is dropped first.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from tidegate.core.ports import Log
from tidegate.core.records import Page, StreamInfo
from tidegate.core.ring import Ring, RingBudget
from tidegate.core.topic import RUNNING_STATUS, UNKNOWN_STATUS, Topic, TopicRules
from tidegate.gateway.slices import Slices, slices_of
from tidegate.model.errors import TidegateError
from tidegate.model.folded_state import FoldedState, fold_all
from tidegate.model.frame_parsing import parse_frame
from tidegate.model.frames import Frame
from tidegate.model.ids import ZERO, OperationId, StreamId, stream_id
from tidegate.model.state_data import bounded, state_data

KEPT_MAX_BYTES = 33_554_432
#: What a kept state costs beside its texts.
KEPT_COSTS_BYTES = 2_048
#: Of a longer stream the first page and so many of the newest entries are folded.
NEWEST_ENTRIES = 10_000


@dataclass(slots=True, eq=False)
class KeptState:
    """A state, and what proves that it may go on.

    Attributes:
        at: the position it holds for.
        data: as it is told.
        status: by the replica's own rules of what ends an operation, as is `finished`.
        added: entries ever added to the stream up to `at`; None where that is not known.
        last: the frame of the last entry in it; None where there is none.
        topic: in which it was folded, as long as that is followed; `epoch` is the topic's.
    """

    state: FoldedState
    at: StreamId
    status: str
    finished: bool
    added: int | None
    last: Frame | None
    topic: Topic | None
    epoch: int
    data: Mapping[str, Any] = field(default_factory=dict)
    size_bytes: int = 0


class OperationStates:
    """Folds and keeps the states of this replica's operations, followed or not."""

    def __init__(
        self, log: Log, rules: TopicRules, slices: Slices, *, max_bytes: int = KEPT_MAX_BYTES
    ) -> None:
        self.log = log
        self.rules = rules
        self.slices = slices
        self._max_bytes = max_bytes
        self._kept: OrderedDict[OperationId, KeptState] = OrderedDict()
        self._reading: dict[OperationId, asyncio.Future[KeptState | None]] = {}
        #: Of all states kept.
        self.size_bytes = 0
        #: Entries folded since the start.
        self.folded = 0

    def now(self, topic: Topic, *, kept_only: bool = False) -> KeptState | None:
        """The state of a followed operation without a wait; None where the stream has to be read.
        `kept_only`: nor is the ring folded from its beginning.
        """
        kept = self._kept.get(topic.operation)
        if kept is None or kept.topic is not topic or kept.epoch != topic.epoch:
            return None if kept_only else self._from_ring(topic)
        if kept.at < topic.last:
            if not topic.ring.covers(kept.at):
                return None
            return self._of_topic(topic, kept.state, topic.ring.after(kept.at), kept.last)
        self._kept.move_to_end(topic.operation)
        return kept

    async def read(
        self, operation: OperationId, by: str, topic: Topic | None = None
    ) -> KeptState | None:
        """The state by the stream; None when there is none, or another log took its place in the
        meantime. Who asks while it is read gets the same.

        Raises:
            RedisUnavailable, StreamUnusable
        """
        while (reading := self._reading.get(operation)) is not None:
            await asyncio.wait([reading])
            if not reading.cancelled():
                return reading.result()
        self._reading[operation] = reading = asyncio.get_running_loop().create_future()
        try:
            found = await self._read(operation, by, topic)
        except TidegateError as error:
            reading.set_exception(error)
            reading.exception()  # it is told, even if nobody else asks
            raise
        except BaseException:
            reading.cancel()  # of whoever asked; the next one reads
            raise
        else:
            reading.set_result(found)
            return found
        finally:
            del self._reading[operation]

    async def _read(self, operation: OperationId, by: str, topic: Topic | None) -> KeptState | None:
        epoch = 0 if topic is None else topic.epoch
        found = await self._read_on(operation, by, topic) or await self._anew(operation, by)
        if found is None or (topic is not None and topic.epoch != epoch):
            return None
        found.topic, found.epoch = topic, epoch
        return self._keep(operation, found)

    def left(self, topic: Topic) -> None:
        """This topic is not followed any more."""
        kept = self._kept.get(topic.operation)
        if kept is not None and kept.topic is topic:
            kept.topic = None

    def forget_all(self) -> None:
        """Keep none; each is read again when someone asks."""
        self._kept.clear()
        self.size_bytes = 0

    # -- from memory ------------------------------------------------------------------------------

    def _from_ring(self, topic: Topic) -> KeptState | None:
        """From a ring that holds the whole stream, or more: what was trimmed since."""
        before, frames = topic.ring.newest(len(topic.ring))
        if topic.last == ZERO or topic.vanished or len(frames) < topic.length:
            return None
        return self._of_topic(topic, FoldedState(partial=before != ZERO), frames, None)

    def _of_topic(
        self, topic: Topic, state: FoldedState, frames: Sequence[Frame], last: Frame | None
    ) -> KeptState:
        state = self.fold(state, frames)
        last = frames[-1] if frames else last
        status, finished, added = topic.status, topic.finished, topic.added
        kept = KeptState(state, topic.last, status, finished, added, last, topic, topic.epoch)
        return self._keep(topic.operation, kept)

    def fold(self, state: FoldedState, frames: Sequence[Frame]) -> FoldedState:
        """The state behind these entries."""
        self.folded += len(frames)
        return fold_all(state, map(_parsed, frames))

    def _keep(self, operation: OperationId, kept: KeptState) -> KeptState:
        """Keep it instead of the one before."""
        self._forget(operation)
        kept.state = bounded(replace(kept.state, cursor=str(kept.at)))
        kept.data = state_data(kept.state) | {"status": kept.status}
        # Twice: as it is folded and as it is told.
        kept.size_bytes = KEPT_COSTS_BYTES + 2 * len(orjson.dumps(kept.data))
        if kept.last is not None:
            kept.size_bytes += len(kept.last.payload)
        self._kept[operation] = kept
        self.size_bytes += kept.size_bytes
        while self.size_bytes > self._max_bytes:
            self._forget(next(iter(self._kept)))
        return kept

    def _forget(self, operation: OperationId) -> None:
        kept = self._kept.pop(operation, None)
        if kept is not None:
            self.size_bytes -= kept.size_bytes

    # -- from the stream --------------------------------------------------------------------------

    async def _read_on(
        self, operation: OperationId, by: str, topic: Topic | None
    ) -> KeptState | None:
        """The kept state and what came behind it; None where it is not proven to go on."""
        kept = self._kept.get(operation)
        if kept is None or kept.last is None:
            return None
        is_same_log = topic is not None and kept.topic is topic and kept.epoch == topic.epoch
        folding = _Folding(self, operation, by, kept.state, kept.status, kept.finished)
        page = await folding.page(kept.last.id.before(), kept.last)
        if not folding.is_proven:
            if not is_same_log or page.info.first <= kept.at:
                return None
            page = await folding.page(kept.at)  # the same log, of which it was trimmed
        if page.more and page.info.added - (kept.added or 0) > NEWEST_ENTRIES:
            if not is_same_log:
                return None
            async with self.log.turn(operation, by) as pages:
                _, before = await pages.locate(operation, NEWEST_ENTRIES)
            page = await folding.page(before)
        page = await folding.rest(page)
        if not page.info.exists:
            return None
        expected = None if kept.added is None else page.info.added - kept.added
        if folding.count != expected:
            if not is_same_log:
                return None
            folding.state = replace(folding.state, partial=True)
        return folding.kept(page.info)

    async def _anew(self, operation: OperationId, by: str) -> KeptState | None:
        """From the beginning of the stream, or of the newest entries of a long one."""
        async with self.log.turn(operation, by) as pages:
            info, before = await pages.locate(operation, NEWEST_ENTRIES)
        if not info.exists:
            self._forget(operation)
            return None
        folding = _Folding(self, operation, by, FoldedState(), UNKNOWN_STATUS, finished=False)
        if info.length > NEWEST_ENTRIES:  # how it began, at least
            await folding.page(ZERO)
            folding.count = 0
        page = await folding.rest(await folding.page(before))
        if not page.info.exists:
            return None
        removed = info.added - min(info.length, NEWEST_ENTRIES)
        if removed or folding.count != page.info.added:
            folding.state = replace(folding.state, partial=True)
        return folding.kept(page.info)


class _Folding:
    """Pages of a stream, folded in slices of the loop's time."""

    def __init__(
        self,
        states: OperationStates,
        operation: OperationId,
        by: str,
        state: FoldedState,
        status: str,
        finished: bool,
    ) -> None:
        self._states = states
        self._operation = operation
        self._by = by
        self.state = state
        #: Frames and the status, by the rules of topics.
        self._topic = Topic(operation, Ring(1, 1, RingBudget(1)), states.rules)
        self._topic.status, self._topic.finished = status, finished
        #: Entries folded.
        self.count = 0
        #: The last page began with the entry that it had to.
        self.is_proven = False
        self._last: Frame | None = None

    async def page(self, after: StreamId, known: Frame | None = None) -> Page:
        """Fold a page above `after`; if it has to begin with a `known` entry, what is behind that,
        and nothing where it does not.
        """
        states = self._states
        async with states.log.turn(self._operation, self._by) as pages:
            page = await pages.after(self._operation, after)
            entries = page.entries
            if known is not None:
                first = self._topic.render(entries[:1])
                self.is_proven = bool(first) and first[0].payload == known.payload
                self._last = known
                entries = entries[1:] if self.is_proven else ()
            for part in slices_of(entries):
                await states.slices.of(part, self._by)
                frames = self._topic.fold(part.entries)
                self.state = states.fold(self.state, frames)
                self._last = frames[-1]
                self.count += len(frames)
            return page

    async def rest(self, page: Page) -> Page:
        """Fold what is behind a page; the last one."""
        while page.more:  # one at a time: all of them may be 25 MB
            page = await self.page(stream_id(page.entries[-1].id))
        return page

    def kept(self, info: StreamInfo) -> KeptState:
        """What is to be kept, of a stream that was read to its end."""
        topic = self._topic
        status = RUNNING_STATUS if topic.status == UNKNOWN_STATUS else topic.status
        last, added = self._last, info.added
        return KeptState(self.state, info.last, status, topic.finished, added, last, None, 0)


def _parsed(frame: Frame) -> Mapping[str, Any]:
    """As clients read it."""
    try:
        found: Mapping[str, Any] = orjson.loads(frame.payload)
    except ValueError:  # half a surrogate pair, or deeper than it goes
        return parse_frame(frame.payload.decode()) or {"id": str(frame.id)}
    return found
