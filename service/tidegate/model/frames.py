"""What a viewer receives: every frame of the protocol, built here and nowhere else.

A `Frame` is an entry in its wire form, made once and shared by all viewers: the RFC 6455 header and
the JSON text. Server frames are not masked and no compression is negotiated, so the same bytes are
right for every socket. Frames without an entry (`current_state`, `gap`, `error`, ...) are wire
bytes only.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple

import orjson

from tidegate.model.entries import Entry
from tidegate.model.ids import ZERO, OperationId, StreamId


class FrameKind(enum.Enum):
    """What may happen to a frame on the way to a lagging viewer."""

    PROGRESS = "superseded by the next of its kind"
    ENTRY = "always delivered"
    GAP = "announces missing entries; always delivered"


class GapReason(enum.Enum):
    """Why continuity could not be proven."""

    TRIMMED = "trimmed"
    RECREATED = "recreated"
    REWOUND = "rewound"
    UNKNOWN_CURSOR = "unknown_cursor"


class Frame(NamedTuple):
    """One frame, ready for every socket. `id` is the position after it."""

    id: StreamId
    wire: bytes
    kind: FrameKind

    @property
    def payload(self) -> bytes:
        """The JSON text without the WebSocket header."""
        return text_payload(self.wire)


def text_frame(payload: bytes) -> bytes:
    """An unmasked, final text frame (RFC 6455 section 5.2)."""
    size = len(payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    if size < 65536:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), payload)


def text_payload(wire: bytes) -> bytes:
    """The payload of a frame that `text_frame` made."""
    return wire[{126: 4, 127: 10}.get(wire[1], 2) :]


_quoted: dict[str, bytes] = {}  # types are few; bounded because a publisher could invent them
_QUOTED_MAX = 1024


def _quote(text: str) -> bytes:
    quoted = _quoted.get(text)
    if quoted is None:
        quoted = orjson.dumps(text)
        if len(_quoted) < _QUOTED_MAX and len(text) < 128:
            _quoted[text] = quoted
    return quoted


def entry_frame(entry: Entry, raw_id: bytes, operation: bytes, kind: FrameKind) -> Frame:
    """The frame of an entry; `operation` is the operation id, whose characters need no escaping."""
    return Frame(
        entry.id,
        text_frame(
            b'{"id":"%b","operation":"%b","timestamp":%b,"type":%b,"data":%b}'
            % (raw_id, operation, entry.timestamp, _quote(entry.type), entry.data)
        ),
        kind,
    )


def unstored_entry_frame(entry: Entry, operation: bytes) -> bytes:
    """An entry that is in no stream: without an id, nobody can resume from it."""
    return text_frame(
        b'{"operation":"%b","timestamp":%b,"type":%b,"data":%b}'
        % (operation, entry.timestamp, _quote(entry.type), entry.data)
    )


def control_frame(kind: str, operation: OperationId | None, data: dict[str, object]) -> bytes:
    """Any frame that carries no entry."""
    body: dict[str, object] = {"type": kind}
    if operation is not None:
        body["operation"] = operation
    if data:
        body["data"] = data
    return text_frame(orjson.dumps(body))


def current_state_frame(
    operation: OperationId,
    cursor: StreamId,
    status: str,
    *,
    sent: int | None,
    available: int,
    known: Mapping[str, object] | None = None,
) -> bytes:
    """The first frame: where the viewer stands, and how much history follows.

    `sent` is None when the history is read in pages and its size is not known beforehand.
    `known` is what an operation source says; its status counts while the stream has none.
    """
    data: dict[str, object] = {"status": status}
    if known:
        data = {**known, "status": known.get("status", status) if status == "unknown" else status}
    return text_frame(
        orjson.dumps(
            {
                "type": "current_state",
                "operation": operation,
                "cursor": str(cursor),
                "data": data,
                "history": {"sent": sent, "available": available},
            }
        )
    )


def gap_frame(
    operation: OperationId, after: StreamId, before: StreamId | None, reason: GapReason
) -> Frame:
    """Continuity between `after` and `before` is not proven. Position: just below `before`."""
    data: dict[str, object] = {"after": str(after), "reason": reason.value}
    if before is not None:
        data["before"] = str(before)
    wire = control_frame("gap", operation, data)
    return Frame(ZERO if before is None else before.before(), wire, FrameKind.GAP)


def skipped_frame(operation: OperationId, count: int) -> bytes:
    """A lagging viewer was not sent `count` superseded entries."""
    return control_frame("skipped", operation, {"count": count})


def stale_frame(operation: OperationId, since: str) -> bytes:
    """Redis is away since `since` (ISO 8601); the connection is kept and nothing will be missed."""
    return control_frame("stale", operation, {"since": since})


def live_frame(operation: OperationId) -> bytes:
    """Redis is back."""
    return control_frame("live", operation, {})


def reconnect_frame(after_ms: int, reason: str) -> bytes:
    """Sent before a close that asks the viewer to come back after its own delay."""
    return control_frame("reconnect", None, {"after_ms": after_ms, "reason": reason})


def error_frame(
    code: str,
    message: str,
    *,
    retry: bool,
    operation: OperationId | None = None,
    details: Mapping[str, object] | None = None,
) -> bytes:
    """Sent before every refusing close; `details` are more fields for programs."""
    data = {**(details or {}), "code": code, "message": message, "retry": retry}
    return control_frame("error", operation, data)


def ack_request_frame(operation: OperationId, entry_id: StreamId) -> bytes:
    """Asks a viewer that offered it to say that it has this entry."""
    return control_frame("ack_request", operation, {"id": str(entry_id)})


def unwatched_frame(operation: OperationId, code: int, name: str) -> bytes:
    """The last frame of an operation on a multiplexed socket: why its watch has ended."""
    return control_frame("unwatched", operation, {"code": code, "name": name})


PONG = text_frame(b'{"type":"pong"}')


def split_texts(wire: bytes) -> list[bytes]:
    """The payloads of joined text frames."""
    texts = []
    at = 0
    while at < len(wire):
        size = wire[at + 1]
        at += 2
        if size > 125:
            width = 2 if size == 126 else 8
            size = int.from_bytes(wire[at : at + width], "big")
            at += width
        texts.append(wire[at : at + size])
        at += size
    return texts
