"""One connection from its opening to its end: what is told of it in the log and in its trace.

Plain data without a clock: the ways in fill it, `Visitors` gives it to whoever tells of it. The end
that is named first counts: a peer answers a close with one of its own.
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


class VisitKind(enum.Enum):
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


class Trail(Protocol):
    """The trace of one connection, or of one operation on it."""

    trace_id: str

    def enter(self, stage: Stage) -> None:
        """This stage begins and the one before it ends; an earlier one is not gone back to."""

    def fork(self, operation: str) -> Trail:
        """For one of several operations."""

    def end(self) -> None:
        """No more stages. Safe to call twice."""

    def finish(self, visit: Visit) -> None:
        """The whole connection is gone."""


class Visit:
    """One connection. `frames` and `size_bytes` are what was written to its viewers."""

    __slots__ = ("code", "frames", "kind", "operation", "reason", "size_bytes", "started", "trail")

    def __init__(self, kind: VisitKind, started: float, trail: Trail | None = None) -> None:
        self.kind = kind
        #: Loop time.
        self.started = started
        #: None unless this connection is traced.
        self.trail = trail
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
        if self.trail is not None:
            self.trail.enter(stage)

    def fork(self, operation: str, started: float) -> Visit:
        """The part of a multiplexed connection that one operation is; `join` takes it back."""
        part = Visit(self.kind, started, None if self.trail is None else self.trail.fork(operation))
        part.operation = operation
        return part

    def join(self, part: Visit) -> None:
        """This part has ended."""
        self.wrote(part.frames, part.size_bytes)
        if part.trail is not None:
            part.trail.end()


class _NoVisit(Visit):
    """Keeps nothing, so that one is enough for all."""

    __slots__ = ()

    def about(self, operation: str) -> None:
        """See `Visit`."""

    def told(self, code: int, reason: str) -> None:
        """See `Visit`."""

    def wrote(self, frames: int, size_bytes: int) -> None:
        """See `Visit`."""

    def enter(self, stage: Stage) -> None:
        """See `Visit`."""

    def fork(self, operation: str, started: float) -> Visit:  # noqa: ARG002 - as `Visit` has it
        """See `Visit`."""
        return self

    def join(self, part: Visit) -> None:
        """See `Visit`."""


#: Of a connection that nobody is told of.
NO_VISIT: Final[Visit] = _NoVisit(VisitKind.WEBSOCKET, 0.0)

Headers = Sequence[tuple[bytes, bytes]]


class Visitors(Protocol):
    """Told of every connection."""

    def came(self, kind: VisitKind, headers: Headers) -> Visit:
        """A connection is open; the headers are its request's."""

    def left(self, visit: Visit) -> None:
        """It is gone."""


class Unseen:
    """`Visitors` where nobody wants to know."""

    def came(self, kind: VisitKind, headers: Headers) -> Visit:  # noqa: ARG002 - as the port has it
        """See `Visitors`."""
        return NO_VISIT

    def left(self, visit: Visit) -> None:
        """See `Visitors`."""
