"""Opens a WebSocket: accepts it, makes its sender, counts it at the door, and lets an endpoint talk
to it.

The same for every endpoint and over both senders. With the direct sender the ASGI task may end
while the socket lives on: what is left of an idle connection then is its protocol, its sender and
what `Talk.on_text` holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from starlette.types import Receive, Scope, Send

from tidegate.core.visit import VIEWER_LEFT, Stage, Visit, VisitKind
from tidegate.model import close_codes
from tidegate.model.settings import Settings
from tidegate.web.access.limits import Door
from tidegate.web.asgi_sender import AsgiSender
from tidegate.web.request import Head
from tidegate.web.ws.protocol import EXTENSION
from tidegate.web.ws.sender import DirectSender

SUBPROTOCOL = "tidegate.v1"


class Talk(NamedTuple):
    """What an endpoint does with an open socket.

    Attributes:
        on_text: gets each text from the viewer, from now until the socket is gone.
        run: its work at the start, or for as long as the socket lives.
    """

    on_text: Callable[[str], None]
    run: Callable[[], Awaitable[None]]


Begin = Callable[[DirectSender | AsgiSender, Head], Talk]


class Opening:
    """Makes sockets out of handshakes."""

    def __init__(self, door: Door, settings: Settings) -> None:
        self._door = door
        self._viewer = settings.viewer
        self._sender = settings.server.sender

    async def open(
        self, scope: Scope, receive: Receive, send: Send, begin: Begin, *, kind: VisitKind
    ) -> None:
        """Accept, then let `begin` talk; returns when the ASGI task is no longer needed."""
        if (await receive())["type"] != "websocket.connect":
            return
        accept: dict[str, Any] = {"type": "websocket.accept"}
        if SUBPROTOCOL in scope["subprotocols"]:
            accept["subprotocol"] = SUBPROTOCOL
        await send(accept)
        head = Head(scope["path"], scope["query_string"], scope["headers"], scope["subprotocols"])
        direct = None if self._sender == "asgi" else scope.get("extensions", {}).get(EXTENSION)
        if direct is None:
            await self._over_asgi(receive, send, head, begin, kind)
            return
        sender: DirectSender = direct.open_sender()
        if sender.closed:
            return
        sender.visit = self._visit(kind, head)
        sender.on_gone = self._gone
        self._door.enter(sender)
        talk = begin(sender, head)
        direct.take_over(talk.on_text)
        await talk.run()

    def _visit(self, kind: VisitKind, head: Head) -> Visit:
        visit = self._door.visitors.came(kind, head.headers)
        visit.enter(Stage.ADMISSION)
        return visit

    def _gone(self, sender: DirectSender) -> None:
        self._door.leave(sender)
        self._door.visitors.left(sender.visit)

    async def _over_asgi(
        self, receive: Receive, send: Send, head: Head, begin: Begin, kind: VisitKind
    ) -> None:
        sender = AsgiSender(
            send,
            high_water_bytes=self._viewer.high_water_bytes,
            low_water_bytes=self._viewer.low_water_bytes,
        )
        sender.visit = visit = self._visit(kind, head)
        self._door.enter(sender)
        talk = begin(sender, head)
        try:
            async with asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(sender.run(), name="ws-send")
                talking = tasks.create_task(_run(talk), name="ws-talk")
                await asyncio.sleep(0)  # the talk begins before the first text reaches it
                while (message := await receive())["type"] == "websocket.receive":
                    text = message.get("text")
                    talk.on_text(text if text is not None else "")
                visit.told(message.get("code", close_codes.ABNORMAL.code), VIEWER_LEFT)
                sender.lost()
                talking.cancel()
                sending.cancel()
        finally:
            self._door.leave(sender)
            sender.lost()
            visit.closed(close_codes.ABNORMAL)
            self._door.visitors.left(visit)


async def _run(talk: Talk) -> None:
    await talk.run()
