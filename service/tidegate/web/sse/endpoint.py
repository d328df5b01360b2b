"""`GET /sse/operations/{operation_id}`: one viewer of one operation as server-sent events.

A raw ASGI endpoint, for the same reason as the sockets. The viewer is one like any other: the same
frames, cursors, gaps and ends; only what a browser's EventSource makes of them is decided here and
in `sse.sender`. EventSource sends its last `id:` as `Last-Event-ID`, which goes before the query.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from starlette.types import Receive, Scope, Send

from tidegate.core.connection_record import VIEWER_LEFT, ConnectionKind, Stage
from tidegate.core.ports import SubscriptionService
from tidegate.core.records import Ask
from tidegate.core.topic import UNKNOWN_STATUS
from tidegate.model import close_codes
from tidegate.model.batch import Batch
from tidegate.model.errors import InvalidInput, TidegateError
from tidegate.model.frames import error_frame
from tidegate.model.ids import ZERO, OperationId, parse_stream_id
from tidegate.model.settings import Settings
from tidegate.web.access.limits import ConnectionLimiter
from tidegate.web.access.sessions import Admission, AuthorizedConnection
from tidegate.web.problem import Refusal, problem, problem_of, send_response
from tidegate.web.request import RequestHead, read_ask
from tidegate.web.server.answering import CONNECTION
from tidegate.web.sse.sender import SseSender

PREFIX = "/sse/operations/"
LAST_EVENT_ID = b"last-event-id"
#: Longer than the grace after which a viewer is closed.
HOLD_MARGIN_S = 1.0


class SseEndpoint:
    """The endpoint."""

    def __init__(
        self,
        subscriptions: SubscriptionService,
        limiter: ConnectionLimiter,
        admission: Admission,
        settings: Settings,
    ) -> None:
        self._subscriptions = subscriptions
        self._admission = admission
        self._limiter = limiter
        self._viewer = settings.viewer
        topic = settings.topic
        self._final = frozenset(
            {
                UNKNOWN_STATUS,
                *topic.terminal_statuses,
                *(kind.rpartition("_")[2] for kind in topic.terminal_types),
            }
        )
        self._hold_s = max(topic.terminal_grace_s, topic.expired_grace_s) + HOLD_MARGIN_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET":
            headers, body = problem(405, "method_not_allowed", "only GET", retry=False)
            await send_response(send, 405, {**headers, "allow": "GET"}, body)
            return
        refusal = self._limiter.refusal(asyncio.get_running_loop().time())
        if refusal is not None:
            row = Refusal(close_codes.OVERLOADED, refusal, "retry, or try another replica")
            await send_response(send, *problem_of(row))
            return
        try:
            operation, ask = self._read(scope)
        except InvalidInput as error:
            await send_response(send, *problem_of(self._admission.refusal(error)))
            return
        connection = scope.get("extensions", {}).get(CONNECTION)
        transport = None
        if connection is not None:
            transport = connection.transport
            self._bound_silence(transport)
        comes_back = ask.after is not None and ask.after != ZERO
        sender = SseSender(
            send,
            self._viewer,
            connection=connection if scope["http_version"] == "1.1" else None,  # it knows chunks
            transport=transport,
            final=self._final if comes_back else frozenset(),
            hold_s=self._hold_s,
        )
        record = sender.record = self._limiter.observer.came(
            ConnectionKind.EVENT_STREAM, scope["headers"]
        )
        record.about(operation)
        record.enter(Stage.ADMISSION)
        self._limiter.enter(sender)
        authorized = AuthorizedConnection(self._admission, sender)
        try:
            async with authorized.in_time():
                await authorized.enter(
                    RequestHead(scope["path"], scope["query_string"], scope["headers"], ())
                )
                ask = ask._replace(by=authorized.reads_as)
                if not authorized.is_free:
                    ask = ask._replace(state=await authorized.authorise(operation))
            authorized.start_clock()
            record.enter(Stage.JOIN)
            await self._serve(operation, ask, sender, receive)
        except (TidegateError, TimeoutError) as error:
            row = (
                authorized.refusal(error)
                if isinstance(error, TidegateError)
                else authorized.too_late()
            )
            record.closed(row.close, row.code)
            await send_response(send, *problem_of(row))
        finally:
            self._limiter.leave(sender)
            sender.lost()
            record.told(0, VIEWER_LEFT)
            self._limiter.observer.left(record)

    async def _serve(
        self, operation: OperationId, ask: Ask, sender: SseSender, receive: Receive
    ) -> None:
        async with asyncio.TaskGroup() as tasks:
            entering = tasks.create_task(self._enter(operation, ask, sender), name="sse-enter")
            sending = tasks.create_task(sender.run(), name="sse-send")
            leaving = tasks.create_task(_gone(receive), name="sse-gone")
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            sender.lost()
            for task in (entering, sending, leaving):
                task.cancel()

    async def _enter(self, operation: OperationId, ask: Ask, sender: SseSender) -> None:
        try:
            while not sender.closed and not self._subscriptions.join(operation, sender, ask):
                await self._subscriptions.ready(operation)
        except TidegateError as error:
            refusal = self._admission.refusal(error)
            sender.record.closed(refusal.close, refusal.code)
            frame = error_frame(refusal.code, refusal.message, retry=refusal.retry)
            sender.write(Batch([frame]))
            sender.close(refusal.close)

    def _read(self, scope: Scope) -> tuple[OperationId, Ask]:
        operation, ask = read_ask(scope["path"][len(PREFIX) :], scope["query_string"], self._viewer)
        for name, value in scope["headers"]:
            if name == LAST_EVENT_ID and (text := value.decode("latin-1").strip(" \t")):
                ask = ask._replace(after=parse_stream_id(text, "Last-Event-ID"))
        return operation, ask._replace(acks=False)  # there is no way back

    def _bound_silence(self, transport: asyncio.Transport) -> None:
        """A peer that acknowledges nothing is given up as soon as one that answers no ping; the
        kernel's own patience is a quarter of an hour.
        """
        sock: Any = transport.get_extra_info("socket")
        if sock is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            patience_s = self._viewer.ping_interval_s + self._viewer.ping_timeout_s
            try:
                sock.setsockopt(
                    socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(patience_s * 1000)
                )
            except OSError:
                pass  # not TCP


async def _gone(receive: Receive) -> None:
    """Until the client is."""
    while (await receive())["type"] != "http.disconnect":
        pass
