"""What one HTTP connection may take of a replica, on the public port and on the admin port."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from bench.procfs import rss_bytes
from tests.faults.replicas import Replica as ReplicaProcess
from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers.standalone import Server
from tests.web.server.wire import Wire, connected, request
from tidegate.model.settings import Settings
from tidegate.web.server.port import ADMIN_MAX_CONNECTIONS, Port

SERVICE = "s" * 32
BEARER = f"Authorization: Bearer {SERVICE}"
EVENT = b'{"type":"log","data":{}}'
MOST = 50
HEADER_MAX = 16_384
#: Longer than a machine may stand still.
UNREAD_S = 3.0
SLOW_READER_S = 3 * UNREAD_S
IMPATIENT = {"ping_interval_s": UNREAD_S / 2, "ping_timeout_s": UNREAD_S / 2}


@pytest.fixture
async def replica(redis_server: Server) -> AsyncIterator[Replica]:
    async with Replica(redis_server.url, publish={"token": SERVICE}) as replica:
        yield replica


def public(replica: Replica) -> Port:
    return replica.runtime._public_port


def number_of(replica: Replica, port: str) -> int:
    server = replica.settings.server
    return server.port if port == "public" else server.admin_port


# --- how many


async def test_plain_http_was_not_counted_and_held_300_of_50(redis_server: Server) -> None:
    """Idle ones make room, so each is answered, and no more than `max_connections` stay."""
    few = {"max_connections": MOST}
    async with (
        Replica(redis_server.url, replica=few) as replica,
        contextlib.AsyncExitStack() as stack,
    ):
        port = number_of(replica, "public")
        wires = []
        for _ in range(6 * MOST):
            wire = await stack.enter_async_context(connected(port))
            wires.append(wire)
            await wire.send(request("GET", "/nothing"))
            assert (await wire.answer()).status == 404
        await until(lambda: public(replica).open <= MOST)
        for wire in wires[:-MOST]:
            assert await wire.rest() == b"", "the longest without a request go first"
        for wire in wires[-MOST:]:
            await wire.send(request("GET", "/nothing"))
            assert (await wire.answer()).status == 404


async def test_connections_that_are_at_work_keep_their_places(
    redis_server: Server, backend: Backend
) -> None:
    few = {"max_connections": 3}
    (last,) = await backend.publish_many("42", 1)
    async with Replica(redis_server.url, replica=few) as replica, contextlib.AsyncExitStack() as on:
        port = number_of(replica, "public")
        waits = request("GET", f"/operations/42/events?after={last}&wait=60")
        polls = [await on.enter_async_context(connected(port)) for _ in range(2)]
        for poll in polls:
            await poll.send(waits)
        await until(lambda: replica.viewers == 2)
        viewer = await on.enter_async_context(replica.watch("42"))
        await viewer.state()
        for _ in range(5):
            async with connected(port) as late:
                await late.send(request("GET", "/operations/42"))
                answer = await late.answer()
                assert answer.status == 503
                assert int(answer.headers["retry-after"]) > 0
                assert json.loads(answer.body)["code"] == "connections"
                assert await late.rest() == b""
        assert public(replica).refusals["connections"] == 5
        await backend.publish("42")
        for poll in polls:
            assert (await poll.answer()).status == 200
        async with replica.watch("42") as another:  # in the place of an idle one
            await another.state()


async def test_a_viewer_gives_its_place_back(redis_server: Server, backend: Backend) -> None:
    await backend.publish("42")
    async with Replica(redis_server.url, replica={"max_connections": 1}) as replica:
        for _ in range(5):
            async with replica.watch("42") as viewer:
                await viewer.state()
                viewer.vanish()
            await until(lambda: public(replica).open == 0)
        with await replica.raw("no%20id") as refused:
            await refused.until_end()
        await until(lambda: public(replica).open == 0)
        async with connected(number_of(replica, "public")) as wire:  # no handshake at all
            lines = ("Connection: upgrade", "Upgrade: websocket")
            await wire.send(request("GET", "/ws/operations/42", *lines))
            assert (await wire.answer()).status in (400, 426)
        await until(lambda: public(replica).open == 0)


async def test_the_admin_port_took_any_number_and_any_head(replica: Replica) -> None:
    port = number_of(replica, "admin")
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(2 * ADMIN_MAX_CONNECTIONS):
            wire = await stack.enter_async_context(connected(port))
            await wire.send(b"GET /healthz HTTP/1.1\r\n")
        await until(lambda: replica.runtime._admin_port.open <= ADMIN_MAX_CONNECTIONS)
        assert (await replica.admin("/healthz")).status_code == 200


async def test_slow_heads_on_the_admin_port_are_cut(redis_server: Server) -> None:
    async with (
        Replica(redis_server.url, replica={"header_timeout_s": 0.5}) as replica,
        connected(number_of(replica, "admin")) as wire,
    ):
        await wire.send(b"GET /healthz HTTP/1.1\r\n")
        assert await wire.rest() == b""
        assert replica.runtime._admin_port.refusals["header_time"] == 1
        numbers = (await replica.admin("/debug/state")).json()["numbers"]
        assert numbers["tidegate_refusals_total"] == {"admin_port": 1}


async def test_without_descriptors_health_was_not_answered(redis_server: Server) -> None:
    """Clients of the public port had taken the last one."""
    async with ReplicaProcess(0, redis_server.url, descriptors=220) as replica:
        held: list[Wire] = []
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(400):
                wire = await stack.enter_async_context(connected(replica.port))
                with contextlib.suppress(ConnectionError):
                    await wire.send(b"GET /x HTTP/1.1\r\n")
                held.append(wire)
            for _ in range(3):
                async with connected(replica.admin_port) as wire:
                    await wire.send(request("GET", "/healthz"))
                    assert (await wire.answer()).status == 200
            refusals = (await replica.state())["numbers"]["tidegate_refusals_total"]
            assert refusals["descriptors"] > 0
        await replica.answers("/readyz")


# --- for how long


def test_a_load_balancer_that_keeps_connections_for_a_minute_is_outlasted() -> None:
    assert Settings().replica.keep_alive_s == 75


@pytest.mark.parametrize("port", ["public", "admin"])
async def test_a_connection_without_a_request_ends(redis_server: Server, port: str) -> None:
    """Empty lines are no request."""
    async with (
        Replica(redis_server.url, replica={"keep_alive_s": 0.5}) as replica,
        connected(number_of(replica, port)) as wire,
    ):
        await wire.send(request("GET", "/nothing"))
        assert (await wire.answer()).status == 404

        async def go_on() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    await wire.send(b"\r\n")
                    await asyncio.sleep(0.1)

        going_on = asyncio.create_task(go_on())
        assert await wire.rest() == b""
        going_on.cancel()
        await asyncio.wait([going_on])


# --- what is not read


@contextlib.asynccontextmanager
async def asked(port: int, data: bytes) -> AsyncIterator[socket.socket]:
    """Sent, and nothing read."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.settimeout(0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        await loop.sock_sendall(sock, data)
        yield sock


