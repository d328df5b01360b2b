"""`GET /ws`: many operations on one socket, as a raw ASGI endpoint.

It opens the socket and leaves the rest to `Watches`. Unlike the endpoint of a single operation its
task stays for as long as the socket: joins that have to wait belong to it, and there are few such
sockets.
"""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope, Send

from tidegate.core.ports import Lobby
from tidegate.core.visit import Stage, VisitKind
from tidegate.model.errors import TidegateError
from tidegate.model.settings import Settings
from tidegate.web.access.sessions import Admission, Guest
from tidegate.web.asgi_sender import AsgiSender
from tidegate.web.problem import refuse
from tidegate.web.request import Head
from tidegate.web.ws.handshake import Opening, Talk
from tidegate.web.ws.sender import DirectSender
from tidegate.web.ws.subscriptions import Watches

PATH = "/ws"


class MultiplexSocket:
    """The endpoint."""

    def __init__(
        self, lobby: Lobby, opening: Opening, admission: Admission, settings: Settings
    ) -> None:
        self._lobby = lobby
        self._admission = admission
        self._opening = opening
        self._viewer = settings.viewer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._opening.open(scope, receive, send, self._begin, kind=VisitKind.MULTIPLEX)

    def _begin(self, sender: DirectSender | AsgiSender, head: Head) -> Talk:
        tasks = asyncio.TaskGroup()
        guest = Guest(self._admission, sender)
        watches = Watches(self._lobby, self._viewer, sender, tasks, guest)

        async def run() -> None:
            async with tasks:
                try:
                    async with guest.in_time():
                        await guest.enter(head)
                except TimeoutError:
                    refuse(sender, guest.too_late())
                    return
                except TidegateError as error:
                    refuse(sender, guest.refusal(error))
                    return
                guest.start_clock()
                sender.visit.enter(Stage.LIVE)
                watches.admit()
                await watches.gone.wait()

        return Talk(watches.on_text, run)
