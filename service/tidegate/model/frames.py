"""What a viewer receives: every frame of the protocol, built here and nowhere else.

A `Frame` is the JSON text and what has to be known of it on its way, so that nobody reads the text
again: where it stands in the stream, whether it may be skipped, and for a few kinds what it says.
How frames are put on the wire is told by `model.batch`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

import orjson

from tidegate.model.entries import Entry
from tidegate.model.ids import ZERO, OperationId, StreamId


class FrameKind(enum.Enum):
    """What may happen to a frame on the way to a lagging viewer."""

    PROGRESS = "superseded by the next of its kind"
    ENTRY = "always delivered"
    APPEND = "delivered, as one with those beside it"
    GAP = "announces missing entries; always delivered"
    CONTROL = "stands nowhere in the stream: about the operation or the connection"


#: An entry needs a dozen members of enums. Before Python 3.12, reading a member from its class runs
#: a Python function (0.15 us), so they are constants here.
ENTRY: Final = FrameKind.ENTRY
PROGRESS: Final = FrameKind.PROGRESS
APPEND: Final = FrameKind.APPEND


class GapReason(enum.Enum):
    """Why continuity could not be proven."""

    TRIMMED = "trimmed"
    RECREATED = "recreated"
    REWOUND = "rewound"
    UNKNOWN_CURSOR = "unknown_cursor"


class Frame:
    """A frame, the same for every viewer. `id` is the position after it; `payload` is JSON."""

    __slots__ = ("id", "kind", "payload")

    def __init__(self, id: StreamId, payload: bytes, kind: FrameKind) -> None:  # noqa: A002
        self.id = id
        self.payload = payload
        self.kind = kind


class StateFrame(Frame):
    """`current_state`; `id` is its cursor, from which a viewer with nothing else resumes."""

    __slots__ = ("body", "status")

    def __init__(
        self, cursor: StreamId, payload: bytes, status: object, body: Mapping[str, object]
    ) -> None:
        """`body` is the whole frame; `status` is that of its data."""
        super().__init__(cursor, payload, FrameKind.CONTROL)
        self.status = status
        self.body = body

    def with_data(self, data: Mapping[str, object]) -> StateFrame:
        """The same frame with other `data`."""
        body = {**self.body, "data": data}
        return StateFrame(self.id, orjson.dumps(body), data["status"], body)


class ErrorFrame(Frame):
    """An `error` frame: why a viewer is refused."""

    __slots__ = ("code", "message")

    def __init__(self, payload: bytes, code: str, message: str) -> None:
        super().__init__(ZERO, payload, FrameKind.CONTROL)
        self.code = code
        self.message = message


class ReconnectFrame(Frame):
    """A `reconnect` frame: when a viewer is to reconnect."""

    __slots__ = ("after_ms",)

    def __init__(self, payload: bytes, after_ms: int) -> None:
        super().__init__(ZERO, payload, FrameKind.CONTROL)
        self.after_ms = after_ms


_quoted: dict[str, bytes] = {}  # types are few; bounded because a publisher could invent them
_QUOTED_MAX = 1024


def _quote(text: str) -> bytes:
    quoted = _quoted.get(text)
    if quoted is None:
        quoted = orjson.dumps(text)
        if len(_quoted) < _QUOTED_MAX and len(text) < 128:
            _quoted[text] = quoted
    return quoted


def entry_frame(
    entry: Entry, raw_id: bytes, operation: bytes, kind: FrameKind, fold: str | None = None
) -> Frame:
    """The frame of an entry; `operation` is the operation id, whose characters need no escaping.
    `fold` says how it is folded where its type does not.
    """
    if fold is not None:
        return Frame(
            entry.id,
            b'{"id":"%b","operation":"%b","timestamp":%b,"type":%b,"fold":%b,"data":%b}'
            % (raw_id, operation, entry.timestamp, _quote(entry.type), _quote(fold), entry.data),
            kind,
        )
    return Frame(
        entry.id,
        b'{"id":"%b","operation":"%b","timestamp":%b,"type":%b,"data":%b}'
        % (raw_id, operation, entry.timestamp, _quote(entry.type), entry.data),
        kind,
    )


def unstored_entry_frame(entry: Entry, operation: bytes) -> Frame:
    """An entry that is in no stream: without an id, nobody can resume from it."""
    return Frame(
        ZERO,
        b'{"operation":"%b","timestamp":%b,"type":%b,"data":%b}'
        % (operation, entry.timestamp, _quote(entry.type), entry.data),
        FrameKind.CONTROL,
    )


def _control(kind: str, operation: OperationId | None, data: Mapping[str, object]) -> bytes:
    """The text of a frame that carries no entry."""
    body: dict[str, object] = {"type": kind}
    if operation is not None:
        body["operation"] = operation
    if data:
        body["data"] = data
    return orjson.dumps(body)


def current_state_frame(
    operation: OperationId,
    cursor: StreamId,
    status: str,
    *,
    sent: int | None,
    available: int,
    known: Mapping[str, object] | None = None,
    at: StreamId | None = None,
    state: Mapping[str, object] | None = None,
) -> StateFrame:
    """The first frame: where the viewer stands, and how much history follows.

    `sent` is None when the history is read in pages and its size is not known beforehand.
    `known` is what an operation source says; its status counts while the stream has none.
    `state` is what the entries up to `at` say (`model.state_data`); it goes before `known`.
    """
    data: dict[str, object] = {**(known or {}), **(state or {}), "status": status}
    if known and status == "unknown":
        data["status"] = known.get("status", status)
    body: dict[str, object] = {
        "type": "current_state",
        "operation": operation,
        "cursor": str(cursor),
        "data": data,
        "history": {"sent": sent, "available": available},
    }
    if at is not None:
        body["at"] = str(at)
    return StateFrame(cursor, orjson.dumps(body), data["status"], body)


def gap_frame(
    operation: OperationId, after: StreamId, before: StreamId | None, reason: GapReason
) -> Frame:
    """Continuity between `after` and `before` is not proven. Position: just below `before`."""
    data: dict[str, object] = {"after": str(after), "reason": reason.value}
    if before is not None:
        data["before"] = str(before)
    payload = _control("gap", operation, data)
    return Frame(ZERO if before is None else before.before(), payload, FrameKind.GAP)


def _notice(kind: str, operation: OperationId | None, data: Mapping[str, object]) -> Frame:
    return Frame(ZERO, _control(kind, operation, data), FrameKind.CONTROL)


def skipped_frame(operation: OperationId, count: int) -> Frame:
    """A lagging viewer was not sent `count` superseded entries."""
    return _notice("skipped", operation, {"count": count})


def stale_frame(operation: OperationId, since: str) -> Frame:
    """Redis is away since `since` (ISO 8601); the connection is kept and nothing will be missed."""
    return _notice("stale", operation, {"since": since})


def live_frame(operation: OperationId) -> Frame:
    """Redis is back."""
    return _notice("live", operation, {})


def reconnect_frame(after_ms: int, reason: str) -> ReconnectFrame:
    """Sent before a close that asks the viewer to come back after its own delay."""
    payload = _control("reconnect", None, {"after_ms": after_ms, "reason": reason})
    return ReconnectFrame(payload, after_ms)


def error_frame(
    code: str,
    message: str,
    *,
    retry: bool,
    operation: OperationId | None = None,
    details: Mapping[str, object] | None = None,
) -> ErrorFrame:
    """Sent before every refusing close; `details` are more fields for programs."""
    data = {**(details or {}), "code": code, "message": message, "retry": retry}
    payload = _control("error", operation, data)
    return ErrorFrame(payload, code, message)


def ack_request_frame(operation: OperationId, entry_id: StreamId) -> Frame:
    """Asks a viewer that offered it to say that it has this entry."""
    return _notice("ack_request", operation, {"id": str(entry_id)})


def unwatched_frame(operation: OperationId, code: int, name: str) -> Frame:
    """The last frame of an operation on a multiplexed socket: why its watch has ended."""
    return _notice("unwatched", operation, {"code": code, "name": name})


def cancelling_frame(operation: OperationId, entry_id: str, *, repeated: bool) -> Frame:
    """To the viewer who asked to cancel: the entry that asks; `repeated`: it was there already."""
    return _notice("cancelling", operation, {"id": entry_id, "repeated": repeated})


def expiring_frame(in_s: float) -> Frame:
    """The connection's token ends in so many seconds."""
    return _notice("expiring", None, {"in_s": in_s})


def refreshed_frame() -> Frame:
    """The connection's new token holds."""
    return _notice("refreshed", None, {})


PONG = Frame(ZERO, b'{"type":"pong"}', FrameKind.CONTROL)
