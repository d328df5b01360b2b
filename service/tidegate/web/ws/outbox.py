"""The frames to be sent on one multiplexed socket: those of all its operations in one iteration of
the event loop are sent in one write.

It is a `Sender` between the subscriptions and the sender of the socket. Frames keep their order. At
`WRITE_MAX_BYTES` they are written at once. Answers to a viewer that does not read are limited by
`HELD_MAX_BYTES`: beyond that it is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tidegate.core.ports import Sender, SenderListener
from tidegate.model import close_codes
from tidegate.model.batch import Batch, JoinedBatch
from tidegate.model.close_codes import CloseCode
from tidegate.model.frames import Frame

#: As the items of a channel's outbox: a socket's buffer is passed by no more than this.
WRITE_MAX_BYTES = 131_072
#: Answers written while the socket's buffer is full; a few hundred, so nobody reads them.
HELD_MAX_BYTES = 65_536


def drop(_batch: Batch) -> None:
    """Nobody is there any more."""


class Outbox:
    """Joins frames; passes pause, resume and loss on to its listener."""

    __slots__ = (
        "_answers_bytes",
        "_batches",
        "_loop",
        "_scheduled",
        "_sender",
        "_size",
        "listener",
        "record",
        "writable",
        "write",
    )

    def __init__(self, sender: Sender) -> None:
        self._loop = asyncio.get_running_loop()
        self._sender = sender
        self._batches: list[Batch] = []
        self._size = 0
        self._scheduled = False
        self._answers_bytes = 0
        self.listener: SenderListener | None = None
        self.record = sender.record
        self.writable = sender.writable
        self.write: Callable[[Batch], None] = self._put
        sender.listener = self

    def _put(self, batch: Batch) -> None:
        size = batch.size_bytes
        if self._batches and self._size + size > WRITE_MAX_BYTES:
            self.flush()
        self._batches.append(batch)
        self._size += size
        if self._size >= WRITE_MAX_BYTES:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def answer(self, frame: Frame) -> None:
        """Send a frame that is due also while the buffer is full: an error, the end of a watch."""
        batch = Batch([frame])
        if not self.writable:
            self._answers_bytes += batch.size_bytes
            if self._answers_bytes > HELD_MAX_BYTES:
                self.close(close_codes.SLOW)
                return
        self.write(batch)

    def flush(self) -> None:
        """Write now what waits."""
        batches = self._batches
        if batches:
            batch = batches[0] if len(batches) == 1 else JoinedBatch(batches)
            self._batches = []
            self._size = 0
            self._sender.write(batch)

    def _turn(self) -> None:
        self._scheduled = False
        self.flush()

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Send what was written, then close the socket."""
        if self.write is not drop:
            self.flush()
            sender = self._sender
            self._end()
            sender.close(code, reason)

    def _end(self) -> None:
        self.writable = False
        self.write = drop
        self._batches.clear()
        self._size = 0
        self._sender.listener = None
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.on_closed()

    # SenderListener, called by the socket's own sender.

    def on_paused(self) -> None:
        self.writable = False
        if self.listener is not None:
            self.listener.on_paused()

    def on_resumed(self) -> None:
        self.writable = True
        self._answers_bytes = 0
        if self.listener is not None:
            self.listener.on_resumed()

    def on_closed(self) -> None:
        if self._sender.writable:  # it is sent away, and may still be written to
            self.flush()
        self._end()
