"""What a page of another origin may do over HTTP (CORS, Fetch standard section 3.2).

Every response declares that its content type is correct (`nosniff`), and that pages of other
origins may not embed it as an image or a script.

The pages of `auth.origins` may read responses, and send a token or a cookie with their requests.
The same list applies to sockets; `*` is never sent, and an allowed origin is echoed unchanged.
Pages of other origins receive the same responses without these headers, and cannot read them.
Whether a request is executed is not decided here: a form can be sent without permission.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tidegate.web.auth.origin import OriginRules
from tidegate.web.problem import problem, send_response

#: What the endpoints read, beside what every page may send.
HEADERS = (
    "Authorization, Cache-Control, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, "
    "traceparent, tracestate"
)
METHODS = "GET, POST, DELETE"
#: What a page may see, beside what every page may.
EXPOSED = (
    "ETag, Retry-After, Idempotent-Replayed, "
    "Stream-Next-Offset, Stream-Up-To-Date, Stream-Closed, Stream-Cursor"
)
#: A browser asks again after so long (Chromium: 2 h at the most).
MAX_AGE_S = 600

_VARY = (b"vary", b"origin")
#: In every response. The second one does not apply to requests with CORS.
ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class SafeAnswers:
    """Around an HTTP application without CORS: the admin port's."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, _with(ALWAYS, send))


class CrossOrigin:
    """Around the HTTP side of the public port. Without `auth.origins` no page of another origin may
    do anything.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._rules = OriginRules(origins)
        self._is_used = bool(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._is_used:
            await self._app(scope, receive, _with(ALWAYS, send))
            return
        given = [value for name, value in scope["headers"] if name == b"origin"]
        allowed = len(given) == 1 and self._rules.cover(given[0].decode("latin-1"))
        more = [*ALWAYS, _VARY]
        if allowed:
            more += [
                (b"access-control-allow-origin", given[0]),
                (b"access-control-allow-credentials", b"true"),
            ]
        if scope["method"] == "OPTIONS" and _asks_first(scope):
            await _answer_preflight(_with(more, send), allowed=allowed)
            return
        if allowed:
            more.append((b"access-control-expose-headers", EXPOSED.encode()))
        await self._app(scope, receive, _with(more, send))


def _asks_first(scope: Scope) -> bool:
    return any(name == b"access-control-request-method" for name, _ in scope["headers"])


async def _answer_preflight(send: Send, *, allowed: bool) -> None:
    if not allowed:
        text = "this origin is not allowed to connect (auth.origins)"
        headers, body = problem(403, "origin", text, retry=False)
        await send_response(send, 403, headers, body)
        return
    headers = {
        "access-control-allow-methods": METHODS,
        "access-control-allow-headers": HEADERS,
        "access-control-max-age": str(MAX_AGE_S),
    }
    await send_response(send, 204, headers)


def _with(more: Sequence[tuple[bytes, bytes]], send: Send) -> Send:
    """Puts headers to the start of the response."""

    async def put(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return put
