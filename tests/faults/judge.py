"""The verdict over what one viewer saw, against what was written. Pure.

A log is what one stream held, in order, also what was trimmed from it since. A record is the
viewer's events in their order. The viewer must get each entry after its first cursor once, in
order, unaltered, up to a terminal entry and close 1000. A hole is forgiven only by a `gap` frame
right before it, or by a `skipped` frame with exactly the number of superseded entries in it; both
must be true as well. An entry that is not `required` (a failover lost it again) may be missing.
Invariant: what is not announced is a complaint, whatever the fault was.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from tidegate.model.ids import ZERO, StreamId


class Written(NamedTuple):
    """One entry of a log."""

    id: StreamId
    number: int
    type: str
    terminal: bool = False
    required: bool = True


# --- what a viewer notes


class Opened(NamedTuple):
    """A connection was accepted; `asked` is the `last_event_id` it sent."""

    replica: int
    asked: StreamId | None


class State(NamedTuple):
    """`current_state`."""

    cursor: StreamId


class Got(NamedTuple):
    """An entry."""

    id: StreamId
    number: int
    type: str


class Gap(NamedTuple):
    """`gap`."""

    after: StreamId
    before: StreamId | None
    reason: str


class Skipped(NamedTuple):
    """`skipped`; `total` is its count."""

    total: int


class Closed(NamedTuple):
    """The connection ended; 1006 when nobody said goodbye."""

    code: int


Event = Opened | State | Got | Gap | Skipped | Closed


# --- what the judge says


class Wrong(enum.Enum):
    """Kinds of complaints."""

    LOST = "entries are missing and nothing said so"
    TWICE = "an entry came again"
    ORDER = "an entry came after a later one"
    UNKNOWN = "an entry that nobody wrote"
    ALTERED = "an entry is not what was written"
    CURSOR = "current_state does not stand where the viewer asked"
    GAP = "a gap frame is not true"
    SKIPPED = "a skipped frame is not true"
    END = "the viewer did not end with the terminal entry and close 1000"


class Complaint(NamedTuple):
    """What is wrong, at which event of the record."""

    wrong: Wrong
    event: int
    text: str

    def __str__(self) -> str:
        return f"{self.wrong.name} at event {self.event}: {self.text}"


@dataclass(slots=True)
class Verdict:
    """Complaints (none: all is well), and counts."""

    complaints: list[Complaint] = field(default_factory=list)
    entries: int = 0
    skipped: int = 0
    gaps: int = 0
    reconnects: int = 0


class Rules(NamedTuple):
    """What this viewer asked for.

    `from_start`: all history, so that nothing may lie before its first cursor. `conflated`: the
    entry types that a `skipped` frame may stand for.
    """

    from_start: bool = False
    conflated: frozenset[str] = frozenset({"progress"})


def judge(record: Sequence[Event], logs: Sequence[Sequence[Written]], rules: Rules) -> Verdict:
    """One viewer's record against the logs of its operation, oldest first."""
    trial = _Trial([_Log(log) for log in logs], rules)
    for index, event in enumerate(record):
        trial.take(index, event)
    trial.end(len(record))
    return trial.verdict


class _Log:
    def __init__(self, entries: Sequence[Written]) -> None:
        self.entries = entries
        self.ids = [entry.id for entry in entries]
        if any(a >= b for a, b in pairwise(self.ids)):
            raise ValueError("the ids of a log must rise: this is no log")
        self._index = {entry.id: index for index, entry in enumerate(entries)}

    def find(self, entry_id: StreamId) -> int | None:
        return self._index.get(entry_id)

    def after(self, position: StreamId) -> int:
        """Index of the first entry above `position`."""
        return bisect_right(self.ids, position)


