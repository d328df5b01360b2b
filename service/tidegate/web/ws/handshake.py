"""An open WebSocket for an endpoint: makes its sender and its record, and counts it at the
connection limiter.

The same for every endpoint. `Handshake` does it on any ASGI server, for as long as the socket
lives; on our own server `Acceptor` does it without ASGI, and what is left of an idle connection is
its protocol, its sender and what `SocketHandlers.on_text` holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, Protocol

from starlette.types import Receive, Scope, Send

from tidegate.core.connection_record import VIEWER_LEFT, ConnectionKind, ConnectionRecord, Stage
from tidegate.model import close_codes
from tidegate.model.settings import Settings
from tidegate.web.access.limits import ConnectionLimiter
from tidegate.web.asgi_sender import AsgiSender
from tidegate.web.frame_schemas import SUBPROTOCOL
from tidegate.web.request import RequestHead
from tidegate.web.ws.sender import DirectSender


class SocketHandlers(NamedTuple):
    """What an endpoint does with an open socket.

    Attributes:
        on_text: gets each text from the viewer, from now until the socket is gone.
        run: does its work at the start, as far as nothing has to be waited for; returns the rest,
            which may last for as long as the socket lives.
    """

    on_text: Callable[[str], None]
    run: Callable[[], Coroutine[Any, Any, None] | None]


class SocketEndpoint(Protocol):
    """A way in."""

    kind: ConnectionKind

    def begin(self, sender: DirectSender | AsgiSender, head: RequestHead) -> SocketHandlers:
        """Of this socket, which is open."""


def admitted(
    limiter: ConnectionLimiter,
    sender: DirectSender | AsgiSender,
    endpoint: SocketEndpoint,
    head: RequestHead,
) -> SocketHandlers:
    """Begin the connection's record, count it, and let the endpoint have it."""
    sender.record = record = limiter.observer.came(endpoint.kind, head.headers)
    record.enter(Stage.ADMISSION)
    limiter.enter(sender)
    return endpoint.begin(sender, head)


class Handshake:
    """Makes sockets out of handshakes, on any ASGI server."""

    def __init__(self, limiter: ConnectionLimiter, settings: Settings) -> None:
        self._limiter = limiter
        self._viewer = settings.viewer

    async def open(
        self, scope: Scope, receive: Receive, send: Send, endpoint: SocketEndpoint
    ) -> None:
        """Accept, then let the endpoint talk; returns when the socket is gone."""
        if (await receive())["type"] != "websocket.connect":
            return
        accept: dict[str, Any] = {"type": "websocket.accept"}
        if SUBPROTOCOL in scope["subprotocols"]:
            accept["subprotocol"] = SUBPROTOCOL
        await send(accept)
        head = RequestHead(
            scope["path"], scope["query_string"], scope["headers"], scope["subprotocols"]
        )
        sender = AsgiSender(
            send,
            high_water_bytes=self._viewer.high_water_bytes,
            low_water_bytes=self._viewer.low_water_bytes,
        )
        handlers = admitted(self._limiter, sender, endpoint, head)
        record: ConnectionRecord = sender.record
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
    rest = handlers.run()
    if rest is not None:
        await rest
