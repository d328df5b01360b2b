"""One viewer of one operation: its position, and what it may be sent.

    CATCHING_UP --has everything--> LIVE --buffer full--> LAGGING --drained--> CATCHING_UP
         |  buffer full --> LAGGING
         +--> CLOSED from any state

While it is LIVE, its owner has its position, given by `seq`. In the other states it is `cursor`,
and nothing else is kept for it, so a viewer that does not read uses constant memory.
"""

from __future__ import annotations

import enum
from typing import Protocol

from tidegate.core.ports import Sender
from tidegate.core.topic import Topic
from tidegate.model.batch import Batch
from tidegate.model.close_codes import CloseCode
from tidegate.model.frames import GapReason
from tidegate.model.ids import ZERO


class ViewerState(enum.Enum):
    """See the table in the module's docstring."""

    CATCHING_UP = "catching_up"
    LIVE = "live"
    LAGGING = "lagging"
    CLOSED = "closed"


class ViewerOwner(Protocol):
    """Whom viewers belong to: told by their sockets, and by who brings them to the live frames."""

    topic: Topic
    #: Since when Redis is away, for people; None while it is there.
    stale_since: str | None

    def paused(self, viewer: ChannelViewer) -> None:
        """Its buffer is full."""

    def resumed(self, viewer: ChannelViewer) -> None:
        """Its buffer has drained."""

    def left(self, viewer: ChannelViewer) -> None:
        """Its socket is gone, or was told to go."""

    def go_live(self, viewer: ChannelViewer) -> None:
        """It has everything up to the topic's position."""

    def wait_ahead(self, viewer: ChannelViewer) -> None:
        """Its cursor is beyond what was seen here."""

    def wait_for_stream(self, viewer: ChannelViewer) -> None:
        """It has a cursor, and there is no stream (any more)."""

    def refuse(self, viewer: ChannelViewer, code: CloseCode, name: str, message: str) -> None:
        """Say why, then close."""

    def close(self, viewer: ChannelViewer, code: CloseCode) -> None:
        """Send what was written, then close."""


class ChannelViewer:
    """A socket that watches an operation."""

    __slots__ = (
        "acks",
        "boundary",
        "by",
        "cursor",
        "epoch",
        "frames",
        "keep_until",
        "lagging_since",
        "owner",
        "reading",
        "removed",
        "replayed",
        "restart",
        "sender",
        "seq",
        "size_bytes",
        "state",
        "told_stale",
        "waits_until",
    )

    def __init__(self, owner: ViewerOwner, sender: Sender) -> None:
        self.owner = owner
        self.sender = sender
        #: For whom it reads (`Ask.by`).
        self.by = ""
        self.state = ViewerState.CATCHING_UP
        #: Position of the last frame sent, unless LIVE.
        self.cursor = ZERO
        self.epoch = 0
        #: The outbox's item that it was sent last, while LIVE.
        self.seq = 0
        #: Entries up to here are the history it asked for, which is never conflated.
        self.keep_until = ZERO
        #: Its history ends here, and what was told of the operation when it joined holds here: no
        #: joined frame stands for entries on both sides.
        self.boundary = ZERO
        #: The cursor is our own choice: how many entries were removed from the log by then, which
        #: proves it as long as they are no more. None: the cursor itself has to be proven.
        self.removed: int | None = None
        #: Why the next frames are a gap and the log from its start.
        self.restart: GapReason | None = None
        #: Told that Redis is away, and not yet that it is back; unless LIVE.
        self.told_stale = False
        #: A read of the stream is on its way.
        self.reading = False
        #: Loop time at which it began to lag.
        self.lagging_since = 0.0
        #: Loop time at which it is given up unless the operation has begun by then; 0.0: never.
        self.waits_until = 0.0
        #: Entries written to it since it joined or began to lag.
        self.replayed = 0
        #: It answers an `ack_request`.
        self.acks = False
        #: Written to it; while LIVE less what its outbox had sent when it went live.
        self.frames = 0
        self.size_bytes = 0

    def write(self, batch: Batch) -> None:
        """Send it these frames, unless LIVE."""
        self.frames += len(batch.frames)
        self.size_bytes += batch.size_bytes
        self.sender.write(batch)

    # SenderListener: the owner decides.

    def on_paused(self) -> None:
        self.owner.paused(self)

    def on_resumed(self) -> None:
        self.owner.resumed(self)

    def on_closed(self) -> None:
        self.owner.left(self)
