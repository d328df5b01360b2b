"""uvicorn's part of one port: what answers requests by the application.

What is relied on of uvicorn is its public surface: `Config`; `ServerState` with its tasks and its
default headers; and a protocol class that is made of both and of the `state` of its requests, and
is an `asyncio.Protocol`. No attribute of it is looked at. A protocol is given one request only, so
that uvicorn's way of keeping connections and of answering requests sent ahead is not used. See
tests/web/server/test_answering.py.
"""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.server import ServerState

from tidegate.web.server.exchange import Exchange

#: In a request's `scope["extensions"]`: its connection, for what ASGI has no word for.
CONNECTION = "tidegate.connection"
#: The same: to be called by who reads the body, within bounds of its own.
READS_BODY = "tidegate.reads_body"
#: In a request's `scope["state"]`, which uvicorn copies; it is taken out before the application.
_EXCHANGE = "tidegate.exchange"
_CLOSE = (b"connection", b"close")


class Answering:
    """Makes a uvicorn protocol for each request of one port."""

    def __init__(self, app: ASGIApp, tasks: set[asyncio.Task[None]]) -> None:
        """`tasks` receives the task of each request while it runs."""
        told: Any = _Told(app)
        self._config = uvicorn.Config(
            told,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # `ClientAddress` does it, where it is asked for
        )
        self._config.load()
        self._make = cast("Any", self._config.http_protocol_class)
        self._state = ServerState()
        self._state.tasks = tasks

    def set_date(self) -> None:
        """Set the `Date` header of answers to the current time."""
        date = formatdate(time.time(), usegmt=True).encode()
        self._state.default_headers = [(b"date", date)]

    def protocol(self, exchange: Exchange) -> asyncio.Protocol:
        """Return a new protocol that answers the request of `exchange`."""
        made: asyncio.Protocol = self._make(
            config=self._config, server_state=self._state, app_state={_EXCHANGE: exchange}
        )
        return made


class _Told:
    """Around the application: tells the exchange of its answer, and the application of its
    connection.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope["state"].pop(_EXCHANGE)
        scope["extensions"] = {
            **scope.get("extensions", {}),
            CONNECTION: exchange.owner,
            READS_BODY: exchange.reads_body,
        }

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.has_begun = True
                if exchange.is_last:
                    message = _with_close(message)
                await send(message)
            else:
                await send(message)
                if not message.get("more_body", False):
                    exchange.answered()

        await self._app(scope, receive, tell)


def _with_close(message: Message) -> Message:
    headers = list(message.get("headers", ()))
    if all(name.lower() != b"connection" for name, _ in headers):
        headers.append(_CLOSE)
    return {**message, "headers": headers}