PAGE = "/operations/42/events?limit=500"
UNREAD: dict[str, Callable[[], bytes]] = {
    "one that is kept": lambda: request("GET", PAGE),
    "the last of a connection": lambda: request("GET", PAGE, "Connection: close"),
    "many": lambda: request("GET", PAGE) * 20,
    "HTTP/1.0": lambda: request("GET", PAGE, version="1.0"),
}


@pytest.mark.parametrize("kind", UNREAD)
async def test_an_answer_that_is_not_read_was_kept_for_ever(
    redis_server: Server, backend: Backend, kind: str
) -> None:
    await backend.publish_many("42", 300, pad=3000)
    short = {"keep_alive_s": 0.3}
    async with (
        Replica(redis_server.url, replica=short, viewer=IMPATIENT) as replica,
        asked(number_of(replica, "public"), UNREAD[kind]()),
    ):
        await until(lambda: public(replica).refusals["unread_answer"] == 1)
        await until(lambda: public(replica).open == 0)


@pytest.mark.full
async def test_an_answer_that_is_read_slowly_is_read_to_its_end(
    redis_server: Server, backend: Backend
) -> None:
    await backend.publish_many("42", 300, pad=3000)
    async with Replica(redis_server.url, viewer=IMPATIENT) as replica:
        loop = asyncio.get_running_loop()
        async with asked(number_of(replica, "public"), request("GET", PAGE)) as sock:
            began, size = loop.time(), 0
            while data := await loop.sock_recv(sock, 16_384):
                size += len(data)
                if size > 300 * 3000 and data.endswith(b"}"):
                    break
                await asyncio.sleep(SLOW_READER_S / 100)
            assert loop.time() - began > UNREAD_S
        assert public(replica).refusals["unread_answer"] == 0


