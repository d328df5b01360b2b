"""One connection without a network: the replica's own HTTP protocol over a transport that only
remembers, in front of an application that reads some bodies.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools

from tests.fuzz.socket import LOOP, Transport
from tidegate.model.settings import Settings
from tidegate.web.problem import send_response
from tidegate.web.server.answering import Answering
from tidegate.web.server.http_protocol import HttpProtocol
from tidegate.web.server.port import admin_port

_TASKS: set[asyncio.Task[None]] = set()


async def _app(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"].startswith("/read"):
        more = True
        while more:
            message = await receive()
            more = message.get("more_body", False)
    body = b"" if scope["method"] == "HEAD" else b"ok"
    await send_response(send, 200, {"x-path": "1"}, body)


_ANSWERING = Answering(_app, _TASKS)


class _Answers:
    """What was written is read as a client would."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.begun = self.whole = 0

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_message_complete(self) -> None:
        self.whole += 1


def feed(data: bytes) -> None:
    """The first byte says in pieces of which size the rest arrives."""
    LOOP.run_until_complete(_feed(data))


async def _feed(data: bytes) -> None:
    transport, port = Transport(), admin_port(Settings(), 1024)
    members: set[HttpProtocol] = set()
    protocol = HttpProtocol(port, _ANSWERING, members)
    protocol.connection_made(transport)
    size = data[0] + 1 if data else 1
    for at in range(1, len(data), size):
        if transport.closing:
            break
        protocol.data_received(data[at : at + size])
        await asyncio.sleep(0)  # a turn for the application
    if data and data[0] % 2:
        protocol.shutdown()
    protocol.connection_lost(None)
    while _TASKS:
        await asyncio.wait(_TASKS)
    assert not members
    assert (port.open, port.waiting, port.lingering, len(port.idle)) == (0, 0, 0, 0)
    answers = _Answers()
    answers.parser.feed_data(bytes(transport.out))
    assert answers.begun == answers.whole, "an answer is whole"
