"""Sends frames to a WebSocket of our own server, past ASGI (`core.ports.Sender`).

`DirectSender` writes the WebSocket form of a batch, made once for all sockets, to the transport of
a socket that `ws.protocol.WebSocketProtocol` holds: no queue, no task. It reports a full buffer
through `on_paused` before `write` returns, and takes no data after `close`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from tidegate.core.connection_record import NO_RECORD, ConnectionRecord
from tidegate.core.ports import SenderListener
from tidegate.model.batch import Batch
from tidegate.model.close_codes import CloseCode
from tidegate.web.asgi_sender import ask_to_reconnect


class DirectSocket(Protocol):
    """What it needs of the protocol that holds the socket."""

    transport: asyncio.Transport

    def send_close(self, code: int, reason: str) -> None:
        """Start the closing handshake."""


class DirectSender:
    """Writes straight to the transport."""

    __slots__ = ("_write", "closed", "listener", "on_gone", "protocol", "record", "writable")

    def __init__(self, protocol: DirectSocket) -> None:
        self.protocol = protocol
        self.listener: SenderListener | None = None
        self.record: ConnectionRecord = NO_RECORD
        self._write: Callable[[bytes], None] = protocol.transport.write
        self.writable = True
        self.closed = False
        #: Called once with this sender when its socket is gone.
        self.on_gone: Callable[[DirectSender], None] | None = None

    def write(self, batch: Batch) -> None:
        """To the kernel, or behind what is not there yet."""
        self._write(batch.websocket_form or batch.websocket())

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Send what was written, then a close frame; a peer that does not answer is cut off."""
        if not self.closed:
            self.closed = True
            self.writable = False
            self.record.closed(code)
            self.protocol.send_close(code.code, reason)

    def ask_to_reconnect(self, after_ms: int) -> None:
        """Tell it to come back after this time, and close."""
        ask_to_reconnect(self, after_ms)

    @property
    def unsent_bytes(self) -> int:
        """What was written and the kernel has not taken yet."""
        return self.protocol.transport.get_write_buffer_size()

    def abort(self, code: CloseCode) -> None:
        """Close without sending what is unsent."""
        self.record.closed(code)
        self.protocol.transport.abort()

    # Called by the protocol.

    def paused(self) -> None:
        self.writable = False
        if self.listener is not None:
            self.listener.on_paused()

    def resumed(self) -> None:
        if not self.closed:
            self.writable = True
            if self.listener is not None:
                self.listener.on_resumed()

    def lost(self) -> None:
        self.closed = True
        self.writable = False
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.on_closed()
        on_gone, self.on_gone = self.on_gone, None
        if on_gone is not None:
            on_gone(self)