async def test_pages_that_are_not_read_grew_by_700_mib(
    redis_server: Server, backend: Backend
) -> None:
    """40 of a page of 25 MB, which is now a megabyte."""
    await backend.publish_many("42", 120, pad=200_000)
    patience = {f"viewer.{name}": value for name, value in IMPATIENT.items()}
    async with ReplicaProcess(0, redis_server.url, patience) as replica:
        before = rss_bytes(replica.process.pid)
        data = request("GET", PAGE)
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(40):
                await stack.enter_async_context(asked(replica.port, data))

            async def all_cut() -> bool:
                numbers = (await replica.state())["numbers"]
                peak.append(rss_bytes(replica.process.pid))
                cut: int = numbers["tidegate_refusals_total"].get("unread_answer", 0)
                return cut == 40

            peak: list[int] = []
            await until(all_cut, "answers that are not read stay")
        assert (max(peak) - before) / 2**20 < 150


@pytest.mark.parametrize("followed", [False, True], ids=["from the stream", "from the ring"])
async def test_a_page_was_not_bounded_by_its_bytes(
    redis_server: Server, backend: Backend, followed: bool
) -> None:
    ids = await backend.publish_many("42", 60, pad=100_000, type_="log")
    bound = 500_000
    dispatch = {"max_bytes": bound, "max_entry_bytes": 262_144}
    topic = {"ring_entries": 100, "ring_bytes": 2**25}
    async with contextlib.AsyncExitStack() as stack:
        replica = await stack.enter_async_context(
            Replica(redis_server.url, dispatch=dispatch, topic=topic)
        )
        if followed:
            viewer = await stack.enter_async_context(replica.watch("42", history="all"))
            await viewer.state()
            assert await viewer.ids(len(ids)) == ids
        wire = await stack.enter_async_context(connected(number_of(replica, "public")))
        found, after, more = [], "", True
        while more:
            await wire.send(request("GET", f"/operations/42/events?limit=500{after}"))
            answer = await wire.answer()
            assert len(answer.body) < bound + 1000
            page = json.loads(answer.body)
            found += [event["id"] for event in page["events"]]
            assert page["gap"] is None
            more, after = page["more"], f"&after={page['cursor']}"
        assert found == ids


async def test_one_entry_larger_than_a_page_is_a_page(
    redis_server: Server, backend: Backend
) -> None:
    ids = await backend.publish_many("42", 3, pad=200_000)
    dispatch = {"max_bytes": 1_024, "max_entry_bytes": 1_024}
    async with (
        Replica(redis_server.url, dispatch=dispatch) as replica,
        connected(number_of(replica, "public")) as wire,
    ):
        found, after = [], ""
        for _ in ids:
            await wire.send(request("GET", f"/operations/42/events?limit=1{after}"))
            page = json.loads((await wire.answer()).body)
            found += [event["id"] for event in page["events"]]
            after = f"&after={page['cursor']}"
        assert found == ids


# --- heads


def head_of(size: int, path: str = "/nothing") -> bytes:
    """A request of just so many bytes."""
    least = request("GET", path, "X-Pad: ")
    return request("GET", path, "X-Pad: " + "x" * (size - len(least)))


