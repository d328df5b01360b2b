"""Requests that are still in progress when the time for shutdown is over: uvicorn cancels them.

Without this, it would log a traceback for each and respond with 500, as for an error of the
application.
"""

from __future__ import annotations

import asyncio

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tidegate.web.problem import problem, send_response

_log = structlog.get_logger(__name__)


class ShutdownGuard:
    """Around an application of a server of our own, where only the end of the server cancels.

    What has no answer yet gets 503 `uncertain`: nobody can tell how far it came. An answer that has
    begun breaks off with its connection, so nobody takes it for a whole one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except asyncio.CancelledError:
            _log.warning("request cancelled by shutdown", path=scope["path"])
            if not begun:
                text = "shut down before the request completed; it may have been carried out"
                headers, body = problem(503, "uncertain", text, retry=_may_be_repeated(scope))
                await send_response(send, 503, headers, body)


def _may_be_repeated(scope: Scope) -> bool:
    return scope["method"] != "POST" or "idempotency-key" in Headers(scope=scope)
