"""`GET /ws/operations/{operation_id}`: one viewer of one operation, as a raw ASGI endpoint.

A plain ASGI class, because a framework's route costs 6 to 12 KiB for each idle connection
(docs/performance.md). Every refusal accepts the socket first, says why in an `error` frame, then
closes with a code of the table.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import Receive, Scope, Send

from tidegate.core.connection_record import ConnectionKind, Stage
from tidegate.core.ports import SubscriptionService
from tidegate.model.errors import InvalidInput, TidegateError
from tidegate.model.settings import Settings
from tidegate.web.access.cancels import CancelService
from tidegate.web.access.sessions import Admission, AuthorizedConnection
from tidegate.web.asgi_sender import AsgiSender
from tidegate.web.problem import refuse
from tidegate.web.request import OFFERS_ACKS, RequestHead, read_ask
from tidegate.web.ws.cancelling import CancelMessages
from tidegate.web.ws.handshake import Handshake, SocketHandlers
from tidegate.web.ws.sender import DirectSender
from tidegate.web.ws.session import Session, on_ack

PREFIX = "/ws/operations/"


class OperationSocket:
    """The endpoint."""

    def __init__(
        self,
        subscriptions: SubscriptionService,
        opening: Handshake,
        admission: Admission,
        cancels: CancelService,
        settings: Settings,
    ) -> None:
        self._cancels = cancels
        self._subscriptions = subscriptions
        self._admission = admission
        self._opening = opening
        self._viewer = settings.viewer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._opening.open(scope, receive, send, self._begin, kind=ConnectionKind.WEBSOCKET)

    def _begin(self, sender: DirectSender | AsgiSender, head: RequestHead) -> SocketHandlers:
        authorized = AuthorizedConnection(self._admission, sender)
        cancels = CancelMessages(self._cancels, authorized, sender)
        handlers: dict[str, Callable[[str], None]] = {"cancel": cancels.on_text}
        if not self._admission.is_open:
            handlers["refresh"] = authorized.on_refresh
        if OFFERS_ACKS in head.query:
            handlers["ack"] = on_ack(self._subscriptions, sender)
        session = Session(sender, self._viewer.messages_per_s, handlers)
        return SocketHandlers(
            session.on_text, lambda: self._enter(authorized, sender, head, cancels)
        )

    async def _enter(
        self,
        authorized: AuthorizedConnection,
        sender: DirectSender | AsgiSender,
        head: RequestHead,
        cancels: CancelMessages,
    ) -> None:
        """Join the operation that path and query name, if that may be; else refuse."""
        try:
            if not head.path.startswith(PREFIX):
                raise InvalidInput("path", f"must be {PREFIX}<operation_id>")
            operation, ask = read_ask(head.path[len(PREFIX) :], head.query, self._viewer)
            sender.record.about(operation)
            async with authorized.in_time():
                await authorized.enter(head)
                ask = ask._replace(by=authorized.reads_as)
                if not self._admission.is_open:
                    ask = ask._replace(state=await authorized.authorise(operation))
                sender.record.enter(Stage.JOIN)
                if not sender.closed and not self._subscriptions.join(operation, sender, ask):
                    await self._subscriptions.ready(operation)
                    if not sender.closed:
                        self._subscriptions.join(operation, sender, ask)
            authorized.start_clock()
            cancels.admitted(operation)
        except TimeoutError:
            refuse(sender, authorized.too_late())
        except TidegateError as error:
            refuse(sender, authorized.refusal(error))
