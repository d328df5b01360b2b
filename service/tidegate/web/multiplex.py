"""`GET /ws`: many operations on one socket, as a raw ASGI endpoint.

It opens the socket, over either sender, and leaves the rest to `Watches`. Unlike the endpoint of a
single operation its task stays for as long as the socket: joins that have to wait belong to it, and
there are few such sockets.
"""

from __future__ import annotations

import asyncio
from typing import Any

from tidegate.core.ports import Lobby
from tidegate.model.settings import Settings
from tidegate.web.door import Door
from tidegate.web.operation_socket import SUBPROTOCOL, Receive, Scope, Send
from tidegate.web.protocol import EXTENSION, DirectProtocol
from tidegate.web.sender import AsgiSender
from tidegate.web.watches import Watches

PATH = "/ws"


class MultiplexSocket:
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
            await self._serve_direct(direct)
        else:
            await self._serve_asgi(receive, send)

    async def _serve_direct(self, protocol: DirectProtocol) -> None:
        sender = protocol.open_sender()
        if sender.closed:
            return
        sender.on_gone = self._door.leave
        self._door.enter(sender)
        async with asyncio.TaskGroup() as tasks:
            watches = Watches(self._lobby, self._viewer, sender, tasks)
            protocol.take_over(watches.on_text)
            await watches.gone.wait()

    async def _serve_asgi(self, receive: Receive, send: Send) -> None:
        sender = AsgiSender(
            send,
            high_water_bytes=self._viewer.high_water_bytes,
            low_water_bytes=self._viewer.low_water_bytes,
        )
        self._door.enter(sender)
        try:
            async with asyncio.TaskGroup() as tasks:
                watches = Watches(self._lobby, self._viewer, sender, tasks)
                sending = tasks.create_task(sender.run(), name="ws-send")
                while (message := await receive())["type"] == "websocket.receive":
                    text = message.get("text")
                    watches.on_text(text if text is not None else "")
                sender.lost()
                sending.cancel()
        finally:
            self._door.leave(sender)
            sender.lost()
