"""`GET /ws/operations/{operation_id}`: one viewer of one operation, as a raw ASGI endpoint.

A plain ASGI class, because a framework's route costs 6 to 12 KiB for each idle connection
(docs/performance.md). Every refusal accepts the socket first, says why in an `error` frame, then
closes with a code of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, NamedTuple

from starlette.types import Receive, Scope, Send

from tidegate.core.connection_record import ConnectionKind, Stage
from tidegate.core.ports import SubscriptionService
from tidegate.core.records import Ask
from tidegate.model.errors import InvalidInput, TidegateError
from tidegate.model.ids import OperationId
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


class OperationMessages(Mapping[str, Callable[[str], None]]):
    """The messages, besides `ping`, that a viewer of one operation may send. Their handlers are
    created when they are needed, because most viewers send none.
    """

    __slots__ = ("_acks", "_authorized", "_cancels", "_only", "_sender", "_socket")

    def __init__(
        self,
        socket: OperationSocket,
        authorized: AuthorizedConnection,
        sender: DirectSender | AsgiSender,
        *,
        acks: bool,
    ) -> None:
        """`acks`: whether the viewer offers to acknowledge entries."""
        self._socket = socket
        self._authorized = authorized
        self._sender = sender
        self._acks = acks
        self._cancels: CancelMessages | None = None
        self._only: OperationId | None = None

    def admitted(self, operation: OperationId) -> None:
        """The viewer is authorized, and watches this operation."""
        self._only = operation
        if self._cancels is not None:
            self._cancels.admitted(operation)

    def __getitem__(self, kind: str) -> Callable[[str], None]:
        if kind not in self._kinds():
            raise KeyError(kind)
        match kind:
            case "cancel":
                return self._cancelling().on_text
            case "refresh":
                return self._authorized.on_refresh
        return on_ack(self._socket.subscriptions, self._sender)

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds())

    def __len__(self) -> int:
        return len(self._kinds())

    def _kinds(self) -> tuple[str, ...]:
        refresh = () if self._socket.admission.is_open else ("refresh",)
        return ("cancel", *refresh, *(("ack",) if self._acks else ()))

    def _cancelling(self) -> CancelMessages:
        cancels = self._cancels
        if cancels is None:
            cancels = CancelMessages(self._socket.cancels, self._authorized, self._sender)
            self._cancels = cancels
            if self._only is not None:
                cancels.admitted(self._only)
        return cancels


class OperationSocket:
    """The endpoint."""

    def __init__(
        self,
        subscriptions: SubscriptionService,
        handshake: Handshake,
        admission: Admission,
        cancels: CancelService,
        settings: Settings,
    ) -> None:
        self.kind = ConnectionKind.WEBSOCKET
        self.cancels = cancels
        self.subscriptions = subscriptions
        self.admission = admission
        self._handshake = handshake
        self._viewer = settings.viewer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._handshake.open(scope, receive, send, self)

    def begin(self, sender: DirectSender | AsgiSender, head: RequestHead) -> SocketHandlers:
        """See `SocketEndpoint`."""
        authorized = AuthorizedConnection(self.admission, sender)
        messages = OperationMessages(self, authorized, sender, acks=OFFERS_ACKS in head.query)
        session = Session(sender, self._viewer.messages_per_s, messages)
        return SocketHandlers(
            session.on_text, lambda: self._enter(authorized, sender, head, messages)
        )

    def _enter(
        self,
        authorized: AuthorizedConnection,
        sender: DirectSender | AsgiSender,
        head: RequestHead,
        messages: OperationMessages,
    ) -> Coroutine[Any, Any, None] | None:
        """Join the operation of path and query, or refuse. If something has to be awaited, a
        coroutine for the rest is returned.
        """
        try:
            if not head.path.startswith(PREFIX):
                raise InvalidInput("path", f"must be {PREFIX}<operation_id>")
            operation, ask = read_ask(head.path[len(PREFIX) :], head.query, self._viewer)
            sender.record.about(operation)
            joining = _Joining(authorized, sender, messages, operation, ask)
            if not self.admission.is_open:
                return self._in_time(joining, head)
            authorized.enter_freely(head)
            if not self._join(joining):
                return self._in_time(joining, None)
        except TidegateError as error:
            refuse(sender, authorized.refusal(error))
            return None
        self._joined(joining)
        return None

    async def _in_time(self, joining: _Joining, head: RequestHead | None) -> None:
        """Join with waiting; `head` is None if the viewer is admitted already."""
        authorized, sender, operation = joining.authorized, joining.sender, joining.operation
        try:
            async with authorized.in_time():
                known: Mapping[str, Any] | None = None
                if head is not None:
                    await authorized.enter(head)
                    known = await authorized.authorise(operation)
                if head is None or not self._join(joining, known):
                    await self.subscriptions.ready(operation)
                    self._join(joining, known)
            self._joined(joining)
        except TimeoutError:
            refuse(sender, authorized.too_late())
        except TidegateError as error:
            refuse(sender, authorized.refusal(error))

    def _join(self, joining: _Joining, known: Mapping[str, Any] | None = None) -> bool:
        """Join; False if this replica does not follow the operation yet."""
        authorized, sender, _, operation, ask = joining
        sender.record.enter(Stage.JOIN)
        ask = ask._replace(by=authorized.reads_as)
        if known is not None:
            ask = ask._replace(state=known)
        return sender.closed or self.subscriptions.join(operation, sender, ask)

    def _joined(self, joining: _Joining) -> None:
        joining.authorized.start_clock()
        joining.messages.admitted(joining.operation)


class _Joining(NamedTuple):
    """A viewer that is about to join its operation."""

    authorized: AuthorizedConnection
    sender: DirectSender | AsgiSender
    messages: OperationMessages
    operation: OperationId
    ask: Ask
