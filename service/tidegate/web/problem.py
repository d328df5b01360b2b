"""Refusals of viewers and requests: one table for sockets and HTTP.

    TidegateError --refusal_of--> Refusal --refuse-----> `error` frame and close code   (sockets)
                                          --problem_of-> status and problem+json        (HTTP)

Refused                raised by admission, one class for each close code
├── Unauthenticated    4401, or 1013 while the keys are not available
├── Forbidden          4403
├── NotFound           4404
└── SourceFailed       1013: the operation source did not answer

problem+json is RFC 9457, with the names of the `error` frame: `code` is for programs, `detail` for
people, `retry` says whether the same request may succeed later; when it may, `Retry-After` says
when. Texts are shown to the viewer: none repeats a token, a claim, or anything else that came with
the request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson

from tidegate.core.ports import Sender
from tidegate.model import close_codes
from tidegate.model.batch import Batch
from tidegate.model.close_codes import CloseCode, ComeBack
from tidegate.model.errors import (
    InvalidInput,
    Overloaded,
    RedisUnavailable,
    StreamUnusable,
    TidegateError,
)
from tidegate.model.frames import error_frame

MEDIA_TYPE = "application/problem+json"
#: Soon: another replica may serve at once.
RETRY_AFTER_S = 2

# -- what admission raises -------------------------------------------------------------------------


class Refused(TidegateError):
    """Base of the refusals.

    Attributes:
        code: short name of the reason, for the `error` frame and the counter.
        close: how the connection ends.
        retry: whether the same request may succeed later.
    """

    def __init__(self, code: str, text: str, close: CloseCode, *, retry: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.close = close
        self.retry = retry
        #: More for programs, beside the text.
        self.details: Mapping[str, object] = {}


class Unauthenticated(Refused):
    """The token is missing, wrong or expired; with `retry`, it could not be checked just now."""

    def __init__(self, code: str, text: str, *, retry: bool = False) -> None:
        close = close_codes.OVERLOADED if retry else close_codes.UNAUTHENTICATED
        super().__init__(code, text, close, retry=retry)


class Forbidden(Refused):
    """The user, or the page that connects for the user, may not watch this."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(code, text, close_codes.FORBIDDEN)


class NotFound(Refused):
    """The operation source knows no such operation."""

    def __init__(self) -> None:
        super().__init__("not_found", "there is no such operation", close_codes.NOT_FOUND)


class SourceFailed(Refused):
    """Nobody could say whether this user may watch; `detail` is for the log, not the viewer."""

    def __init__(self, detail: str) -> None:
        super().__init__(
            "source_failed",
            "authorization is temporarily unavailable; retry later",
            close_codes.OVERLOADED,
            retry=True,
        )
        self.detail = detail


# -- the table -------------------------------------------------------------------------------------


class Refusal(NamedTuple):
    """A row: the close code, the name for programs, the text for people."""

    close: CloseCode
    code: str
    message: str
    details: Mapping[str, object] = MappingProxyType({})

    @property
    def retry(self) -> bool:
        """Whether the same request may succeed later."""
        return self.close.come_back is not ComeBack.NO

    @property
    def status(self) -> int:
        """As an HTTP status: of a close code above 4400, that code without the 4000."""
        if self.close.code >= 4400:
            return self.close.code - 4000
        return 503 if self.retry else 204


def refusal_of(error: TidegateError) -> Refusal:
    """The row of an error. Raises it again when it is none that a viewer should see."""
    match error:
        case Refused():
            return Refusal(error.close, error.code, str(error), error.details)
        case InvalidInput():
            return Refusal(close_codes.BAD_REQUEST, "bad_request", str(error))
        case RedisUnavailable():
            return Refusal(close_codes.OVERLOADED, "redis_unavailable", str(error))
        case Overloaded():
            return Refusal(close_codes.OVERLOADED, "overloaded", str(error))
        case StreamUnusable():
            return Refusal(close_codes.NOT_FOUND, "not_a_stream", str(error))
    raise error


def refuse(sender: Sender, row: Refusal) -> None:
    """Say why on a socket, then close it."""
    sender.record.closed(row.close, row.code)
    if sender.writable:
        frame = error_frame(row.code, row.message, retry=row.retry, details=row.details)
        sender.write(Batch([frame]))
    sender.close(row.close)


# -- over HTTP -------------------------------------------------------------------------------------


def problem(status: int, code: str, detail: str, *, retry: bool) -> tuple[dict[str, str], bytes]:
    """Headers and body."""
    headers = {"content-type": MEDIA_TYPE, "cache-control": "no-store"}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if retry:
        headers["retry-after"] = str(RETRY_AFTER_S)
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "retry": retry,
    }
    return headers, orjson.dumps(body)


def problem_of(refusal: Refusal) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a refusal."""
    headers, body = problem(refusal.status, refusal.code, refusal.message, retry=refusal.retry)
    return refusal.status, headers, body


def last_answer(status: int, code: str, detail: str, *, retry: bool = False) -> bytes:
    """A whole answer as bytes, for a connection that ends behind it."""
    headers, body = problem(status, code, detail, retry=retry)
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name.title()}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + body


async def send_response(
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    status: int,
    headers: dict[str, str],
    body: bytes = b"",
) -> None:
    """A whole response through ASGI."""
    if status not in (204, 304):
        headers = {**headers, "content-length": str(len(body))}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": False})
