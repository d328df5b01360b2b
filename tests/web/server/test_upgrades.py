"""Upgrades that are not spoken here are ignored, and their bodies read (RFC 9110 section 7.8); a
WebSocket handshake waits for no answer before it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers.standalone import Server
from tests.web.server.wire import PATIENCE_S, Wire, connected, request

SERVICE = "s" * 32
EVENT = b'{"type":"log","data":{"n":1}}'
#: What Java's HttpClient sends with its first request.
H2C = (
    "Connection: Upgrade, HTTP2-Settings",
    "Upgrade: h2c",
    "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
)
BEARER = f"Authorization: Bearer {SERVICE}"
UPGRADES = {
    "h2c": H2C,
    "h2c, its own line": ("Connection: Upgrade", "Connection: HTTP2-Settings", *H2C[1:]),
    "another word": ("Connection: upgrade", "Upgrade: TLS/1.0"),
    "a list": ("Connection: upgrade", "Upgrade: websocket, h2c"),
    "websocket with a body": ("Connection: upgrade", "Upgrade: websocket"),
}
HANDSHAKE = (
    *("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
    *("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: tidegate.v1"),
)


@pytest.fixture
async def replica(redis_server: Server) -> AsyncIterator[Replica]:
    async with Replica(redis_server.url, publish={"token": SERVICE}) as replica:
        yield replica


@pytest.fixture
async def wire(replica: Replica) -> AsyncIterator[Wire]:
    async with connected(replica.settings.server.port) as wire:
        yield wire


def publish(*lines: str, body: bytes = EVENT) -> bytes:
    return request("POST", "/operations/42/events", BEARER, *lines, body=body)


@pytest.mark.parametrize("lines", UPGRADES.values(), ids=UPGRADES)
async def test_an_upgrade_that_is_not_spoken_lost_the_body(
    wire: Wire, lines: tuple[str, ...]
) -> None:
    for _ in range(2):  # and the connection goes on
        await wire.send(publish(*lines))
        answer = await wire.answer()
        assert answer.status == 201, answer
    await wire.send(request("GET", "/operations/42/events"))
    page = json.loads((await wire.answer()).body)
    assert [event["data"] for event in page["events"]] == [{"n": 1}] * 2


async def test_a_body_behind_an_upgrade_ran_as_a_request(
    wire: Wire, replica: Replica, backend: Backend
) -> None:
    """Its second packet did: a `DELETE` in it was carried out."""
    await backend.publish("43")
    inside = request("DELETE", "/operations/43", BEARER)
    whole = publish(*H2C, body=inside)
    await wire.send(whole[: -len(inside)])
    await wire.send(inside)
    assert (await wire.answer()).status == 400  # no JSON
    await wire.send(request("GET", "/operations/43"))
    assert (await wire.answer()).status == 200
    assert await backend.exists("43")


async def test_an_upgrade_in_pieces_of_any_size(wire: Wire) -> None:
    """Each byte for itself, with a chunked body and another request behind it."""
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVENT), EVENT)
    head = request("POST", "/operations/42/events", BEARER, *H2C, "Transfer-Encoding: chunked")
    for byte in head + chunked + publish(*H2C):
        await wire.send(bytes([byte]))
    assert [(await wire.answer()).status for _ in range(2)] == [201, 201]


async def test_all_of_them_in_one_packet(wire: Wire) -> None:
    await wire.send(publish(*H2C) * 5)
    assert [(await wire.answer()).status for _ in range(5)] == [201] * 5


async def test_a_body_in_a_length_of_its_own_with_expect(wire: Wire) -> None:
    """`Expect: 100-continue` still holds, and is answered before the body is sent."""
    whole = publish(*H2C, "Expect: 100-continue")
    await wire.send(whole[: -len(EVENT)])
    assert (await wire.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
    await wire.send(EVENT)
    assert (await wire.answer()).status == 201


async def test_what_cannot_be_read_is_refused_with_an_upgrade_too(wire: Wire) -> None:
    await wire.send(request("GET", "/é", *H2C))
    assert (await wire.answer()).status == 400
    assert await wire.rest() == b""


async def test_an_upgrade_in_http_1_0_is_ignored(wire: Wire) -> None:
    await wire.send(request("GET", "/operations/nothing", *HANDSHAKE, version="1.0"))
    assert (await wire.answer()).status == 404


async def test_the_admin_port_speaks_no_websocket_and_answers_all_the_same(
    replica: Replica,
) -> None:
    for lines in (HANDSHAKE, H2C):
        async with connected(replica.settings.server.admin_port) as wire:
            await wire.send(request("GET", "/healthz", *lines))
            answer = await wire.answer()
            assert (answer.status, json.loads(answer.body)) == (200, {"status": "ok"})


async def test_a_tunnel_is_refused(wire: Wire) -> None:
    await wire.send(b"CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\n\r\n")
    assert (await wire.answer()).status in (400, 501)
    assert await wire.rest() == b""


async def test_a_websocket_behind_a_request_that_is_being_answered(
    wire: Wire, replica: Replica, backend: Backend
) -> None:
    """Both wrote to the same socket. It is refused behind the answer that was due."""
    (last,) = await backend.publish_many("42", 1)
    waits = request("GET", f"/operations/42/events?after={last}&wait=60")
    await wire.send(waits, request("GET", "/ws/operations/42", *HANDSHAKE))
    await until(lambda: replica.viewers == 1)
    await backend.publish("42")
    first, second = await wire.answer(), await wire.answer()
    assert (first.status, second.status) == (200, 400)
    assert json.loads(second.body)["code"] == "bad_request"
    assert second.headers["connection"] == "close"
    assert await wire.rest() == b""
    assert replica.runtime._connections.opened.get("ws", 0) == 0


async def test_a_websocket_behind_a_large_body_that_was_answered_is_read_from(
    wire: Wire, backend: Backend
) -> None:
    """Reading was paused by the body when it was sent in one go, and nobody resumed it."""
    await backend.publish("42")
    await wire.send(request("GET", "/operations/42", body=b"x" * 200_000))
    assert (await wire.answer()).status == 200
    await wire.send(request("GET", "/ws/operations/42", *HANDSHAKE))
    assert (await wire.answer()).status == 101
    ping = b"\x89\x80\x00\x00\x00\x00"
    await wire.send(ping)
    async with asyncio.timeout(PATIENCE_S):
        await wire.reader.readuntil(b"\x8a\x00")


async def test_a_websocket_behind_a_request_that_was_answered(wire: Wire, backend: Backend) -> None:
    await backend.publish("42")
    await wire.send(request("GET", "/operations/42"))
    assert (await wire.answer()).status == 200
    await wire.send(request("GET", "/ws/operations/42", *HANDSHAKE))
    assert (await wire.answer()).status == 101


async def test_a_wrong_request_behind_one_that_is_being_answered(
    wire: Wire, replica: Replica, backend: Backend
) -> None:
    """Its 400 came first, and was taken for the answer to the other."""
    (last,) = await backend.publish_many("42", 1)
    waits = request("GET", f"/operations/42/events?after={last}&wait=60")
    await wire.send(waits, b"no request at all\r\n\r\n")
    await until(lambda: replica.viewers == 1)
    await backend.publish("42")
    assert [(await wire.answer()).status for _ in range(2)] == [200, 400]
