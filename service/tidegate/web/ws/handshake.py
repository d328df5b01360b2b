"""Prepares a WebSocket for its endpoint: its sender, its record, and its place in the connection
limiter.

`Handshake` does this on any ASGI server, and its call lasts as long as the socket. On our own
server `Acceptor` does it without ASGI, where an idle connection consists of its protocol, its
sender and what `SocketHandlers.on_text` references.
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
        on_text: called with each text message of the viewer until the socket has ended.
        run: called once. It does what needs no waiting, and returns a coroutine for the rest, if
            there is any; that may run until the socket has ended.
    """

    on_text: Callable[[str], None]
    run: Callable[[], Coroutine[Any, Any, None] | None]


class SocketEndpoint(Protocol):
    """Handles the sockets of one kind of path."""

    kind: ConnectionKind

    def begin(self, sender: DirectSender | AsgiSender, head: RequestHead) -> SocketHandlers:
        """The handlers of an open socket."""


def admitted(
    limiter: ConnectionLimiter,
    sender: DirectSender | AsgiSender,
    endpoint: SocketEndpoint,
    head: RequestHead,
) -> SocketHandlers:
    """Create the record of the connection, count it, and let the endpoint begin."""
    sender.record = record = limiter.observer.came(endpoint.kind, head.headers)
    record.enter(Stage.ADMISSION)
    limiter.enter(sender)
    return endpoint.begin(sender, head)


class Handshake:
    """Accepts WebSocket handshakes on any ASGI server."""

    def __init__(self, limiter: ConnectionLimiter, settings: Settings) -> None:
        self._limiter = limiter
        self._viewer = settings.viewer

    async def open(
        self, scope: Scope, receive: Receive, send: Send, endpoint: SocketEndpoint
    ) -> None:
        """Accept the socket and run the endpoint; returns when the socket has ended."""
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
