"""What the first protocol of a connection takes for an ordinary handshake, and what it leaves to
the HTTP parser; the same is answered whichever of the two has read it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, cast

import httptools
import pytest

from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers.standalone import Server
from tests.web.server.wire import PATIENCE_S, connected
from tidegate.model.settings import Settings
from tidegate.web.access.limits import ConnectionLimiter
from tidegate.web.server.port import public_port
from tidegate.web.ws.acceptor import Acceptor
from tidegate.web.ws.front import Front, FrontShared, read_handshake

MAX = 16_384
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
LINES = (
    "Host: gateway.example:8080",
    "Upgrade: websocket",
    "Connection: Upgrade",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Version: 13",
)
PING = b"\x89\x80\x00\x00\x00\x00"
PONG = b"\x8a\x00"
CLOSE = b"\x88\x82\x00\x00\x00\x00\x03\xe8"


def head(*lines: str, first: str = "GET /ws/operations/42?history=1 HTTP/1.1") -> bytes:
    return "\r\n".join((first, *lines, "", "")).encode("latin-1")


class Parsed:
    """The same head as httptools reads it."""

    def __init__(self, data: bytes) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.url = b""
        parser = httptools.HttpRequestParser(self)
        with pytest.raises(httptools.HttpParserUpgrade):
            parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.strip(b" \t")))


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("Origin: https://app.example", "Sec-WebSocket-Protocol: tidegate.v1, access_token.x"),
        ("X-Empty:", "X-Blank:  \t ", "X-Inside: a : b\t c ", "X-Latin: \xe9"),
        ("connection: keep-alive, UPGRADE",),
        ("connection: keep-alive", "Connection: Upgrade"),
    ],
)
def test_an_ordinary_handshake_is_read_as_by_the_http_parser(more: tuple[str, ...]) -> None:
    lines = [line for line in LINES if not (more and line.lower().startswith(more[0][:11]))]
    data = head(*lines, *more)
    request = read_handshake(data + PING, MAX)
    assert request is not None
    parsed = Parsed(data)
    assert list(request.headers) == parsed.headers
    assert (request.target, request.key, request.behind) == (parsed.url, KEY.encode(), PING)


OTHERS = {
    "not whole": head(*LINES)[:-1],
    "too long": head(*LINES, "X: " + "x" * MAX),
    "another method": head(*LINES, first="POST / HTTP/1.1"),
    "another version": head(*LINES, first="GET / HTTP/1.0"),
    "another form of target": head(*LINES, first="GET http://x/ HTTP/1.1"),
    "a space in the target": head(*LINES, first="GET /a b HTTP/1.1"),
    "no upgrade": head(*LINES[:1], *LINES[2:]),
    "another upgrade": head(*LINES, "Upgrade: h2c"),
    "an upgrade in two headers": head(*LINES[:1], "Upgrade: web", "Upgrade: socket", *LINES[2:]),
    "two upgrades, one of them empty": head(*LINES, "Upgrade:"),
    "a word of Connection in two headers": head(
        *LINES[:2], "Connection: up", "Connection: grade", *LINES[3:]
    ),
    "not in Connection": head(*LINES[:2], "Connection: keep-alive", *LINES[3:]),
    "no key": head(*LINES[:3], *LINES[4:]),
    "two keys": head(*LINES, LINES[3]),
    "a short key": head(*LINES[:3], "Sec-WebSocket-Key: c2hvcnQ=", *LINES[4:]),
    "another WebSocket version": head(*LINES[:4], "Sec-WebSocket-Version: 8"),
    "a body": head(*LINES, "Content-Length: 2"),
    "a body in chunks": head(*LINES, "Transfer-Encoding: chunked"),
    "no colon": head(*LINES, "X"),
    "a space before the colon": head(*LINES, "X : y"),
    "folded": head(*LINES, "X: y", " z"),
    "a control character": head(*LINES, "X: \x01"),
    "a zero": head(*LINES, "X: \0"),
    "a bare LF": head(*LINES, "X: y\nZ: z"),
    "HTTP": head("Host: x", first="GET / HTTP/1.1"),
    "nothing": b"",
}


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS)
def test_all_else_is_left_to_the_http_parser(data: bytes) -> None:
    assert read_handshake(data, MAX) is None


LOCAL = head(
    "Host: 127.0.0.1",
    *LINES[1:3],
    LINES[3] + " ",
    *LINES[4:],
    "Sec-WebSocket-Protocol: tidegate.v1",
)


@pytest.mark.parametrize("size", [1, 50, len(LOCAL), len(LOCAL) + 3, len(LOCAL) + len(PING)])
async def test_a_handshake_in_pieces_is_answered_as_one_that_is_whole(
    redis_server: Server, backend: Backend, size: int
) -> None:
    """With what is behind it, which does not wait for the answer."""
    await backend.publish("42")
    async with Replica(redis_server.url) as replica:
        async with connected(replica.settings.server.port) as wire:
            data = LOCAL + PING if size > len(LOCAL) else LOCAL
            for at in range(0, len(data), size):
                await wire.send(data[at : at + size])
            answer = await wire.answer()
            assert answer.status == 101
            assert answer.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
            assert answer.headers["sec-websocket-protocol"] == "tidegate.v1"
            if size <= len(LOCAL):
                await wire.send(PING)
            async with asyncio.timeout(PATIENCE_S):
                await wire.reader.readuntil(PONG)
            await until(lambda: replica.viewers == 1)
            port = replica.runtime._public_port
            assert (port.open, port.waiting, len(port.idle)) == (1, 0, 0)
        await until(lambda: port.open == 0)
        assert replica.viewers == 0


@pytest.mark.parametrize("sender", ["auto", "asgi"])
async def test_one_that_leaves_behind_its_handshake_is_no_failure_of_the_endpoint(
    redis_server: Server, caplog: pytest.LogCaptureFixture, sender: str
) -> None:
    async with Replica(redis_server.url, sender=sender) as replica:
        async with connected(replica.settings.server.port) as wire:
            await wire.send(LOCAL, CLOSE)
            answer = await wire.answer()
            assert answer.status == 101
            assert (await wire.rest()).endswith(b"\x88\x02\x03\xe8")
        port = replica.runtime._public_port
        await until(lambda: port.open == 0 and len(replica.runtime._limiter) == 0)
    assert [one.getMessage() for one in caplog.records if one.levelname == "ERROR"] == []


class Paused:
    """A transport that only remembers whether it is read."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def get_extra_info(self, _name: str) -> None:
        """It has no socket."""

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def abort(self) -> None:
        self.calls.append("abort")


async def test_what_waits_for_its_turn_is_no_more_than_a_head() -> None:
    """One read may bring 256 KiB, and a second one as much again."""
    port = public_port(Settings(), 1_000, Counter())
    given: list[bytes] = []

    class Http:
        def carry_on(self, _transport: asyncio.Transport, data: bytes, _due: float) -> None:
            given.append(data)

        def refuse(self, _transport: asyncio.Transport, reason: str) -> None:
            given.append(reason.encode())

    settings, no_app = Settings(), cast("Any", None)
    limiter = ConnectionLimiter(settings.replica)
    acceptor = Acceptor(no_app, limiter, settings, port.on_left)
    front = Front(FrontShared(port, limiter, acceptor, set(), cast("Any", Http)))
    transport = Paused()
    front.connection_made(cast("asyncio.Transport", transport))
    port.pace.run(lambda: None)  # somebody else's turn
    data = b"x" * (port.limits.header_max_bytes + 1)
    front.data_received(data)
    assert transport.calls == ["pause"]
    await until(lambda: given == [data])
    assert transport.calls == ["pause", "resume"]
