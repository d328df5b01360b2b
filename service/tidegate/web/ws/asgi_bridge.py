"""Connects a WebSocket of our own server to an ASGI application, as another ASGI server would.

It is used if `server.sender` is `asgi`, so that the bounds of `web.ws.protocol` and their tests
apply to plain ASGI as well. The handshake is answered before the application is called, so the
application has to accept. Reading is paused until the application has received each message, and
of one read no more messages are kept than it would refuse as a flood.
"""

from __future__ import annotations

import asyncio

from starlette.types import Message, Scope
from websockets.frames import Frame, Opcode

from tidegate.core.connection_record import ConnectionKind, ConnectionRecord
from tidegate.model.close_codes import BAD_REQUEST
from tidegate.web.request import RequestHead
from tidegate.web.ws.protocol import Phase, WebSocketProtocol


class AsgiBridge:
    """The owner of a socket; the application calls `receive` and `send`."""

    def __init__(self, protocol: WebSocketProtocol, most: int) -> None:
        """`most` is how many messages may wait for the application."""
        self._protocol = protocol
        self._most = most
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._inbox.put_nowait({"type": "websocket.connect"})
        self._room = asyncio.Event()
        self._room.set()
        self._is_lost = False
        #: Used for the close code only: the sender of the application has the connection's record.
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
        """See ASGI.

        Raises:
            ConnectionResetError: the socket is closed.
        """
        if message["type"] == "websocket.accept":
            return  # answered already, and the viewer may have left since
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
        if self._inbox.qsize() >= self._most:
            self.record.told(BAD_REQUEST.code, BAD_REQUEST.name)
            self._protocol.send_close(BAD_REQUEST.code, "")
            return
        self._inbox.put_nowait({"type": "websocket.receive", "text": text})
        if not self._protocol.transport.is_closing():
            self._protocol.transport.pause_reading()


def scope_of(head: RequestHead) -> Scope:
    """The ASGI scope of a handshake, with the keys that our application reads."""
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
