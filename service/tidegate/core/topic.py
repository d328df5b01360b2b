"""One operation as this replica knows it: the order of its entries, its status, and proof that none
is missing.

    ATTACHING --page--> LIVE <--page-- REPAIRING
        ^                 |  relay that does not follow on  ^
        |                 +---------------------------------+
        +---- detached() from any state (Redis link lost)

Only LIVE applies relay messages. In the other states they are ignored: the page that ends the state
is read later than they were published, on the same connection, so it contains what they carry. A
page from elsewhere says `more`, which ends no state. What is too large to relay is read as well.
Invariant: the ids delivered rise strictly; where they cannot, or where an entry may be missing, a
gap frame comes first. Pure: methods return effects, the shell carries them out. After a rewound or
re-created log `epoch` grows: a cursor is only comparable to positions of its own epoch.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple

from tidegate.core.joined_history import JoinedHistory
from tidegate.core.records import Page, Relay, StreamInfo
from tidegate.core.recovery import find_gap
from tidegate.core.ring import Ring
from tidegate.model.entries import Entry, RawEntry, TerminalRules, read_entry
from tidegate.model.frames import (
    ENTRY,
    PROGRESS,
    Frame,
    FrameKind,
    GapReason,
    entry_frame,
    gap_frame,
)
from tidegate.model.ids import OLDEST_TIME_MS, ZERO, OperationId, StreamId

UNKNOWN_STATUS = "unknown"
RUNNING_STATUS = "running"


class TopicState(enum.Enum):
    """See the table in the module's docstring."""

    ATTACHING = "attaching"
    LIVE = "live"
    REPAIRING = "repairing"


_LIVE: Final = TopicState.LIVE


class RepairCause(enum.Enum):
    """Why a page is read."""

    RELAY_GAP = "relay_gap"
    LARGE = "large"
    MISSED_RELAY = "missed_relay"
    MORE = "more"
    VERIFY = "verify"
    REWOUND = "rewound"
    RECREATED = "recreated"


class Deliver:
    """Send these frames to every live viewer, in this order. With `gap`, the gap frame is the only
    one.
    """

    __slots__ = ("frames", "gap")

    def __init__(self, frames: list[Frame], gap: GapReason | None = None) -> None:
        self.frames = frames
        self.gap = gap


class ReadAfter(NamedTuple):
    """Read a page of the stream after this position and feed it to `page`."""

    after: StreamId
    cause: RepairCause


class Finished(NamedTuple):
    """The operation has ended: close its viewers after the grace."""


class Reopened(NamedTuple):
    """It runs again after all."""


class Vanished(NamedTuple):
    """The stream existed and is gone."""


Effect = Deliver | ReadAfter | Finished | Reopened | Vanished


class TopicRules(NamedTuple):
    """What makes an entry terminal, of which types only the newest matters, how types are folded
    whose names do not tell it, and which append to a text.
    """

    terminal: TerminalRules
    conflated_types: frozenset[str]
    folds: Mapping[str, str] = MappingProxyType({})
    append_types: frozenset[str] = frozenset()


@lru_cache(maxsize=16)
def _kinds_of(conflated: frozenset[str], append: frozenset[str]) -> Mapping[str, FrameKind]:
    """What frames of these types are; one mapping for all topics."""
    progress = dict.fromkeys(conflated, FrameKind.PROGRESS)
    return {**dict.fromkeys(append, FrameKind.APPEND), **progress}


class LogMark(NamedTuple):
    """How far a log was followed at a moment; see `Topic.mark`."""

    epoch: int
    last: StreamId
    first: StreamId
    added: int


