"""One request and its answer: an untouched uvicorn protocol for each, which is given this request's
bytes and a transport of ours.

    HttpProtocol --head, body--> uvicorn's protocol --task--> Answering --> the application
         ^                             |                          |
         +----- Exchange: write, close +      told of the answer -+

What is relied on of uvicorn is its public surface: `Config`, `ServerState` with its tasks and
default headers, and a protocol class that is made of both and of the `state` of its requests, and
is an `asyncio.Protocol`. It sees one request, so that its way of keeping connections and of
answering requests sent ahead is not used. See tests/web/server/test_exchange.py.
"""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from typing import Any, Protocol, cast

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.server import ServerState

from tidegate.web.server.unchunked import Unchunked

#: In a request's `scope["extensions"]`: its connection, for what ASGI has no word for.
CONNECTION = "tidegate.connection"
#: The same: to be called by who reads the body, within bounds of its own.
READS_BODY = "tidegate.reads_body"
#: In a request's `scope["state"]`, which uvicorn copies; it is taken out before the application.
_EXCHANGE = "tidegate.exchange"
_CLOSE = (b"connection", b"close")


class Owner(Protocol):
    """The connection of an exchange."""

    transport: asyncio.Transport
    is_last: bool
    is_write_paused: bool

    def answered(self) -> None:
        """The answer is written as a whole."""

    def end(self) -> None:
        """Nothing is behind what was written."""

    def body_is_read(self) -> None:
        """Whoever reads it has bounds of its own."""

    def go_on(self) -> None:
        """More of the body is taken."""


class Exchange(asyncio.Transport):
    """Of one request: the transport of its uvicorn protocol."""

    def __init__(
        self, owner: Owner, addresses: dict[str, object], answering: Answering, version: str
    ) -> None:
        """`addresses` are `peername` and `sockname`, as asyncio has them, without zones."""
        super().__init__(addresses)
        self._owner: Owner | None = owner
        self._inner: asyncio.Protocol | None = None
        self._answering = answering
        self._unchunked = None if version == "1.1" else Unchunked()
        #: The answer has.
        self.has_begun = False
        #: Nothing more of the body is taken now.
        self.is_full = False

    # -- for the connection -----------------------------------------------------------------------

    def begin(self, head: bytes) -> None:
        """Answer the request with this head."""
        self._inner = self._answering.protocol(self)
        if self._owner is not None and self._owner.is_write_paused:
            self._inner.pause_writing()
        self._inner.data_received(head)

    def feed(self, piece: bytes) -> None:
        """It belongs to the body."""
        if self._inner is not None:
            self._inner.data_received(piece)

    def pause_writing(self) -> None:
        """As asyncio tells a protocol."""
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """As `pause_writing`."""
        if self._inner is not None:
            self._inner.resume_writing()

    def let_go(self) -> None:
        """It is answered, the client is gone, or is not listened to any more."""
        self._owner = None
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.connection_lost(None)
        if self._unchunked is not None:
            self._unchunked.let_go()

    # -- for the application ----------------------------------------------------------------------

    @property
    def owner(self) -> Owner | None:
        """The connection, while this is not answered and it is not lost."""
        return self._owner

    @property
    def is_last(self) -> bool:
        """The connection ends behind the answer."""
        return self._owner is not None and self._owner.is_last

    def reads_body(self) -> None:
        """See `READS_BODY`."""
        if self._owner is not None:
            self._owner.body_is_read()

    def answered(self) -> None:
        """The end of the answer is written."""
        owner = self._owner
        if owner is not None:
            self.let_go()
            owner.answered()

    # -- for uvicorn ------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        """See asyncio."""
        if self._owner is None:
            return
        if self._unchunked is not None:
            data = self._unchunked.feed(data)
        self._owner.transport.write(data)

    def is_closing(self) -> bool:
        """See asyncio."""
        return self._owner is None or self._owner.transport.is_closing()

    def close(self) -> None:
        """See asyncio."""
        if self._owner is not None:
            self._owner.end()

    def pause_reading(self) -> None:
        """See asyncio."""
        self.is_full = True

    def resume_reading(self) -> None:
        """See asyncio."""
        self.is_full = False
        if self._owner is not None:
            self._owner.go_on()


class Answering:
    """uvicorn's part of one port: makes a protocol for each request."""

    def __init__(self, app: ASGIApp, tasks: set[asyncio.Task[None]]) -> None:
        """`tasks`: one for each request that is at work."""
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
        """Of the answers from now on."""
        date = formatdate(time.time(), usegmt=True).encode()
        self._state.default_headers = [(b"date", date)]

    def protocol(self, exchange: Exchange) -> asyncio.Protocol:
        """For this one."""
        made: asyncio.Protocol = self._make(
            config=self._config, server_state=self._state, app_state={_EXCHANGE: exchange}
        )
        made.connection_made(exchange)
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
