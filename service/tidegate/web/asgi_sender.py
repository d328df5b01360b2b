"""Sends frames through ASGI, as required of every sender (`core.ports.Sender`).

`AsgiSender` works on any ASGI server: one task passes the frames to `send`, one by one. It reports
a full buffer through `on_paused` before `write` returns, and accepts no data after `close`.
`sse.sender` is based on it; on our own server a WebSocket has a sender without ASGI (`ws.sender`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tidegate.core.connection_record import NO_RECORD, ConnectionRecord
from tidegate.core.ports import Sender, SenderListener
from tidegate.model.batch import Batch
from tidegate.model.close_codes import DRAINING, CloseCode
from tidegate.model.frames import reconnect_frame

AsgiSend = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class AsgiSender:
    """Sends through ASGI. `run` must run as long as the socket lives."""

    def __init__(self, send: AsgiSend, *, high_water_bytes: int, low_water_bytes: int) -> None:
        self._send = send
        self._high = high_water_bytes
        self._low = low_water_bytes
        self._waiting: deque[Batch] = deque()
        self._size = 0
        self._wake = asyncio.Event()
        self._close: tuple[CloseCode, str] | None = None
        self.listener: SenderListener | None = None
        self.record: ConnectionRecord = NO_RECORD
        self.writable = True
        self.closed = False

    def write(self, batch: Batch) -> None:
        """Send it when its turn comes."""
        if self.closed:
            return
        self._waiting.append(batch)
        self._size += batch.size_bytes
        self._wake.set()
        if self.writable and self._size > self._high:
            self.paused()

    def close(self, code: CloseCode, reason: str = "") -> None:
        if not self.closed:
            self.closed = True
            self.writable = False
            self.record.closed(code)
            self._close = (code, reason)
            self._wake.set()

    def ask_to_reconnect(self, after_ms: int) -> None:
        """Tell it to come back after this time, and close."""
        ask_to_reconnect(self, after_ms)

    @property
    def unsent_bytes(self) -> int:
        """What was written and the server has not taken yet."""
        return self._size

    def abort(self, code: CloseCode) -> None:
        """Close without sending what is unsent."""
        while self._waiting:  # the one that is being sent takes its own size off
            self._size -= self._waiting.popleft().size_bytes
        self.close(code)

    def paused(self) -> None:
        """The buffer is above its mark: it takes more, but should not be given any."""
        self.writable = False
        if self.listener is not None:
            self.listener.on_paused()

    def resumed(self) -> None:
        """It has drained."""
        if not self.closed:
            self.writable = True
            if self.listener is not None:
                self.listener.on_resumed()

    def lost(self) -> None:
        """The socket is gone."""
        self.closed = True
        self.writable = False
        self._wake.set()
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.on_closed()

    async def run(self) -> None:
        """Send until the close frame is sent or the socket is gone."""
        try:
            await self._send_all()
        except OSError:
            pass  # gone, says ASGI; the endpoint is told by a disconnect message

    async def _send_all(self) -> None:
        while True:
            while self._waiting:
                batch = self._waiting.popleft()
                await self._transmit(batch)
                self._size -= batch.size_bytes
                if not self.writable and self._size <= self._low:
                    self.resumed()
            if self._close is not None:
                await self._end(*self._close)
                return
            if self.closed:
                return
            self._wake.clear()
            await self._wake.wait()

    # What is sent for it; all else is the same for every way of sending through ASGI.

    async def _transmit(self, batch: Batch) -> None:
        for frame in batch.frames:
            await self._send({"type": "websocket.send", "text": frame.payload.decode()})

    async def _end(self, code: CloseCode, reason: str) -> None:
        await self._send({"type": "websocket.close", "code": code.code, "reason": reason})


def ask_to_reconnect(sender: Sender, after_ms: int) -> None:
    """Nothing more is delivered; the last frame says when to come back, then 1012."""
    listener, sender.listener = sender.listener, None
    if listener is not None:
        listener.on_closed()
    if sender.writable:
        sender.write(Batch([reconnect_frame(after_ms, "draining")]))
    sender.close(DRAINING)