class Topic:
    """The log of one operation, followed."""

    __slots__ = (
        "_added",
        "_doubted",
        "_first",
        "_had_group",
        "_is_registered",
        "_joined",
        "_kinds",
        "_last_raw",
        "_operation_bytes",
        "_pending_gap",
        "_recreated",
        "_rules",
        "_suspected",
        "_tail",
        "epoch",
        "epoch_reason",
        "finished",
        "gaps",
        "last",
        "length",
        "malformed",
        "operation",
        "ring",
        "state",
        "status",
        "vanished",
    )

    def __init__(self, operation: OperationId, ring: Ring, rules: TopicRules) -> None:
        self.operation = operation
        self.ring = ring
        self.state = TopicState.ATTACHING
        #: Id of the last entry applied; `0-0` before the first.
        self.last = ZERO
        self.status = UNKNOWN_STATUS
        self.finished = False
        self.vanished = False
        self.epoch = 0
        #: Why the epoch before this one ended.
        self.epoch_reason = GapReason.RECREATED
        #: Entries in the stream when last looked at, plus those relayed since.
        self.length = 0
        self.gaps = 0
        self.malformed = 0
        self._rules = rules
        self._kinds = _kinds_of(rules.conflated_types, rules.append_types)
        #: None where no type appends.
        self._joined = JoinedHistory(ring.budget) if rules.append_types else None
        self._operation_bytes = operation.encode()
        self._last_raw = b""
        #: The last entry applied; `last` goes beyond it when the newest entry was deleted.
        self._tail = b""
        self._added: int | None = None
        #: The next page begins with the last entry applied, if it is still the same log.
        self._doubted = False
        self._pending_gap: GapReason | None = None
        #: The first entry when last looked at; `0-0` when there was none.
        self._first = ZERO
        #: The consumer group is known to have been there.
        self._had_group = False
        #: So is this replica's consumer in it.
        self._is_registered = False
        #: This is another log than the one that was delivered, whatever its ids say.
        self._recreated = False
        #: It may be; whether the last entry is still the same will tell.
        self._suspected = False

    # -- what the shell feeds --------------------------------------------------------------------

    def relay(self, message: Relay) -> Sequence[Effect]:
        """A relay message arrived."""
        if message.created:
            if self._had_group:
                self._suspect()
            self._is_registered = True  # the shell does that
        self._had_group = True
        if self.state is not _LIVE:
            return ()
        if self._recreated:
            return self._repair(RepairCause.RECREATED)
        if message.unread:
            known = self._fresh([RawEntry(message.unread, None)]) == ()
            return () if known and not message.created else self._repair(RepairCause.LARGE)
        if message.previous == self._last_raw and message.previous and not message.created:
            return self._apply(message.entries)
        fresh = self._fresh(message.entries)
        if fresh is None or (message.created and self.last != ZERO):
            return self._repair(RepairCause.RELAY_GAP)
        if not fresh:
            return self._repair(RepairCause.RELAY_GAP) if message.created else ()
        skipped = len(message.entries) - len(fresh)
        previous = message.entries[skipped - 1].id if skipped else message.previous
        if (previous == self._last_raw and previous) or self._counted(message, len(fresh)):
            return self._apply(fresh)
        return self._repair(RepairCause.RELAY_GAP)

    def page(self, page: Page) -> Sequence[Effect]:
        """A page arrived: the answer to an attach or to `ReadAfter`."""
        info = page.info
        first_look = self.state is TopicState.ATTACHING and page.after is None
        self.length = info.length
        if page.registered is not None and info.exists:
            if self._is_registered and page.registered:
                self._suspect()
            self._had_group = self._is_registered = True
        if first_look:
            return self._begin(page)
        if not info.exists:
            return self._vanish()
        if self._suspected and not self._recreated:
            if page.after != self.last.before():
                return self._repair(RepairCause.VERIFY)
            self._recreated = not self._has_unchanged(page)
            self._suspected = False
        if self._recreated and page.after != ZERO:
            self._pending_gap = None
            return self._repair(RepairCause.RECREATED)
        reason: GapReason | None
        if self._recreated:
            reason, self._pending_gap = GapReason.RECREATED, None
        elif self._pending_gap is None:
            reason = find_gap(self.last, info) or self._contradiction(page)
            if reason is None and self._is_another(info):
                self._recreated = True
                return self._repair(RepairCause.RECREATED)
            if reason is GapReason.REWOUND and page.after != ZERO:
                self._pending_gap = reason
                self.state = TopicState.REPAIRING
                return (ReadAfter(ZERO, RepairCause.REWOUND),)
        else:
            reason, self._pending_gap = self._pending_gap, None
        effects: list[Effect] = []
        if reason is not None:
            effects.append(Deliver([self._break(reason, page)], reason))
        effects.extend(self._apply(self._above(page.entries)))
        if page.more:
            return [*effects, *self._repair(RepairCause.MORE)]
        return [*effects, *self._settle(info)]

    def verify(self) -> Sequence[Effect]:
        """Look at the stream again; a page follows in any case."""
        return self._repair(RepairCause.VERIFY) if self.state is TopicState.LIVE else ()

    def seen(self, last: bytes) -> Sequence[Effect]:
        """The id of the stream's newest entry at this moment; empty: there is none."""
        if self.state is not TopicState.LIVE or last == self._last_raw:
            return ()
        if not last and self.last == ZERO:
            return ()
        return self._repair(RepairCause.MISSED_RELAY)

    def render(self, entries: Sequence[RawEntry]) -> list[Frame]:
        """Frames of entries that one viewer reads for itself; changes nothing here."""
        return [self._frame(raw)[1] for raw in entries]

    def joined(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        """Frames of the ring, those that append to a text as one."""
        return frames if self._joined is None else self._joined.newest(frames)

    def kept_after(self, cursor: StreamId) -> Sequence[Frame] | None:
        """Joined frames that follow a cursor, of what was read before the ring; None: read it."""
        return None if self._joined is None else self._joined.after(cursor)

    def mark(self) -> LogMark | None:
        """For `keep`: to be taken before the page is read. None: it cannot be kept."""
        certain = self.state is TopicState.LIVE and not (
            self._suspected or self._recreated or self.vanished
        )
        if self._joined is None or not certain or self._added is None:
            return None
        return LogMark(self.epoch, self.last, self._first, self._added)

    def keep(self, mark: LogMark | None, page: Page, frames: Sequence[Frame]) -> None:
        """Joined frames of a page that one viewer has read, for others: unless it is of another log
        than the one that is followed, or ahead of it.
        """
        if mark is None or self._joined is None or not page.entries or page.after is None:
            return
        info, first = page.info, page.entries[0].position
        begun_before = info.first < mark.first and mark.first != ZERO
        if mark.epoch != self.epoch or frames[-1].id > self.last or begun_before:
            return
        if info.last < mark.last or info.added < mark.added:
            return
        proven = find_gap(page.after, info) is None
        start = page.after if proven else first.before()
        self._joined.keep(start, first, frames, oldest=info.first)

    def discard(self) -> None:
        """Nobody watches any more."""
        self.ring.discard()
        if self._joined is not None:
            self._joined.clear()

    def fold(self, entries: Sequence[RawEntry]) -> list[Frame]:
        """Frames of entries, whose status this takes over: for a topic that nobody follows."""
        return self._read(entries)

    def detached(self) -> None:
        """The Redis link is lost: what is relayed from now on is missed until the next attach."""
        self.state = TopicState.ATTACHING
        self._pending_gap = None
        self._doubted = self._can_doubt

    @property
    def resume_after(self) -> StreamId | None:
        """Where a new attach has to read from; None when nothing was read yet."""
        if self._added is None and self.last == ZERO:
            return None
        if self._recreated:
            return ZERO
        return self.last.before() if self._doubted else self.last

    @property
    def added(self) -> int | None:
        """Entries ever added to the stream, up to `last`; None where that is not known."""
        return self._added

    # -- inside ----------------------------------------------------------------------------------

    def _begin(self, page: Page) -> Sequence[Effect]:
        """The first page: the newest entries, which nobody waits for as live frames."""
        info = page.info
        frames = self._read(page.entries)
        complete = len(frames) == info.length
        self._forget()
        self.ring.clear(ZERO if complete and info.added == info.length else None)
        self._tail = page.entries[-1].id if page.entries else b""
        for frame in frames:
            self.ring.append(frame)
        if info.exists and self.status == UNKNOWN_STATUS:
            self.status = RUNNING_STATUS
        settled = self._settle(info)
        return self._repair(RepairCause.MORE) if page.more else settled

    def _settle(self, info: StreamInfo) -> Sequence[Effect]:
        """Everything up to `info` is applied."""
        self._move_to(info.last)
        self._added = info.added
        self._first = info.first
        self.vanished = False
        self.state = TopicState.LIVE
        if not len(self.ring):
            self.ring.clear(self.last)
        return ()

    def _forget(self) -> None:
        """What is joined is not of this log, or does not lead up to the ring any more."""
        if self._joined is not None:
            self._joined.clear()

    def _move_to(self, last: StreamId) -> None:
        """The position is `last` although its entry may have been removed again."""
        if last > self.last:
            self.last = last
            self._last_raw = str(last).encode()

    def _apply(self, entries: Sequence[RawEntry]) -> Sequence[Effect]:
        """Entries that follow on, in order."""
        if not entries:
            return ()
        was_finished = self.finished
        frames = self._read(entries)
        ring = self.ring
        for frame in frames:
            ring.append(frame)
        self.last = frames[-1].id
        self._last_raw = self._tail = entries[-1].id
        self.length += len(frames)
        self.vanished = False
        if self._added is not None:
            self._added += len(frames)
        if self.finished is was_finished:
            return (Deliver(frames),)
        return (Deliver(frames), Finished() if self.finished else Reopened())

    def _read(self, entries: Sequence[RawEntry]) -> list[Frame]:
        """Frames of these entries; folds the status on the way."""
        terminal = self._rules.terminal
        frames = []
        for raw in entries:
            entry, frame = self._frame(raw)
            frames.append(frame)
            status = terminal.status_of(entry)
            if status is not None:
                self.status = status
                self.finished = terminal.is_terminal(entry)
            elif self.status == UNKNOWN_STATUS:
                self.status = RUNNING_STATUS
            if not entry.is_whole:
                self.malformed += 1
        return frames

    def _frame(self, raw: RawEntry) -> tuple[Entry, Frame]:
        entry = read_entry(raw.position, raw)
        rules = self._rules
        kind = self._kinds.get(entry.type, ENTRY)
        if kind is PROGRESS and (
            entry.status in rules.terminal.statuses
            or entry.has_fold  # what appends or merges is not superseded
        ):
            kind = ENTRY
        fold = rules.folds.get(entry.type) if rules.folds else None
        return entry, entry_frame(entry, raw.id, self._operation_bytes, kind, fold)

    def _above(self, entries: Sequence[RawEntry]) -> Sequence[RawEntry]:
        return [raw for raw in entries if raw.position > self.last]

    def _fresh(self, entries: Sequence[RawEntry]) -> Sequence[RawEntry] | None:
        """The entries above the last one; None when an older one is not known to be delivered."""
        for index, raw in enumerate(entries):
            if raw.position > self.last:
                return entries[index:]
            if not self.ring.holds(raw.position):
                return None
        return ()

    def _counted(self, message: Relay, fresh: int) -> bool:
        """Whether the stream's own counter proves that nothing came between.

        For streams that are trimmed so hard that the entry before is already gone.
        """
        if message.added is None or self._added is None:
            return False
        if self.last == ZERO:
            return message.added == fresh
        return not message.created and self._added + fresh == message.added

    def _repair(self, cause: RepairCause) -> Sequence[Effect]:
        """Read on, beginning with the last entry: if it is not there, this is another log. One that
        is known to be another is read from its beginning.
        """
        self.state = TopicState.REPAIRING
        self._doubted = self._can_doubt and not self._recreated
        if self._recreated:
            return (ReadAfter(ZERO, cause),)
        return (ReadAfter(self.last.before() if self._doubted else self.last, cause),)

    @property
    def _can_doubt(self) -> bool:
        """Whether the position is that of an entry, which can be looked for."""
        return self._tail == self._last_raw != b""

    def _contradiction(self, page: Page) -> GapReason | None:
        """What `find_gap` cannot see: a log that begins before the position and is another one.

        After a failover to a server that lacks our last entry, or when the backend chooses its ids.
        Entries of it may lie below the position, so it is as good as rewound.
        """
        doubted = self._doubted and page.after == self.last.before()
        self._doubted = False
        if not doubted or page.info.last == self.last or page.info.deleted >= self.last:
            return None  # nothing new; or this log had such an entry, and it was deleted
        if page.entries and page.entries[0].id == self._last_raw:
            return None
        return GapReason.REWOUND

    def _suspect(self) -> None:
        """The group, or our consumer in it, was there and is gone; both live and die with the
        stream.

        Ids that a server has made are times, so that no other log has them: where the last entry is
        still there and the same, someone has destroyed the group only. A backend may choose the
        same ids again, and the same entries.
        """
        if self.last.ms >= OLDEST_TIME_MS and self._can_doubt:
            self._suspected = True
        else:
            self._recreated |= self.last != ZERO

    def _has_unchanged(self, page: Page) -> bool:
        """Whether a page that reads on from before the last entry begins with it."""
        if not page.entries or page.entries[0].id != self._last_raw:
            return False
        _, kept = self.ring.newest(1)
        unknown = not kept or kept[0].id != self.last
        return unknown or kept[0].payload == self._frame(page.entries[0])[1].payload

    def _is_another(self, info: StreamInfo) -> bool:
        """Whether the stream's own figures say what its ids do not: entries are never added in
        front of the first one, and a log has had as many as it ever had.
        """
        if self._added is not None and info.added < self._added:
            return True
        return bool(info.length) and self._first != ZERO and info.first < self._first

    def _vanish(self) -> Sequence[Effect]:
        self.state = TopicState.LIVE
        self._pending_gap = None
        self._doubted = False
        if self.last == ZERO or self.vanished:
            self._added = 0
            return ()
        self.vanished = self._recreated = True  # what comes in its place is another log
        return (Vanished(),)

    def _break(self, reason: GapReason, page: Page) -> Frame:
        """Continuity is lost: the next entry starts a new run of ids."""
        first = page.entries[0].position if page.entries else None
        frame = gap_frame(self.operation, self.last, first, reason)
        self.gaps += 1
        self._added = None
        self._first = ZERO
        self._recreated = self._suspected = False
        self.last = ZERO if first is None else first.before()
        self._last_raw = b""
        self._forget()
        self.ring.clear(self.last if first is not None else None)
        if reason is not GapReason.TRIMMED:
            self.epoch += 1
            self.epoch_reason = reason
            self.status, self.finished = RUNNING_STATUS, False
        return frame
