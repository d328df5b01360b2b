"""`GET /ws`: many operations on one socket, as a raw ASGI endpoint.

It opens the socket; `Subscriptions` does the rest. Unlike that of a single operation, its task
lasts as long as the socket: joins that have to wait belong to it, and there are few such sockets.
"""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope, Send

from tidegate.core.connection_record import ConnectionKind, Stage
from tidegate.core.ports import SubscriptionService
from tidegate.model.errors import TidegateError
from tidegate.model.settings import Settings
from tidegate.web.access.cancels import CancelService
from tidegate.web.access.sessions import Admission, AuthorizedConnection
from tidegate.web.asgi_sender import AsgiSender
from tidegate.web.problem import refuse
from tidegate.web.request import RequestHead
from tidegate.web.ws.handshake import Handshake, SocketHandlers
from tidegate.web.ws.sender import DirectSender
from tidegate.web.ws.subscriptions import Subscriptions

PATH = "/ws"


class MultiplexSocket:
    """The endpoint."""

    def __init__(
        self,
        subscriptions: SubscriptionService,
        handshake: Handshake,
        admission: Admission,
        cancels: CancelService,
        settings: Settings,
    ) -> None:
        self.kind = ConnectionKind.MULTIPLEX
        self._cancels = cancels
        self._subscriptions = subscriptions
        self._admission = admission
        self._handshake = handshake
        self._viewer = settings.viewer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._handshake.open(scope, receive, send, self)

    def begin(self, sender: DirectSender | AsgiSender, head: RequestHead) -> SocketHandlers:
        """See `SocketEndpoint`."""
        tasks = asyncio.TaskGroup()
        authorized = AuthorizedConnection(self._admission, sender)
        watches = Subscriptions(
            self._subscriptions, self._viewer, sender, tasks, authorized, self._cancels
        )

        async def run() -> None:
            async with tasks:
                try:
                    async with authorized.in_time():
                        await authorized.enter(head)
                except TimeoutError:
                    refuse(sender, authorized.too_late())
                    return
                except TidegateError as error:
                    refuse(sender, authorized.refusal(error))
                    return
                authorized.start_clock()
                sender.record.enter(Stage.LIVE)
                watches.admit()
                await watches.gone.wait()

        return SocketHandlers(watches.on_text, run)
