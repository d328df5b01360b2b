"""`GET /ws/operations/{operation_id}`: one viewer of one operation, as a raw ASGI endpoint.

A plain ASGI class, because a framework's route costs 6 to 12 KiB for each idle connection
(docs/performance.md). Every refusal accepts the socket first, says why in an `error` frame, then
closes with a code of the table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tidegate.core.ports import Lobby, Sender
from tidegate.core.records import Ask
from tidegate.model import close_codes
from tidegate.model.close_codes import CloseCode, ComeBack
from tidegate.model.errors import InvalidInput, Overloaded, RedisUnavailable, StreamUnusable
from tidegate.model.frames import error_frame
from tidegate.model.ids import OperationId
from tidegate.model.settings import Settings
from tidegate.web.door import Door
from tidegate.web.protocol import EXTENSION, DirectProtocol
from tidegate.web.query import read_ask
from tidegate.web.sender import AsgiSender, DirectSender
from tidegate.web.session import Session

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

SUBPROTOCOL = "tidegate.v1"
PREFIX = "/ws/operations/"


class OperationSocket:
    """The endpoint."""

    def __init__(self, lobby: Lobby, door: Door, settings: Settings) -> None:
        self._lobby = lobby
        self._door = door
        self._viewer = settings.viewer
        self._sender = settings.server.sender

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (await receive())["type"] != "websocket.connect":
            return
        accept: dict[str, Any] = {"type": "websocket.accept"}
        if SUBPROTOCOL in scope["subprotocols"]:
            accept["subprotocol"] = SUBPROTOCOL
        await send(accept)
        direct = None if self._sender == "asgi" else scope.get("extensions", {}).get(EXTENSION)
        if direct is not None:
            await self._serve_direct(scope, direct)
        else:
            await self._serve_asgi(scope, receive, send)

    async def _serve_direct(self, scope: Scope, protocol: DirectProtocol) -> None:
        sender = protocol.open_sender()
        if not sender.closed:
            sender.on_gone = self._door.leave
            self._door.enter(sender)
        session = Session(sender, self._viewer.messages_per_s)
        path, query = scope["path"], scope["query_string"]
        protocol.take_over(session.on_text)
        await self._enter(path, query, sender)

    async def _serve_asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        sender = AsgiSender(
            send,
            high_water_bytes=self._viewer.high_water_bytes,
            low_water_bytes=self._viewer.low_water_bytes,
        )
        session = Session(sender, self._viewer.messages_per_s)
        self._door.enter(sender)
        try:
            async with asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(sender.run(), name="ws-send")
                entering = tasks.create_task(
                    self._enter(scope["path"], scope["query_string"], sender), name="ws-enter"
                )
                while (message := await receive())["type"] == "websocket.receive":
                    text = message.get("text")
                    session.on_text(text if text is not None else "")
                entering.cancel()
                sending.cancel()
        finally:
            self._door.leave(sender)
            sender.lost()

    async def _enter(self, path: str, query: bytes, sender: DirectSender | AsgiSender) -> None:
        """Join the operation that path and query name, or refuse."""
        try:
            if not path.startswith(PREFIX):
                raise InvalidInput("path", f"must be {PREFIX}<operation_id>")
            operation, ask = read_ask(path[len(PREFIX) :], query, self._viewer)
        except InvalidInput as error:
            _refuse(sender, close_codes.BAD_REQUEST, "bad_request", str(error))
            return
        if not sender.closed and not self._lobby.join(operation, sender, ask):
            await self._join_when_ready(operation, sender, ask)

    async def _join_when_ready(
        self, operation: OperationId, sender: DirectSender | AsgiSender, ask: Ask
    ) -> None:
        try:
            await self._lobby.ready(operation)
        except RedisUnavailable as error:
            _refuse(sender, close_codes.OVERLOADED, "redis_unavailable", str(error))
        except Overloaded as error:
            _refuse(sender, close_codes.OVERLOADED, "overloaded", str(error))
        except StreamUnusable as error:
            _refuse(sender, close_codes.NOT_FOUND, "not_a_stream", str(error))
        else:
            if not sender.closed:
                self._lobby.join(operation, sender, ask)


def _refuse(sender: Sender, code: CloseCode, name: str, message: str) -> None:
    if sender.writable:
        sender.write(error_frame(name, message, retry=code.come_back is not ComeBack.NO))
    sender.close(code)
