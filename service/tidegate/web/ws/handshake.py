"""Opens a WebSocket: accepts it, makes its sender, counts it at the connection limiter, and
hands it to an endpoint.

The same for every endpoint and over both senders. With the direct sender the ASGI task may end
while the socket lives on: what is left of an idle connection then is its protocol, its sender and
what `SocketHandlers.on_text` holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from starlette.types import Receive, Scope, Send

from tidegate.core.connection_record import VIEWER_LEFT, ConnectionKind, ConnectionRecord, Stage
from tidegate.model import close_codes
from tidegate.model.settings import Settings
from tidegate.web.access.limits import ConnectionLimiter
from tidegate.web.asgi_sender import AsgiSender
from tidegate.web.frame_schemas import SUBPROTOCOL
from tidegate.web.request import RequestHead
from tidegate.web.ws.protocol import EXTENSION
from tidegate.web.ws.sender import DirectSender


class SocketHandlers(NamedTuple):
    """What an endpoint does with an open socket.

    Attributes:
        on_text: gets each text from the viewer, from now until the socket is gone.
        run: its work at the start, or for as long as the socket lives.
    """

    on_text: Callable[[str], None]
    run: Callable[[], Awaitable[None]]


Begin = Callable[[DirectSender | AsgiSender, RequestHead], SocketHandlers]


class Handshake:
    """Makes sockets out of handshakes."""

    def __init__(self, limiter: ConnectionLimiter, settings: Settings) -> None:
        self._limiter = limiter
        self._viewer = settings.viewer
        self._sender = settings.server.sender

    async def open(
        self, scope: Scope, receive: Receive, send: Send, begin: Begin, *, kind: ConnectionKind
    ) -> None:
        """Accept, then let `begin` talk; returns when the ASGI task is no longer needed."""
        if (await receive())["type"] != "websocket.connect":
            return
        accept: dict[str, Any] = {"type": "websocket.accept"}
        if SUBPROTOCOL in scope["subprotocols"]:
            accept["subprotocol"] = SUBPROTOCOL
        await send(accept)
        head = RequestHead(
            scope["path"], scope["query_string"], scope["headers"], scope["subprotocols"]
        )
        direct = None if self._sender == "asgi" else scope.get("extensions", {}).get(EXTENSION)
        if direct is None:
            await self._over_asgi(receive, send, head, begin, kind)
            return
        sender: DirectSender = direct.open_sender()
        if sender.closed:
            return
        sender.record = self._visit(kind, head)
        sender.on_gone = self._gone
        self._limiter.enter(sender)
        handlers = begin(sender, head)
        direct.take_over(handlers.on_text)
        await handlers.run()

    def _visit(self, kind: ConnectionKind, head: RequestHead) -> ConnectionRecord:
        record = self._limiter.observer.came(kind, head.headers)
        record.enter(Stage.ADMISSION)
        return record

    def _gone(self, sender: DirectSender) -> None:
        self._limiter.leave(sender)
        self._limiter.observer.left(sender.record)

    async def _over_asgi(
        self, receive: Receive, send: Send, head: RequestHead, begin: Begin, kind: ConnectionKind
    ) -> None:
        sender = AsgiSender(
            send,
            high_water_bytes=self._viewer.high_water_bytes,
            low_water_bytes=self._viewer.low_water_bytes,
        )
        sender.record = record = self._visit(kind, head)
        self._limiter.enter(sender)
        handlers = begin(sender, head)
        try:
            async with asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(sender.run(), name="ws-send")
                running = tasks.create_task(_run(handlers), name="ws-handlers")
                await asyncio.sleep(0)  # the handlers begin before the first text reaches them
                while (message := await receive())["type"] == "websocket.receive":
                    text = message.get("text")
                    handlers.on_text(text if text is not None else "")
                record.told(message.get("code", close_codes.ABNORMAL.code), VIEWER_LEFT)
                sender.lost()
                running.cancel()
                sending.cancel()
        finally:
            self._limiter.leave(sender)
            sender.lost()
            record.closed(close_codes.ABNORMAL)
            self._limiter.observer.left(record)


async def _run(handlers: SocketHandlers) -> None:
    await handlers.run()
