"""What an application sees of an operation: its frames folded into one state, by one pure function.

`fold` is the rule for every client in any language, and for the server; `clients/vectors` says the
same as data, and both our clients pass all of it. A frame is an entry when it has an `id` or a
`timestamp`: an entry may have any type, also that of another frame.

Invariant: `cursor` only rises within an epoch, and nothing at or below it is taken twice. A `gap`
other than `trimmed` begins a new epoch: the log is another one, and all of it follows. A state that
was told by `current_state` is that of `at`: entries up to there are in it already.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from tidegate.model.entries import TerminalRules
from tidegate.model.frame_values import (
    NEWEST_TIME_MS,
    merged_with,
    newest_part,
    number_of,
    read_position,
    read_text,
    time_of,
)
from tidegate.model.frames import GapReason
from tidegate.model.ids import OLDEST_TIME_MS, ZERO, StreamId

UNKNOWN = "unknown"
#: `unknown` for people: no stream, or none that says more.
NOT_STARTED = "not started yet"
RUNNING = "running"
COMPLETED = "completed"
FINAL_STATUSES = TerminalRules().statuses
#: The types that end an operation, with the status that each tells.
END_OF_TYPE = {type_: type_.removeprefix("operation_") for type_ in TerminalRules().types}
STARTED_TYPE = "operation_started"
#: What an entry does to the state beside the rules for all: so its `data.fold` says, else the
#: frame's `fold`, else its type. Anything else only replaces.
APPEND = "append"
MERGE = "merge"
REPLACE = "replace"

#: Sums of fractions end a little above 1; a percentage that is meant does not.
FRACTION_MAX = 1.000001


class LastGap(NamedTuple):
    """The newest gap; `before` is None where nothing has followed it yet."""

    after: str | None
    before: str | None
    reason: str


# Not frozen: folding 1,000 entries would take five times as long. Nobody changes one but `take`.
@dataclass(slots=True)
class FoldedState:
    """All that is known of an operation. docs/browser.md describes the fields for applications.

    Attributes:
        progress: 0 to 1; None while no figure has come.
        finished: the status is a final one.
        ended: the entry that ends it was received, and none behind it that says it runs again.
        started_ms: of `operation_started`, or of the first entry received; Unix time in ms, from
            ids that are times.
        estimated_end_ms: Unix time in ms, from `eta_s` of the newest entry with a figure, else from
            the rate since the start; None where there is nothing to say.
        text: joined from entries that append; its newest part where it is too long.
        merged: the data of entries that merge.
        partial: entries of this log are missing, or what was appended or merged was too large.
        result_omitted: the result was too large for `current_state`; its entry has it.
        epoch: how often the log was another one than before.
        cursor: where to resume.
        at: the state was told by `current_state`, up to this entry.
        in_percent: a `progress` above 1 has come, so 1 is one percent.
    """

    status: str = UNKNOWN
    finished: bool = False
    ended: bool = False
    progress: float | None = None
    current: float | None = None
    total: float | None = None
    unit: str = ""
    message: str = ""
    title: str = ""
    error: str = ""
    result: Any = None
    text: str = ""
    merged: Mapping[str, Any] = field(default_factory=dict)
    started_ms: int | None = None
    updated_ms: int | None = None
    ended_ms: int | None = None
    estimated_end_ms: int | None = None
    stale: bool = False
    gaps: int = 0
    gap: LastGap | None = None
    partial: bool = False
    result_omitted: bool = False
    skipped: int = 0
    entries: int = 0
    epoch: int = 0
    cursor: str | None = None
    at: str | None = None
    in_percent: bool = False


class Folded(NamedTuple):
    """The state behind a frame, and whether an application is shown the frame."""

    state: FoldedState
    shown: bool


def is_entry(frame: Mapping[str, Any]) -> bool:
    """Whether this is something that a backend wrote."""
    return "id" in frame or "timestamp" in frame


def fold(state: FoldedState, frame: Mapping[str, Any]) -> Folded:
    """Take in one frame. What is no frame of the protocol, or was had already, changes nothing."""
    after = replace(state)
    shown = _take(after, frame)
    return Folded(after if shown else state, shown)


def fold_all(state: FoldedState, frames: Iterable[Mapping[str, Any]]) -> FoldedState:
    """The state behind these frames."""
    after = replace(state)
    for frame in frames:
        _take(after, frame)
    return after


def _take(state: FoldedState, frame: Mapping[str, Any]) -> bool:
    """Change `state` by this frame; False when it says nothing, and nothing was changed."""
    data = frame.get("data")
    if type(data) is not dict:  # of JSON; to ask for a Mapping takes a twentieth of it all
        data = {}
    if "id" in frame or "timestamp" in frame:
        return _entry(state, frame, data)
    match frame.get("type"):
        case "current_state":
            _current_state(state, frame, data)
        case "gap":
            _gap(state, data)
        case "skipped":
            state.skipped += math.floor(max(0.0, number_of(data.get("count")) or 0.0))
        case "stale":
            state.stale = True
        case "live":
            state.stale = False
        case _:
            return False
    return True


# -- entries ---------------------------------------------------------------------------------------


def _entry(state: FoldedState, frame: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
    ms = None
    if "id" in frame:
        position = read_position(frame["id"])
        if position is None:
            return False
        last = read_position(state.cursor)
        if last is not None and position <= last:
            return False
        state.cursor = str(position)
        at = None if state.at is None else read_position(state.at)
        if at is not None and position <= at:
            _told(state, data, is_last=position == at)
            return True
        if OLDEST_TIME_MS <= position.ms <= NEWEST_TIME_MS:
            ms = position.ms
    type_ = frame.get("type")
    state.entries += entries_of(frame)
    if ms is not None:
        state.updated_ms = ms
        if state.started_ms is None or type_ == STARTED_TYPE:
            state.started_ms = ms
    status = END_OF_TYPE.get(type_) if isinstance(type_, str) else None
    if status is None:
        status = read_text(data.get("status"))
    _set_status(state, status, RUNNING)
    _describe(state, data)
    if status and status != UNKNOWN:
        state.ended = state.finished
        state.ended_ms = ms if state.finished else None
    rule = data.get("fold")
    if rule is None:
        rule = frame.get("fold")
    _fold_data(state, type_ if rule is None else rule, data)
    measured = _measure(state, data)
    _estimate(state, data, ms, measured=measured)
    _finish(state)
    return True


def _told(state: FoldedState, data: Mapping[str, Any], *, is_last: bool) -> None:
    """An entry that the state contains already, except for a result that was too large for it."""
    state.entries += 1
    if state.result_omitted and data.get("result") is not None:
        state.result = data["result"]
    if is_last:
        state.ended = state.finished
        state.result_omitted = state.result_omitted and state.result is None


def _set_status(state: FoldedState, status: str | None, otherwise: str) -> None:
    """`unknown` is what a replica says of a stream without any status; it tells nothing new."""
    if not status or status == UNKNOWN:
        if state.status == UNKNOWN:
            state.status = otherwise
        return
    finished = status in FINAL_STATUSES
    if state.finished and not finished:  # it is tried again
        state.progress = state.current = state.total = state.result = None
        state.estimated_end_ms = None
        state.in_percent = state.result_omitted = False
        state.error = state.text = ""
        state.merged = {}
    state.status = status
    state.finished = finished


def _describe(state: FoldedState, data: Mapping[str, Any]) -> None:
    for name in _TEXTS:
        if name in data:
            text = data[name]
            if name == "error" and isinstance(text, Mapping):
                text = text.get("message")
            text = read_text(text)
            if text is not None:
                setattr(state, name, text)
    result = data.get("result")
    if result is not None:
        state.result = result
        state.result_omitted = False


_TEXTS = ("title", "message", "unit", "error")


def _fold_data(state: FoldedState, rule: object, data: Mapping[str, Any]) -> None:
    """Join the text, or merge the data, of an entry that says so."""
    if rule == APPEND:
        joined = state.text + (read_text(data.get("text")) or "")
        state.text = newest_part(joined)
        state.partial = state.partial or state.text is not joined
    elif rule == MERGE:
        patch = {name: value for name, value in data.items() if name != "fold"}
        merged = merged_with(state.merged, patch)
        if merged is None:
            state.partial = True
        else:
            state.merged = merged


def _measure(state: FoldedState, data: Mapping[str, Any]) -> bool:
    """`current` of `total`, which may come in entries of their own, or `progress` as 0 to 1 or 0
    to 100. Whether there is a new figure.
    """
    current = number_of(data["current"]) if "current" in data else None
    total = number_of(data["total"]) if "total" in data else None
    if total is not None and total <= 0:
        total = None
    counted = current is not None or total is not None
    if current is not None:
        state.current = current
    if total is not None:
        state.total = total
    progress = number_of(data["progress"]) if "progress" in data else None
    if counted and state.current is not None and state.total is not None:
        progress = state.current / state.total
    elif progress is not None:
        # 1 is the end of 0..1 and the first percent of 0..100: only a figure above 1 tells.
        state.in_percent = state.in_percent or progress > FRACTION_MAX
        if state.in_percent:
            progress /= 100
    else:
        return False
    state.progress = min(1.0, max(0.0, progress))
    return True


def _estimate(
    state: FoldedState, data: Mapping[str, Any], ms: int | None, *, measured: bool
) -> None:
    """When it will have ended: as its entry says in seconds from its own time, else at the rate
    since the start, which is known when no entries are missing.
    """
    left_s = number_of(data["eta_s"]) if "eta_s" in data else None
    progress, started_ms = state.progress, state.started_ms
    if not state.finished and ms is not None and left_s is not None and left_s >= 0:
        state.estimated_end_ms = time_of(ms + left_s * 1000)
    elif measured or state.finished:
        state.estimated_end_ms = None
        if state.finished or state.partial or not progress or ms is None or started_ms is None:
            return
        if ms > started_ms:
            state.estimated_end_ms = time_of(started_ms + (ms - started_ms) / progress)


def _finish(state: FoldedState) -> None:
    """What has completed is at its end, once that is all there is to come: history comes behind
    the `current_state` that tells of it.
    """
    if state.status == COMPLETED and (state.ended or state.entries == 0):
        state.progress = 1.0
        state.error = ""


# -- other frames ----------------------------------------------------------------------------------


def _current_state(state: FoldedState, frame: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """Whoever knows nothing yet takes the state that a frame with `at` tells. Without `at`, what an
    operation source says counts while no entry has said otherwise.
    """
    state.stale = False
    position = read_position(frame.get("cursor"))
    if state.cursor is None and position is not None:
        state.cursor = str(position)
    _set_status(state, read_text(data.get("status")), UNKNOWN)
    if state.entries == 0 and state.at is None:
        _describe(state, data)
        _measure(state, data)
        at = read_position(frame.get("at"))
        if at is not None:
            _take_state(state, at, data)
    _finish(state)


def _take_state(state: FoldedState, at: StreamId, data: Mapping[str, Any]) -> None:
    """The rest of a state that was folded up to `at`."""
    state.at = str(at)
    state.progress = None  # that of `current` and `total` may be an older figure
    _measure(state, {"progress": data.get("progress")})
    state.in_percent = data.get("in_percent") is True
    state.text = newest_part(read_text(data.get("text")) or "")
    merged = data.get("merged")
    state.merged = (merged_with({}, merged) if isinstance(merged, Mapping) else None) or {}
    state.started_ms = time_of(data.get("started_ms"))
    state.updated_ms = time_of(data.get("updated_ms"))
    state.ended_ms = time_of(data.get("ended_ms"))
    state.estimated_end_ms = time_of(data.get("estimated_end_ms"))
    state.partial = data.get("partial") is True
    state.result_omitted = data.get("result_omitted") is True
    had = read_position(state.cursor)
    state.ended = state.finished and had is not None and had >= at


def _gap(state: FoldedState, data: Mapping[str, Any]) -> None:
    after, before = read_position(data.get("after")), read_position(data.get("before"))
    reason = read_text(data.get("reason")) or UNKNOWN
    last = LastGap(
        None if after is None else str(after), None if before is None else str(before), reason
    )
    below = None if before is None else before.before()
    state.gaps += 1
    state.gap = last
    if reason == GapReason.TRIMMED.value:
        had, at = read_position(state.cursor), read_position(state.at)
        if below is not None and (had is None or below > had):
            state.cursor = str(below)
        if at is None or below is None or below > at:  # else the state contains what is missing
            state.partial = True
        return
    fresh = FoldedState(
        stale=state.stale,
        gaps=state.gaps,
        gap=last,
        skipped=state.skipped,
        entries=state.entries,
        epoch=state.epoch + 1,
        cursor=str(below or ZERO),
    )
    for name in FoldedState.__slots__:
        setattr(state, name, getattr(fresh, name))


def entries_of(frame: Mapping[str, Any]) -> int:
    """How many entries a frame stands for: `joined`, where it has a number above 1."""
    return math.floor(max(1.0, number_of(frame.get("joined")) or 1.0))
