"""What an application sees of an operation: its frames folded into one state, by one pure function.

`fold` is the rule for every client, in any language; `clients/vectors` says the same as data, and
both our clients pass all of it. A frame is an entry when it has an `id` or a `timestamp`: an entry
may have any type, also that of another frame.

Invariant: `cursor` only rises within an epoch, and nothing at or below it is taken twice. A `gap`
other than `trimmed` begins a new epoch: the log is another one, and all of it follows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from tidegate.model.entries import TerminalRules
from tidegate.model.errors import InvalidStreamId
from tidegate.model.frames import GapReason
from tidegate.model.ids import OLDEST_TIME_MS, ZERO, StreamId, parse_stream_id

UNKNOWN = "unknown"
#: `unknown` for people: no stream, or none that says more.
NOT_STARTED = "not started yet"
RUNNING = "running"
COMPLETED = "completed"
FINAL_STATUSES = TerminalRules().statuses
#: The types that end an operation, with the status that each tells.
END_OF_TYPE = {type_: type_.removeprefix("operation_") for type_ in TerminalRules().types}
STARTED_TYPE = "operation_started"

#: Figures above it are nonsense, and some are larger than any float.
NUMBER_MAX = 1e18
NUMBER_TEXT_MAX_CHARS = 64
#: Sums of fractions end a little above 1; a percentage that is meant does not.
FRACTION_MAX = 1.000001
#: The last moment that calendars of all languages have (ECMAScript: 100,000,000 days).
NEWEST_TIME_MS = 8_640_000_000_000_000
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class LastGap(NamedTuple):
    """The newest gap; `before` is None where nothing has followed it yet."""

    after: str | None
    before: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class FoldedState:
    """All that is known of an operation. docs/browser.md describes the fields for applications.

    Attributes:
        progress: 0 to 1; None while no figure has come.
        finished: the status is a final one.
        ended: the entry that ends it was received, and none behind it that says it runs again.
        started_ms: of `operation_started`, or of the first entry received; Unix time in ms, from
            ids that are times.
        partial: entries of this log were trimmed before they were received.
        epoch: how often the log was another one than before.
        cursor: where to resume.
        in_percent: a `progress` above 1 has come, so 1 is one percent.
    """

    status: str = UNKNOWN
    finished: bool = False
    ended: bool = False
    progress: float | None = None
    current: float | None = None
    total: float | None = None
    message: str = ""
    title: str = ""
    error: str = ""
    result: Any = None
    started_ms: int | None = None
    updated_ms: int | None = None
    ended_ms: int | None = None
    stale: bool = False
    gaps: int = 0
    gap: LastGap | None = None
    partial: bool = False
    skipped: int = 0
    entries: int = 0
    epoch: int = 0
    cursor: str | None = None
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
    data = frame.get("data")
    data = data if isinstance(data, Mapping) else {}
    if is_entry(frame):
        return _entry(state, frame, data)
    match frame.get("type"):
        case "current_state":
            return Folded(_current_state(state, frame, data), shown=True)
        case "gap":
            return Folded(_gap(state, data), shown=True)
        case "skipped":
            count = math.floor(max(0.0, number_of(data.get("count")) or 0.0))
            return Folded(replace(state, skipped=state.skipped + count), shown=True)
        case "stale":
            return Folded(replace(state, stale=True), shown=True)
        case "live":
            return Folded(replace(state, stale=False), shown=True)
    return Folded(state, shown=False)


# -- entries ---------------------------------------------------------------------------------------


def _entry(state: FoldedState, frame: Mapping[str, Any], data: Mapping[str, Any]) -> Folded:
    ms = None
    if "id" in frame:
        position = read_position(frame["id"])
        if position is None:
            return Folded(state, shown=False)
        last = read_position(state.cursor)
        if last is not None and position <= last:
            return Folded(state, shown=False)
        state = replace(state, cursor=str(position))
        if OLDEST_TIME_MS <= position.ms <= NEWEST_TIME_MS:
            ms = position.ms
    type_ = frame.get("type")
    state = replace(state, entries=state.entries + 1)
    if ms is not None:
        starts = state.started_ms is None or type_ == STARTED_TYPE
        state = replace(state, updated_ms=ms, started_ms=ms if starts else state.started_ms)
    status = END_OF_TYPE.get(type_) if isinstance(type_, str) else None
    if status is None:
        status = read_text(data.get("status"))
    state = _described(_with_status(state, status, RUNNING), data)
    if status and status != UNKNOWN:
        state = replace(state, ended=state.finished, ended_ms=ms if state.finished else None)
    return Folded(_finished(_measured(state, data)), shown=True)


def _with_status(state: FoldedState, status: str | None, otherwise: str) -> FoldedState:
    """`unknown` is what a replica says of a stream without any status; it tells nothing new."""
    if not status or status == UNKNOWN:
        return replace(state, status=otherwise) if state.status == UNKNOWN else state
    finished = status in FINAL_STATUSES
    if state.finished and not finished:  # it is tried again
        state = replace(
            state, progress=None, current=None, total=None, in_percent=False, error="", result=None
        )
    return replace(state, status=status, finished=finished)


def _described(state: FoldedState, data: Mapping[str, Any]) -> FoldedState:
    error = data.get("error")
    if isinstance(error, Mapping):
        error = error.get("message")
    title, message = read_text(data.get("title")), read_text(data.get("message"))
    error = read_text(error)
    result = data.get("result")
    return replace(
        state,
        title=state.title if title is None else title,
        message=state.message if message is None else message,
        error=state.error if error is None else error,
        result=state.result if result is None else result,
    )


def _measured(state: FoldedState, data: Mapping[str, Any]) -> FoldedState:
    """`current` of `total`, which may come in entries of their own, or `progress` as 0 to 1 or 0
    to 100.
    """
    current, total = number_of(data.get("current")), number_of(data.get("total"))
    if total is not None and total <= 0:
        total = None
    counted = current is not None or total is not None
    if counted:
        current = state.current if current is None else current
        total = state.total if total is None else total
        state = replace(state, current=current, total=total)
    progress = number_of(data.get("progress"))
    in_percent = state.in_percent
    if counted and current is not None and total is not None:
        fraction = current / total
    elif progress is not None:
        # 1 is the end of 0..1 and the first percent of 0..100: only a figure above 1 tells.
        in_percent = in_percent or progress > FRACTION_MAX
        fraction = progress / 100 if in_percent else progress
    else:
        return state
    return replace(state, progress=min(1.0, max(0.0, fraction)), in_percent=in_percent)


def _finished(state: FoldedState) -> FoldedState:
    """What has completed is at its end, once that is all there is to come: history comes behind
    the `current_state` that tells of it.
    """
    if state.status == COMPLETED and (state.ended or state.entries == 0):
        return replace(state, progress=1.0, error="")
    return state


# -- other frames ----------------------------------------------------------------------------------


def _current_state(
    state: FoldedState, frame: Mapping[str, Any], data: Mapping[str, Any]
) -> FoldedState:
    """What an operation source says counts while no entry has said otherwise."""
    status = read_text(data.get("status"))
    position = read_position(frame.get("cursor"))
    if state.cursor is None and position is not None:
        state = replace(state, cursor=str(position))
    state = _with_status(replace(state, stale=False), status, UNKNOWN)
    if state.entries == 0:
        state = _measured(_described(state, data), data)
    return _finished(state)


def _gap(state: FoldedState, data: Mapping[str, Any]) -> FoldedState:
    after, before = read_position(data.get("after")), read_position(data.get("before"))
    reason = read_text(data.get("reason")) or UNKNOWN
    last = LastGap(
        None if after is None else str(after), None if before is None else str(before), reason
    )
    below = None if before is None else before.before()
    if reason == GapReason.TRIMMED.value:
        had = read_position(state.cursor)
        if below is not None and (had is None or below > had):
            state = replace(state, cursor=str(below))
        return replace(state, gaps=state.gaps + 1, gap=last, partial=True)
    return FoldedState(
        stale=state.stale,
        gaps=state.gaps + 1,
        gap=last,
        skipped=state.skipped,
        entries=state.entries,
        epoch=state.epoch + 1,
        cursor=str(below or ZERO),
    )


# -- values ----------------------------------------------------------------------------------------


def number_of(value: object) -> float | None:
    """A number, or a text that is one (`XADD ... progress 0.7`); None for all else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        text = value.strip(" \t\r\n")
        if len(text) > NUMBER_TEXT_MAX_CHARS or _NUMBER.fullmatch(text) is None:
            return None
        value = float(text)
    if isinstance(value, int | float) and -NUMBER_MAX <= value <= NUMBER_MAX:
        return float(value)
    return None


def read_text(value: object) -> str | None:
    """A text; what JSON can name and no terminal can show (half a surrogate pair) is U+FFFD."""
    return _LONE_SURROGATE.sub("\ufffd", value) if isinstance(value, str) else None


def read_position(value: object) -> StreamId | None:
    """A position in a stream; None where it is none."""
    if not isinstance(value, str):
        return None
    try:
        return parse_stream_id(value)
    except InvalidStreamId:
        return None
