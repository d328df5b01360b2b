"""A WebSocket of our own server for an ASGI application: what a foreign server would do.

Used with `server.sender` `asgi`, so that the plain ASGI way keeps to the bounds of
`web.ws.protocol`, under the same tests. The handshake is answered before the application is called,
which has to accept; nothing more is read until it has taken what was.
"""

from __future__ import annotations

import asyncio

from starlette.types import Message, Scope
from websockets.frames import Frame, Opcode

from tidegate.core.connection_record import ConnectionKind, ConnectionRecord
from tidegate.web.request import RequestHead
from tidegate.web.ws.protocol import Phase, WebSocketProtocol


class AsgiBridge:
    """Owns a socket; `receive` and `send` are for the application."""

    def __init__(self, protocol: WebSocketProtocol) -> None:
        self._protocol = protocol
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._inbox.put_nowait({"type": "websocket.connect"})
        self._room = asyncio.Event()
        self._room.set()
        self._is_lost = False
        #: Only for its code: the connection's own is the application's sender's.
        self.record = ConnectionRecord(ConnectionKind.WEBSOCKET, 0.0)
        protocol.owner = self
        protocol.on_text = self._on_text

    # -- for the application ---------------------------------------------------------------------

    async def receive(self) -> Message:
        """See ASGI."""
        transport = self._protocol.transport
        if self._inbox.empty() and not transport.is_closing():
            transport.resume_reading()
        return await self._inbox.get()

    async def send(self, message: Message) -> None:
        """See ASGI. Raises OSError when the socket is gone."""
        await self._room.wait()
        if self._is_lost or self._protocol.phase is not Phase.OPEN:
            raise ConnectionResetError("the WebSocket is closed")
        if message["type"] == "websocket.send":
            text = Frame(Opcode.TEXT, message["text"].encode())
            self._protocol.transport.write(text.serialize(mask=False))
        elif message["type"] == "websocket.close":
            self._protocol.send_close(message["code"], message.get("reason") or "")

    # -- for the socket --------------------------------------------------------------------------

    @property
    def writable(self) -> bool:
        """See `SocketOwner`."""
        return self._room.is_set()

    def paused(self) -> None:
        """See `SocketOwner`."""
        self._room.clear()

    def resumed(self) -> None:
        """See `SocketOwner`."""
        self._room.set()

    def lost(self) -> None:
        """See `SocketOwner`."""
        if not self._is_lost:
            self._is_lost = True
            self._room.set()
            self._inbox.put_nowait({"type": "websocket.disconnect", "code": self.record.code})

    def _on_text(self, text: str) -> None:
        self._inbox.put_nowait({"type": "websocket.receive", "text": text})
        if not self._protocol.transport.is_closing():
            self._protocol.transport.pause_reading()


def scope_of(head: RequestHead) -> Scope:
    """Of a handshake: as much as our application looks at."""
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": head.path,
        "query_string": head.query,
        "headers": head.headers,
        "subprotocols": head.subprotocols,
    }
