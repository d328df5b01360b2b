"""One connection from its opening to its end: what the log and its trace say about it.

Plain data without a clock: the endpoints fill it, a `ConnectionObserver` makes it and logs it. The
end that is named first counts: a peer answers a close with one of its own.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final, Protocol

from tidegate.model.close_codes import CloseCode

#: The reason of an end that was the viewer's.
VIEWER_LEFT = "viewer_left"
#: The reason of the end of a poll that got its page, empty or not.
ANSWERED = "answered"


class ConnectionKind(enum.Enum):
    """The way in."""

    WEBSOCKET = "ws"
    MULTIPLEX = "multiplex"
    EVENT_STREAM = "sse"
    LONG_POLL = "long_poll"


class Stage(enum.Enum):
    """Where a viewer is on its way to live frames."""

    ADMISSION = "admission"
    JOIN = "join"
    REPLAY = "replay"
    LIVE = "live"


class ConnectionTrace(Protocol):
    """The trace of one connection, or of one operation on it."""

    trace_id: str

    def enter(self, stage: Stage) -> None:
        """This stage begins and the one before it ends; an earlier one is not gone back to."""

    def fork(self, operation: str) -> ConnectionTrace:
        """For one of several operations."""

    def end(self) -> None:
        """No more stages. Safe to call twice."""

    def finish(self, record: ConnectionRecord) -> None:
        """The whole connection is gone."""


class ConnectionRecord:
    """One connection. `frames` and `size_bytes` are what was written to its viewers."""

    __slots__ = ("code", "frames", "kind", "operation", "reason", "size_bytes", "started", "trace")

    def __init__(
        self, kind: ConnectionKind, started: float, trace: ConnectionTrace | None = None
    ) -> None:
        self.kind = kind
        #: Loop time.
        self.started = started
        #: None unless this connection is traced.
        self.trace = trace
        #: Of the only operation; empty when there are several, or none yet.
        self.operation = ""
        self.frames = 0
        self.size_bytes = 0
        #: Of the close; 0 where the way in has none, or while it is open.
        self.code = 0
        #: Why it ended; empty while it is open.
        self.reason = ""

    def about(self, operation: str) -> None:
        """It is for this operation and no other."""
        self.operation = operation

    def closed(self, code: CloseCode, reason: str = "") -> None:
        """It ends with this code; `reason` is for when there is a better word than the code's."""
        self.told(code.code, reason or code.name)

    def told(self, code: int, reason: str) -> None:
        """As `closed`, with a number that need not be in the table."""
        if not self.reason:
            self.code, self.reason = code, reason

    def wrote(self, frames: int, size_bytes: int) -> None:
        """A viewer of this connection was written so much in all."""
        self.frames += frames
        self.size_bytes += size_bytes

    def enter(self, stage: Stage) -> None:
        """Where its viewer is now."""
        if self.trace is not None:
            self.trace.enter(stage)

    def fork(self, operation: str, started: float) -> ConnectionRecord:
        """The part of a multiplexed connection that one operation is; `join` takes it back."""
        part = ConnectionRecord(
            self.kind, started, None if self.trace is None else self.trace.fork(operation)
        )
        part.operation = operation
        return part

    def join(self, part: ConnectionRecord) -> None:
        """This part has ended."""
        self.wrote(part.frames, part.size_bytes)
        if part.trace is not None:
            part.trace.end()


class _NoRecord(ConnectionRecord):
    """Keeps nothing, so that one is enough for all."""

    __slots__ = ()

    def about(self, operation: str) -> None:
        """See `ConnectionRecord`."""

    def told(self, code: int, reason: str) -> None:
        """See `ConnectionRecord`."""

    def wrote(self, frames: int, size_bytes: int) -> None:
        """See `ConnectionRecord`."""

    def enter(self, stage: Stage) -> None:
        """See `ConnectionRecord`."""

    def fork(self, operation: str, started: float) -> ConnectionRecord:  # noqa: ARG002 - as `ConnectionRecord` has it
        """See `ConnectionRecord`."""
        return self

    def join(self, part: ConnectionRecord) -> None:
        """See `ConnectionRecord`."""


#: Of a connection that nobody is told of.
NO_RECORD: Final[ConnectionRecord] = _NoRecord(ConnectionKind.WEBSOCKET, 0.0)

Headers = Sequence[tuple[bytes, bytes]]


class ConnectionObserver(Protocol):
    """Told of every connection."""

    def came(self, kind: ConnectionKind, headers: Headers) -> ConnectionRecord:
        """A connection is open; the headers are its request's."""

    def left(self, record: ConnectionRecord) -> None:
        """It is gone."""


class Unobserved:
    """`ConnectionObserver` where nobody wants to know."""

    def came(self, kind: ConnectionKind, headers: Headers) -> ConnectionRecord:  # noqa: ARG002 - as the port has it
        """See `ConnectionObserver`."""
        return NO_RECORD

    def left(self, record: ConnectionRecord) -> None:
        """See `ConnectionObserver`."""
