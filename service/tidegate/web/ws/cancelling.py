"""The message `cancel` of a socket: `{"type":"cancel","operation":"42"}`.

It is answered with a frame `cancelling` or `error`, which names the operation, and the socket stays
open. Requests before the viewer is authenticated wait until it is. One request of a socket is
processed at a time; a few wait, in order, and further ones are refused.
"""

from __future__ import annotations

import msgspec

from tidegate.core.ports import Sender
from tidegate.model.batch import Batch
from tidegate.model.errors import InvalidOperationId, InvalidRequest, TidegateError
from tidegate.model.frames import Frame, cancelling_frame, error_frame
from tidegate.model.ids import OperationId, parse_operation_id
from tidegate.web.access.cancels import CancelService
from tidegate.web.access.sessions import AuthorizedConnection
from tidegate.web.problem import refusal_of

WAITING_MAX = 16


class _CancelMessage(msgspec.Struct):
    operation: str | None = None


_decode = msgspec.json.Decoder(_CancelMessage).decode


class CancelMessages:
    """Those of one socket. `admitted` is called when its viewer is known and has its slot."""

    __slots__ = ("_authorized", "_cancels", "_is_admitted", "_is_running", "_only", "_sender",
                 "_waiting")  # fmt: skip

    def __init__(
        self, cancels: CancelService, authorized: AuthorizedConnection, sender: Sender
    ) -> None:
        """`sender`: where answers go."""
        self._cancels = cancels
        self._authorized = authorized
        self._sender = sender
        self._only: OperationId | None = None
        self._waiting: list[str | None] = []
        self._is_admitted = False
        self._is_running = False

    def admitted(self, only: OperationId | None = None) -> None:
        """Requests are heard from now on; `only`: the one operation that the socket is about."""
        self._only = only
        self._is_admitted = True
        self._go_on()

    def on_text(self, text: str) -> None:
        """One such message."""
        try:
            name = _decode(text).operation
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            self._answer(error_frame("bad_message", f"cancel: {error}", retry=False))
            return
        if len(self._waiting) >= WAITING_MAX:
            message = "too many requests are waiting; retry when they are answered"
            self._refuse(name, "too_many_cancels", message, retry=True)
            return
        self._waiting.append(name)
        self._go_on()

    def _go_on(self) -> None:
        if self._waiting and self._is_admitted and not self._is_running:
            self._is_running = True
            if self._cancels.spawn(self._run(), "cancel") is None:  # the replica is leaving
                self._is_running = False
                name = self._waiting.pop()
                self._refuse(name, "draining", "this replica is shutting down", retry=True)

    async def _run(self) -> None:
        try:
            while self._waiting:
                name = self._waiting[0]
                self._answer(await self._cancel(name))
                self._waiting.pop(0)
        finally:
            self._is_running = False

    async def _cancel(self, name: str | None) -> Frame:
        authorized = self._authorized
        try:
            operation = self._operation(name)
            done = await self._cancels.cancel(
                authorized, operation, by=authorized.reads_as, way="websocket"
            )
        except TidegateError as error:
            row = refusal_of(error)
            return error_frame(
                row.code, row.message, retry=row.retry, operation=_shown(name or self._only)
            )
        return cancelling_frame(operation, done.entry_id, repeated=done.repeated)

    def _operation(self, name: str | None) -> OperationId:
        if name is None:
            if self._only is None:
                raise InvalidRequest("operation", "is missing")
            return self._only
        operation = parse_operation_id(name)
        if self._only is not None and operation != self._only:
            raise InvalidRequest("operation", "must be the one of this socket, or left out")
        return operation

    def _refuse(self, name: str | None, code: str, message: str, *, retry: bool) -> None:
        self._answer(error_frame(code, message, retry=retry, operation=_shown(name or self._only)))

    def _answer(self, frame: Frame) -> None:
        if self._sender.writable:  # one that does not read its answers gets none
            self._sender.write(Batch([frame]))


def _shown(name: str | None) -> OperationId | None:
    """The operation in an answer; what is no id of one is not repeated."""
    if name is None:
        return None
    try:
        return parse_operation_id(name)
    except InvalidOperationId:
        return None
