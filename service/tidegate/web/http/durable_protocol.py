"""Durable Streams, as far as they are read: offsets, cursors, requests and answers as texts.

The open protocol of durable-streams (npm `@durable-streams/client`): a stream is read from an
offset on, at once or live, as a JSON array of messages; here each message is the frame of an entry.
An offset is opaque for a client, and compares as a text as positions do.
"""

from __future__ import annotations

import enum
import random
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from tidegate.model.batch import one_line
from tidegate.model.errors import InvalidInput
from tidegate.model.ids import HALF_MAX, StreamId

BEGINNING = "-1"
TAIL = "now"
_OFFSET = re.compile(r"([0-9]{20})_([0-9]{20})", re.ASCII)
_CURSOR = re.compile(r"[0-9]{1,15}", re.ASCII)
#: A cursor counts these from 9 October 2024; caches give one answer to all who wait with the same.
CURSOR_INTERVAL_S = 20
CURSOR_START_S = 1_728_432_000
CURSOR_JITTER = 180


class Live(enum.Enum):
    """How a client waits for what is not there yet."""

    NO = ""
    LONG_POLL = "long-poll"
    EVENTS = "sse"


class StreamQuery(NamedTuple):
    """What is asked for.

    Attributes:
        after: None for the beginning; with `from_tail` not known yet.
        cursor: of the answer before, or None.
    """

    after: StreamId | None
    live: Live
    cursor: int | None
    from_tail: bool = False


def offset_of(position: StreamId) -> str:
    """The offset behind the entry at this position."""
    return f"{position.ms:020d}_{position.seq:020d}"


def read_query(items: Sequence[tuple[str, str]]) -> StreamQuery:
    """Of the names and values of a query; other names are ignored.

    Raises:
        InvalidInput: an offset or a way of waiting that the protocol does not have.
    """
    offsets = [value for name, value in items if name == "offset"]
    lives = [value for name, value in items if name == "live"]
    cursors = [value for name, value in items if name == "cursor"]
    if len(offsets) > 1 or len(lives) > 1:
        raise InvalidInput("offset" if len(offsets) > 1 else "live", "must be given once")
    try:
        live = Live(lives[0]) if lives and lives[0] else Live.NO
    except ValueError:
        raise InvalidInput("live", "must be long-poll or sse") from None
    if live is not Live.NO and not offsets:
        raise InvalidInput("offset", "is needed with live; -1 is the beginning")
    cursor = int(cursors[0]) if cursors and _CURSOR.fullmatch(cursors[0]) else None
    offset = offsets[0] if offsets else BEGINNING
    if offset in (BEGINNING, TAIL):
        return StreamQuery(None, live, cursor, from_tail=offset == TAIL)
    return StreamQuery(_position(offset), live, cursor)


def _position(offset: str) -> StreamId:
    match = _OFFSET.fullmatch(offset)
    if match is None:
        raise InvalidInput("offset", "must be -1, now, or a Stream-Next-Offset of this stream")
    position = StreamId(int(match[1]), int(match[2]))
    if max(position) > HALF_MAX:
        raise InvalidInput("offset", "must be -1, now, or a Stream-Next-Offset of this stream")
    return position


def next_cursor(given: int | None, now_s: float) -> str:
    """The interval of now, or one beyond what the client has: the same again would be a loop
    through a cache.
    """
    current = max(0, int(now_s - CURSOR_START_S) // CURSOR_INTERVAL_S)
    if given is not None and given >= current:
        current = given + random.randint(1, CURSOR_JITTER)
    return str(current)


def messages(events: Sequence[bytes]) -> bytes:
    """As a JSON array."""
    return b"[%b]" % b",".join(events)


def headers_of(
    position: StreamId, *, up_to_date: bool, closed: bool, cursor: str | None = None
) -> dict[str, str]:
    """What is said of the stream with an answer that ends at this position."""
    headers = {"stream-next-offset": offset_of(position)}
    if up_to_date:
        headers["stream-up-to-date"] = "true"
    if closed:
        headers["stream-closed"] = "true"
    if cursor is not None:
        headers["stream-cursor"] = cursor
    return headers


def event_of_page(
    events: Sequence[bytes], position: StreamId, *, up_to_date: bool, closed: bool, cursor: str
) -> bytes:
    """Server-sent events: the messages, if there are any, and where the client stands then."""
    control: dict[str, Any] = {"streamNextOffset": offset_of(position)}
    if not closed:
        control["streamCursor"] = cursor
    if up_to_date:
        control["upToDate"] = True
    if closed:
        control["streamClosed"] = True
    data = b"event: data\ndata:%b\n\n" % one_line(messages(events)) if events else b""
    return b"%bevent: control\ndata:%b\n\n" % (data, orjson.dumps(control))
