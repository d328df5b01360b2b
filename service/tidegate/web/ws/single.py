"""`GET /ws/operations/{operation_id}`: one viewer of one operation, as a raw ASGI endpoint.

A plain ASGI class, because a framework's route costs 6 to 12 KiB for each idle connection
(docs/performance.md). Every refusal accepts the socket first, says why in an `error` frame, then
closes with a code of the table.
"""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from tidegate.core.ports import Lobby
from tidegate.core.visit import Stage, VisitKind
from tidegate.model.errors import InvalidInput, TidegateError
from tidegate.model.settings import Settings
from tidegate.web.access.sessions import Admission, Guest
from tidegate.web.asgi_sender import AsgiSender
from tidegate.web.problem import refuse
from tidegate.web.request import OFFERS_ACKS, Head, read_ask
from tidegate.web.ws.handshake import Opening, Talk
from tidegate.web.ws.sender import DirectSender
from tidegate.web.ws.session import ONLY_PING, Session, on_ack

PREFIX = "/ws/operations/"


class OperationSocket:
    """The endpoint."""

    def __init__(
        self, lobby: Lobby, opening: Opening, admission: Admission, settings: Settings
    ) -> None:
        self._lobby = lobby
        self._admission = admission
        self._opening = opening
        self._viewer = settings.viewer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._opening.open(scope, receive, send, self._begin, kind=VisitKind.WEBSOCKET)

    def _begin(self, sender: DirectSender | AsgiSender, head: Head) -> Talk:
        guest = Guest(self._admission, sender)
        handlers = ONLY_PING if self._admission.is_open else {"refresh": guest.on_refresh}
        if OFFERS_ACKS in head.query:
            handlers = {**handlers, "ack": on_ack(self._lobby, sender)}
        session = Session(sender, self._viewer.messages_per_s, handlers)
        return Talk(session.on_text, lambda: self._enter(guest, sender, head))

    async def _enter(self, guest: Guest, sender: DirectSender | AsgiSender, head: Head) -> None:
        """Join the operation that path and query name, if that may be; else refuse."""
        try:
            if not head.path.startswith(PREFIX):
                raise InvalidInput("path", f"must be {PREFIX}<operation_id>")
            operation, ask = read_ask(head.path[len(PREFIX) :], head.query, self._viewer)
            sender.visit.about(operation)
            async with guest.in_time():
                await guest.enter(head)
                ask = ask._replace(by=guest.reads_as)
                if not self._admission.is_open:
                    ask = ask._replace(state=await guest.authorise(operation))
                sender.visit.enter(Stage.JOIN)
                if not sender.closed and not self._lobby.join(operation, sender, ask):
                    await self._lobby.ready(operation)
                    if not sender.closed:
                        self._lobby.join(operation, sender, ask)
            guest.start_clock()
        except TimeoutError:
            refuse(sender, guest.too_late())
        except TidegateError as error:
            refuse(sender, guest.refusal(error))
