"""`Viewer`: follows one operation to its end, over as many connections and replicas as it takes.

    async with Viewer("42", "wss://gateway.example.com", token=token) as viewer:
        async for frame in viewer:
            print(frame.type, frame.data)
    print(viewer.status)

Every entry comes once and in order. After a lost connection the next replica is asked for what
follows the last one received; what cannot be proven to be complete is announced by a frame of type
`gap`. The iteration ends when the operation has ended, and raises when a gateway refuses.
"""

from __future__ import annotations

import inspect
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from tidegate.client.cancelling import CancelRequested, request_cancel
from tidegate.client.following import Event, Received, Unreachable, follow
from tidegate.client.watching import WatchFinished, Watching
from tidegate.model.close_codes import (
    CONNECTION_LIMIT,
    EXPIRED,
    FORBIDDEN,
    NOT_FOUND,
    UNAUTHENTICATED,
)
from tidegate.model.errors import (
    GatewayUnreachable,
    InvalidRequest,
    OperationExpired,
    OperationNotFound,
    SignInRequired,
    TooManyConnections,
    ViewerRefused,
    WatchForbidden,
)
from tidegate.model.folded_state import FoldedState, is_entry
from tidegate.model.ids import parse_operation_id, parse_stream_id

PATIENCE_S = 60.0
#: Frames without an entry that are about the operation, not about the connection.
_SHOWN = frozenset({"current_state", "gap", "skipped", "stale", "live"})
_REFUSALS: dict[int, type[ViewerRefused]] = {
    UNAUTHENTICATED.code: SignInRequired,
    401: SignInRequired,
    FORBIDDEN.code: WatchForbidden,
    403: WatchForbidden,
    NOT_FOUND.code: OperationNotFound,
    404: OperationNotFound,
    EXPIRED.code: OperationExpired,
    410: OperationExpired,
    CONNECTION_LIMIT.code: TooManyConnections,
}

Token = str | Callable[[], str | Awaitable[str]]


class ReceivedFrame(NamedTuple):
    """A received frame: an entry, or a control frame (docs/protocol.md).

    Attributes:
        id: the id of the entry; None for `current_state`, `gap`, `skipped`, `stale` and `live`.
        raw: the whole frame.
    """

    type: str
    data: Mapping[str, Any]
    id: str | None
    raw: Mapping[str, Any]


class Viewer:
    """Watches an operation. Iterate over it once. Close it, or use it in an `async with` block.

    Args:
        operation: id of the operation.
        urls: address of a replica (`ws`, `wss`, `http` or `https`), or several.
        token: a JWT, or a function that returns one for each connection; with a function, an
            expired token is renewed instead of raising an error.
        last_event_id: start after this entry.
        history: without `last_event_id`, how much history to receive: a number, `all` or `none`.
        patience_s: give up if no replica responds for this long, in seconds.

    Raises:
        InvalidInput: an id, an address or the history is invalid.
    """

    def __init__(
        self,
        operation: str,
        urls: str | Sequence[str] = "ws://127.0.0.1:8080",
        *,
        token: Token | None = None,
        last_event_id: str | None = None,
        history: int | str | None = None,
        patience_s: float = PATIENCE_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if last_event_id is not None:
            last_event_id = str(parse_stream_id(last_event_id))
        text = None if history is None else str(history)
        if text is not None and text not in ("all", "none") and not text.isdecimal():
            raise InvalidRequest("history", "must be a number, `all` or `none`")
        bases = [urls] if isinstance(urls, str) else list(urls)
        if not bases:
            raise InvalidRequest("urls", "must name at least one replica")
        self._bases, self._token, self._tls = bases, token, tls
        try:
            self._watching = Watching(
                parse_operation_id(operation),
                bases,
                after=last_event_id,
                history=text,
                renewable=callable(token),
            )
        except ValueError as error:
            raise InvalidRequest("urls", str(error)) from None
        self._events = follow(
            self._watching,
            patience_s,
            token=(lambda: next_token(token)) if token is not None else None,
            tls=tls,
        )
        self._was_told_state = False
        self._ended = False

    # -- what is known ----------------------------------------------------------------------------

    @property
    def operation(self) -> str:
        """The id of the operation."""
        return self._watching.operation

    @property
    def state(self) -> FoldedState:
        """The state of the operation, as far as it is known; replaced by a new object when it
        changes.
        """
        return self._watching.state

    @property
    def status(self) -> str:
        """The latest known status: `unknown`, `running`, `completed`, or one that a backend has
        set.
        """
        return self._watching.status

    @property
    def finished(self) -> bool:
        """Whether the operation is known to have ended."""
        return self._watching.finished or self._ended

    @property
    def cursor(self) -> str | None:
        """The position at which another viewer can resume, as its `last_event_id`."""
        return self._watching.cursor

    @property
    def reconnects(self) -> int:
        """Number of connections after the first."""
        return self._watching.reconnects

    # -- frames -----------------------------------------------------------------------------------

    async def __anext__(self) -> ReceivedFrame:
        """The next frame.

        Raises:
            ViewerRefused: a gateway does not let us watch; see its kinds.
            GatewayUnreachable: no replica answered for `patience_s`.
            StopAsyncIteration: the operation has ended.
        """
        async for event in self._events:
            frame = self._frame_of(event)
            if frame is not None:
                return frame
        raise StopAsyncIteration

    def __aiter__(self) -> Self:
        return self

    async def result(self) -> str:
        """Watch until the operation ends, and return its final status. Raises as iteration does."""
        async for _ in self:
            pass
        return self.status

    async def cancel(self) -> CancelRequested:
        """Ask the worker to stop the operation; frames show the result. The request is idempotent.

        Raises:
            ViewerRefused: it is not allowed, or there is nothing to cancel; `code` is the HTTP
                status (409: the operation has ended).
            GatewayUnreachable: no replica responded.
        """
        token = await next_token(self._token)
        operation = parse_operation_id(self.operation)
        return await request_cancel(operation, self._bases, token=token, tls=self._tls)

    async def close(self) -> None:
        """Close the connection; may be called repeatedly."""
        await self._events.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # -- inside -----------------------------------------------------------------------------------

    def _frame_of(self, event: Event) -> ReceivedFrame | None:
        match event:
            case Received(_, raw):
                return self._shown(raw)
            case WatchFinished(_, text, refused):
                if refused is not None:
                    raise error_of(refused, text)
                self._ended = True
            case Unreachable(text):
                raise GatewayUnreachable(text)
        return None

    def _shown(self, raw: Mapping[str, Any]) -> ReceivedFrame | None:
        kind = str(raw.get("type"))
        if not is_entry(raw):
            if kind not in _SHOWN or (kind == "current_state" and self._was_told_state):
                return None
            self._was_told_state = True
        data = raw.get("data")
        return ReceivedFrame(kind, data if isinstance(data, Mapping) else {}, raw.get("id"), raw)


async def next_token(token: Token | None) -> str | None:
    """For one more connection."""
    if not callable(token):
        return token
    given = token()
    return await given if inspect.isawaitable(given) else given


def error_of(code: int, text: str) -> ViewerRefused:
    """The error of a refusal, by its close code or HTTP status."""
    return _REFUSALS.get(code, ViewerRefused)(text, code)
