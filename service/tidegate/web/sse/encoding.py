"""Frames as server-sent events (HTML standard, section 9.2): the same JSON in a `data:` line.

Frames that carry a position have an `id:`, so that a browser that comes back says where it was.
There is no `event:` line, so `onmessage` gets all of them; only `end` has one. Made once per pass
over the viewers, not once per viewer: the last wire form converted is remembered.
"""

from __future__ import annotations

import orjson

from tidegate.model.close_codes import CloseCode
from tidegate.model.frames import split_texts

#: What ends a line of an event stream may stand in JSON only between tokens, where a space is as
#: good.
_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")
#: How `model.frames.entry_frame` begins.
_ENTRY = b'{"id":"'

HEART_BEAT = b":\n\n"


class EventStream:
    """Shared by all streams of a replica."""

    def __init__(self) -> None:
        self._wire = b""
        self._events = b""

    def events(self, wire: bytes) -> bytes:
        """The events of joined frames."""
        if wire is not self._wire:
            self._events = b"".join([event_of(text) for text in split_texts(wire)])
            self._wire = wire
        return self._events


def event_of(text: bytes) -> bytes:
    """The event of one frame's JSON."""
    text = text.translate(_ONE_LINE)
    if text.startswith(_ENTRY):
        return b"id: %b\ndata: %b\n\n" % (text[len(_ENTRY) : text.index(b'"', len(_ENTRY))], text)
    frame = orjson.loads(text)
    match frame["type"]:
        case "current_state":
            return b"id: %b\ndata: %b\n\n" % (frame["cursor"].encode(), text)
        case "reconnect":
            return b"retry: %d\ndata: %b\n\n" % (frame["data"]["after_ms"], text)
    return b"data: %b\n\n" % text


def retry_event(milliseconds: int) -> bytes:
    """Tells an EventSource how long to wait before it comes back."""
    return b"retry: %d\n\n" % milliseconds


def end_event(code: CloseCode) -> bytes:
    """The last event when there is nothing to come back for."""
    data = orjson.dumps({"type": "end", "data": {"code": code.code, "name": code.name}})
    return b"event: end\ndata: %b\n\n" % data