class _Trial:
    """`_next` is the index of the entry that is due in log `_log`; None before the first state."""

    def __init__(self, logs: list[_Log], rules: Rules) -> None:
        self.verdict = Verdict()
        self._logs = logs
        self._rules = rules
        self._log = 0
        self._next: int | None = None
        self._position: StreamId | None = None
        self._gap: Gap | None = None
        self._skipped = 0
        self._terminal = False
        self._code: int | None = None

    def take(self, index: int, event: Event) -> None:
        if self._code == 1000:
            self._complain(Wrong.END, index, f"{event} after close 1000")
        match event:
            case Opened(_, asked):
                self._opened(index, asked)
            case State(cursor):
                self._state(index, cursor)
            case Got():
                self._got(index, event)
            case Gap():
                self._announced(index, event)
            case Skipped(total):
                if self._skipped or total < 1:
                    self._complain(Wrong.SKIPPED, index, f"{total} after {self._skipped}")
                self._skipped += total
                self.verdict.skipped += total
            case Closed(code):
                self._code = code
                if code == 1000 and self._skipped:
                    self._complain(Wrong.SKIPPED, index, "nothing came after it")
                self._gap, self._skipped = None, 0

    def end(self, index: int) -> None:
        if self._code != 1000:
            said = "it is still open" if self._code is None else f"close {self._code}"
            self._complain(Wrong.END, index, f"{said}, at {self._where()}")
        elif not self._terminal:
            self._complain(Wrong.END, index, f"1000 without a terminal entry, at {self._where()}")

    # --- events

    def _opened(self, index: int, asked: StreamId | None) -> None:
        if self._code is not None:
            self.verdict.reconnects += 1
        self._code, self._gap, self._skipped = None, None, 0
        if asked != self._position:
            raise ValueError(f"event {index}: the viewer asked for {asked}, not {self._position}")

    def _state(self, index: int, cursor: StreamId) -> None:
        if self._position is not None:
            if cursor != self._position:
                self._complain(Wrong.CURSOR, index, f"{cursor}, asked for {self._position}")
            return
        self._position = cursor
        log = self._logs[self._log]
        self._next = log.after(cursor)
        # Whoever wants no history of a finished operation gets 1000 and nothing else.
        self._terminal = any(entry.terminal for entry in log.entries[: self._next])
        if self._rules.from_start and self._required(0, self._next):
            self._complain(Wrong.LOST, index, f"all was asked for, and the cursor is {cursor}")

    def _announced(self, index: int, gap: Gap) -> None:
        self.verdict.gaps += 1
        if self._next is None or self._position is None:
            self._complain(Wrong.GAP, index, "before current_state")
            return
        if self._skipped or self._gap is not None:
            self._complain(Wrong.GAP, index, "nothing came after the frame before it")
        self._skipped, self._gap = 0, gap
        upto = self._logs[self._log].after(gap.after)
        if self._required(self._next, upto):
            text = f"after {gap.after}, but the viewer stands at {self._position}"
            self._complain(Wrong.GAP, index, text)
        if gap.before is not None and self._find(gap.before) is None:
            self._complain(Wrong.GAP, index, f"before {gap.before}, which nobody wrote")

    def _got(self, index: int, got: Got) -> None:
        if self._next is None:
            self._complain(Wrong.CURSOR, index, "an entry before current_state")
            self._next = 0
        self.verdict.entries += 1
        if self._gap is not None:
            at = self._beyond_gap(index, got, self._gap)
        else:
            at = self._following(index, got, self._next)
        self._gap, self._skipped, self._position = None, 0, got.id
        if at is None:
            return
        entry = self._logs[self._log].entries[at]
        if (entry.number, entry.type) != (got.number, got.type):
            self._complain(Wrong.ALTERED, index, f"{got}, written was {entry}")
        self._terminal = self._terminal or entry.terminal
        self._next = at + 1

    def _following(self, index: int, got: Got, due: int) -> int | None:
        log = self._logs[self._log]
        at = log.find(got.id)
        if at is None:
            self._complain(Wrong.UNKNOWN, index, str(got))
            return None
        if at < due:
            twice = self._position is not None and got.id == self._position
            self._complain(
                Wrong.TWICE if twice else Wrong.ORDER, index, f"{got} at {self._where()}"
            )
        elif self._skipped:
            self._check_skipped(index, due, at)
        elif missing := self._required(due, at):
            numbers = [entry.number for entry in missing]
            self._complain(Wrong.LOST, index, f"numbers {numbers[:20]} before {got}")
        return at

    def _check_skipped(self, index: int, due: int, at: int) -> None:
        hole = self._logs[self._log].entries[due:at]
        required = len(self._required(due, at))
        if not required <= self._skipped <= len(hole):
            text = f"it says {self._skipped}, missing are {len(hole)}"
            self._complain(Wrong.SKIPPED, index, text)
        kept = [entry for entry in hole if entry.type not in self._rules.conflated]
        if kept:
            self._complain(Wrong.SKIPPED, index, f"{kept[0]} may not be skipped")

    def _beyond_gap(self, index: int, got: Got, gap: Gap) -> int | None:
        """A gap in the same log goes forward; any other starts somewhere in this or a later log."""
        if gap.before is not None and got.id != gap.before:
            self._complain(Wrong.GAP, index, f"{gap} is followed by {got}")
        found = self._find(got.id)
        if found is None:
            self._complain(Wrong.UNKNOWN, index, str(got))
            return None
        log, at = found
        if gap.reason == "trimmed" and log == self._log and at < (self._next or 0):
            self._complain(Wrong.GAP, index, f"{gap} leads back to {got}")
        if log != self._log:
            self._terminal = False
        self._log = log
        return at

    # --- looking things up

    def _find(self, entry_id: StreamId) -> tuple[int, int] | None:
        for log in range(self._log, len(self._logs)):
            if (at := self._logs[log].find(entry_id)) is not None:
                return log, at
        return None

    def _required(self, start: int, stop: int) -> list[Written]:
        return [entry for entry in self._logs[self._log].entries[start:stop] if entry.required]

    def _where(self) -> str:
        log = self._logs[self._log]
        total = len(log.entries)
        return f"{self._position or ZERO}, {self._next} of {total} entries"

    def _complain(self, wrong: Wrong, index: int, text: str) -> None:
        self.verdict.complaints.append(Complaint(wrong, index, text))