@pytest.mark.parametrize("port", ["public", "admin"])
@pytest.mark.parametrize("body", [b"", b"x" * 5000], ids=["alone", "behind a body"])
async def test_a_head_of_20000_bytes_passed_at_16384(
    replica: Replica, port: str, body: bytes
) -> None:
    """In one packet, and behind another request."""
    before = request("GET", "/nothing", body=body)
    for size, status in ((HEADER_MAX, 404), (HEADER_MAX + 1, 431), (20_000, 431)):
        async with connected(number_of(replica, port)) as wire:
            await wire.send(before, head_of(size))
            assert [(await wire.answer()).status for _ in range(2)] == [404, status]
            if status == 431:
                assert await wire.rest() == b""


async def test_a_handshake_has_the_same_bound(replica: Replica, backend: Backend) -> None:
    await backend.publish("42")
    lines = [
        *("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]
    least = len(request("GET", "/ws/operations/42", *lines, "X-Pad: "))
    for size, status in ((HEADER_MAX, 101), (HEADER_MAX + 1, 431)):
        async with connected(number_of(replica, "public")) as wire:
            pad = "X-Pad: " + "x" * (size - least)
            await wire.send(request("GET", "/ws/operations/42", *lines, pad))
            assert (await wire.answer()).status == status


# --- answers


@pytest.mark.parametrize("path", ["/sse/operations/42", "/operations/42/events", "/nothing"])
async def test_chunks_were_sent_to_http_1_0(replica: Replica, backend: Backend, path: str) -> None:
    await backend.publish("42")
    await backend.finish("42")
    async with connected(number_of(replica, "public")) as wire:
        await wire.send(request("GET", path, version="1.0"))
        answer = await wire.answer()
        assert "transfer-encoding" not in answer.headers
        assert answer.headers["connection"] == "close"
        assert await wire.rest() == b""
        if path.startswith("/sse"):
            assert answer.body.startswith(b"retry: ")
            assert answer.body.endswith(b"\n\n")
        else:
            json.loads(answer.body)


@pytest.mark.parametrize("port", ["public", "admin"])
async def test_a_slash_too_many_redirected_to_whatever_host_was_named(
    replica: Replica, backend: Backend, port: str
) -> None:
    await backend.publish("x")
    paths = ("/operations/x/", "/operations/x/events/", "/healthz/", "//evil.example/", "/x//")
    async with connected(number_of(replica, port)) as wire:
        for method in ("GET", "POST", "DELETE"):
            for path in paths:
                await wire.send(request(method, path))
                answer = await wire.answer()
                assert answer.status in (404, 405), (method, path)
                assert "location" not in answer.headers


@pytest.mark.parametrize("coding", ["gzip", "identity, gzip", "br", "GZIP"])
async def test_a_gzip_body_was_called_no_json(replica: Replica, coding: str) -> None:
    async with connected(number_of(replica, "public")) as wire:
        lines = (BEARER, f"Content-Encoding: {coding}", "Content-Type: application/json")
        await wire.send(request("POST", "/operations/42/events", *lines, body=b"\x1f\x8b\x08\x00"))
        answer = await wire.answer()
        assert answer.status == 415
        assert answer.headers["accept-encoding"] == "identity"
        assert json.loads(answer.body)["code"] == "content_encoding"
        assert "identity" in json.loads(answer.body)["detail"]
        await wire.send(
            request(
                "POST", "/operations/42/events", BEARER, "Content-Encoding: identity", body=EVENT
            )
        )
        assert (await wire.answer()).status == 201


async def test_another_media_type_is_told_what_is_allowed(replica: Replica) -> None:
    async with connected(number_of(replica, "public")) as wire:
        lines = (BEARER, "Content-Type: application/xml")
        await wire.send(request("POST", "/operations/42/events", *lines, body=b"<a/>"))
        answer = await wire.answer()
        assert answer.status == 415
        assert answer.headers["accept"] == "application/json, application/x-ndjson"
