"""Frames that are sent together, and how they are put on the wire.

Each form is made once, when the first viewer asks for it, and is the same object for all others:
WebSocket frames for sockets, events for event streams, and these as a chunk for the streams of our
own server. Server frames are not masked and no compression is negotiated, so the same bytes are
right for every socket.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from tidegate.model.frames import Frame, FrameKind, ReconnectFrame, StateFrame

#: What ends a line of an event stream may stand in JSON only between tokens, where a space is as
#: good.
_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")


class Batch:
    """Whole frames in their order; at least one when it is sent, and none is added after that."""

    __slots__ = ("_chunk", "_events", "frames", "size_bytes", "websocket_form")

    def __init__(self, frames: Iterable[Frame] = ()) -> None:
        self.frames: list[Frame] = []
        #: As WebSocket frames, by which a viewer is measured whatever it speaks.
        self.size_bytes = 0
        #: What `websocket` has made; None until then. Looked at by those who are called per viewer.
        self.websocket_form: bytes | None = None
        self._events: bytes | None = None
        self._chunk: bytes | None = None
        for frame in frames:
            self.add(frame)

    def add(self, frame: Frame) -> None:
        """One more."""
        self.frames.append(frame)
        size = len(frame.payload)
        self.size_bytes += size + (2 if size < 126 else 4 if size < 65536 else 10)

    def websocket(self) -> bytes:
        """As WebSocket text frames."""
        wire = self.websocket_form
        if wire is None:
            frames = self.frames
            if len(frames) == 1:
                wire = text_frame(frames[0].payload)
            else:
                parts: list[bytes] = []
                for frame in frames:
                    parts += (_header(len(frame.payload)), frame.payload)
                wire = b"".join(parts)
            self.websocket_form = wire
        return wire

    def events(self) -> bytes:
        """As server-sent events."""
        events = self._events
        if events is None:
            events = self._events = b"".join(map(event_of, self.frames))
        return events

    def event_chunk(self) -> bytes:
        """The same as one chunk of an HTTP/1.1 response (RFC 9112 section 7.1)."""
        chunk = self._chunk
        if chunk is None:
            events = self.events()
            chunk = self._chunk = b"%x\r\n%b\r\n" % (len(events), events)
        return chunk


class JoinedBatch(Batch):
    """Several in a row, each of which others may send as well."""

    __slots__ = ("_batches",)

    def __init__(self, batches: Sequence[Batch]) -> None:
        super().__init__()
        self._batches = batches
        for batch in batches:
            self.frames += batch.frames
            self.size_bytes += batch.size_bytes

    def websocket(self) -> bytes:
        """See `Batch`."""
        if self.websocket_form is None:
            self.websocket_form = b"".join([batch.websocket() for batch in self._batches])
        return self.websocket_form


@lru_cache(maxsize=4096)
def _header(size: int) -> bytes:
    """Of an unmasked, final text frame with so many bytes (RFC 6455 section 5.2)."""
    if size < 126:
        return b"\x81%c" % size
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big")
    return b"\x81\x7f" + size.to_bytes(8, "big")


def text_frame(payload: bytes) -> bytes:
    """A WebSocket frame."""
    return _header(len(payload)) + payload


def one_line(text: bytes) -> bytes:
    """The same JSON without line breaks."""
    return text.translate(_ONE_LINE)


def event_of(frame: Frame) -> bytes:
    """One server-sent event (HTML standard, section 9.2): the same JSON in a `data:` line.

    A frame from whose place a viewer can resume has an `id:`, so that a browser that comes back
    says where it was. There is no `event:` line, so `onmessage` gets all of them.
    """
    text = one_line(frame.payload)
    kind = frame.kind
    if kind is FrameKind.ENTRY or kind is FrameKind.PROGRESS or kind is FrameKind.APPEND:
        return b"id: %b\ndata: %b\n\n" % (str(frame.id).encode(), text)
    if isinstance(frame, StateFrame):
        return b"id: %b\ndata: %b\n\n" % (str(frame.id).encode(), text)
    if isinstance(frame, ReconnectFrame):
        return b"retry: %d\ndata: %b\n\n" % (frame.after_ms, text)
    return b"data: %b\n\n" % text
