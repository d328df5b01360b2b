"""Requests sent ahead of their answers: some are kept and answered in order, more are not even
read.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from bench.procfs import cpu_ns, rss_bytes
from tests.faults.replicas import Replica as ReplicaProcess
from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers.standalone import Server
from tests.web.server.wire import connected, request
from tidegate.web.server.exchange import Exchange
from tidegate.web.server.http_protocol import AHEAD_MAX_BYTES, HttpProtocol

SERVICE = "s" * 32
CONNECTIONS = 14
SENT_BYTES = 256 * 1024
GROWTH_BYTES = 20 * 2**20
QUIET_S = 0.5
SHORTEST = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"
#: What the loop reads at once.
READ_BYTES = 256 * 1024
NO_LINGER = struct.pack("ii", 1, 0)


@pytest.fixture
async def replica(redis_server: Server) -> AsyncIterator[Replica]:
    async with Replica(redis_server.url, publish={"token": SERVICE}) as replica:
        yield replica


@pytest.fixture
async def process(redis_server: Server) -> AsyncIterator[ReplicaProcess]:
    async with ReplicaProcess(0, redis_server.url, {"publish.token": SERVICE}) as process:
        yield process
        assert process.mishaps() == []


def exchanges() -> int:
    """Requests that were begun and are not forgotten."""
    gc.collect()
    return sum(type(thing) is Exchange for thing in gc.get_objects())


def kept_bytes() -> int:
    """Of requests that are not begun."""
    return sum(len(thing._pieces) for thing in gc.get_objects() if isinstance(thing, HttpProtocol))


@contextlib.asynccontextmanager
async def sent_and_not_read(port: int, data: bytes) -> AsyncIterator[socket.socket]:
    """As much of it as is taken at once, with a small window for what comes back."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.settimeout(0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SENT_BYTES)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        sending = asyncio.ensure_future(loop.sock_sendall(sock, data))
        try:
            yield sock
        finally:
            sending.cancel()
            await asyncio.wait([sending])


async def quiet(pid: int) -> None:
    """Until the process does next to nothing."""

    async def is_quiet() -> bool:
        before = cpu_ns(pid)
        await asyncio.sleep(QUIET_S)  # what is measured is a time without work
        return cpu_ns(pid) - before < QUIET_S * 1e9 * 0.1

    await until(is_quiet, "it works and works")


@pytest.mark.parametrize("path", ["/x", "/operations/42/events?wait=60"])
@pytest.mark.parametrize("port", ["public", "admin"])
async def test_pipelined_requests_cost_memory_without_bound(
    process: ReplicaProcess, port: str, path: str
) -> None:
    """85 to 546 MiB in 4 s, without a token, and it stayed."""
    pid = process.process.pid
    number = process.port if port == "public" else process.admin_port
    one = SHORTEST.replace(b"/x", path.encode())
    data = one * (SENT_BYTES // len(one))

    async def attack(connections: int) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(connections):
                await stack.enter_async_context(sent_and_not_read(number, data))
            await quiet(pid)
            grown.append(rss_bytes(pid) - before)

    grown: list[int] = []
    before = 0
    await attack(1)  # what is allocated once
    before = rss_bytes(pid)
    grown.clear()
    await attack(CONNECTIONS)
    assert grown[0] < GROWTH_BYTES, f"{grown[0] / 2**20:.1f} MiB"
    await process.answers("/healthz")


@pytest.mark.parametrize("port", ["public", "admin"])
@pytest.mark.parametrize("count", [5, 500])
async def test_pipelined_requests_are_answered_in_order(
    replica: Replica, backend: Backend, port: str, count: int
) -> None:
    await backend.publish("42")
    server = replica.settings.server
    known, unknown = ("/operations/42", "/x") if port == "public" else ("/healthz", "/x")
    number = server.port if port == "public" else server.admin_port
    pairs = (request("GET", known) + request("GET", unknown)) * count
    async with connected(number) as wire, asyncio.TaskGroup() as tasks:
        tasks.create_task(wire.send(pairs))
        for _ in range(count):
            answers = [await wire.answer() for _ in range(2)]
            assert [answer.status for answer in answers] == [200, 404]


async def test_pipelined_bodies_are_read_as_they_were_sent(replica: Replica) -> None:
    """Of all lengths, in one go, with the ends of heads in them."""
    bodies = []
    for n in (0, 1, 2, 3, 4095, 4096, 4097, 70_000, 150_000, 5):
        text = json.dumps({"type": "log", "data": {"n": n, "pad": "x" * (n // 2)}}).encode()
        bodies.append(b"{" + b"\r\n\r\n" * (n // 8) + b" " * (n % 8) + text[1:])
    bearer = f"Authorization: Bearer {SERVICE}"
    requests = []
    for n, body in enumerate(bodies):
        if n % 2:
            requests.append(request("POST", "/operations/p/events", bearer, body=body))
        else:
            head = request("POST", "/operations/p/events", bearer, "Transfer-Encoding: chunked")
            parts = [body[at : at + 30_000] for at in range(0, len(body), 30_000)]
            chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts]
            requests.append(b"".join([head, *chunks, b"0\r\nX-Trailer: y\r\n\r\n"]))
    async with connected(replica.settings.server.port) as wire:
        sending = asyncio.create_task(wire.send(*requests))
        for _ in bodies:
            assert (await wire.answer()).status == 201
        await sending
        found: list[dict[str, object]] = []
        after = ""
        while len(found) < len(bodies):
            await wire.send(request("GET", f"/operations/p/events?limit=3{after}"))
            page = json.loads((await wire.answer()).body)
            found += page["events"]
            after = f"&after={page['cursor']}"
    assert [event["data"] for event in found] == [json.loads(body)["data"] for body in bodies]


@pytest.mark.parametrize("pad", [0, 2_000], ids=["short", "long"])
async def test_what_is_behind_a_request_is_not_begun_and_kept_within_bounds(
    replica: Replica, backend: Backend, pad: int
) -> None:
    (last,) = await backend.publish_many("42", 1)
    count = 1000
    async with connected(replica.settings.server.port) as wire, asyncio.TaskGroup() as tasks:
        waits = request("GET", f"/operations/42/events?after={last}&wait=60")
        behind = request("GET", "/operations/42", "X-Pad: " + "x" * pad)
        before = exchanges()
        tasks.create_task(wire.send(waits, behind * count))
        await until(lambda: replica.viewers == 1)
        await until(lambda: kept_bytes() > min(AHEAD_MAX_BYTES, len(behind) * count / 2))
        # More is neither parsed nor read.
        async with connected(replica.settings.server.port) as other:
            await other.send(request("GET", "/operations/42"))
            await other.answer()
        assert kept_bytes() <= AHEAD_MAX_BYTES + READ_BYTES
        assert exchanges() - before == 1
        await backend.publish("42")
        for _ in range(1 + count):
            assert (await wire.answer()).status == 200


async def test_large_bodies_behind_a_request_wait_in_the_socket(
    replica: Replica, backend: Backend
) -> None:
    """Eight of them would be 8 MiB of each connection."""
    (last,) = await backend.publish_many("42", 1)
    body = json.dumps({"type": "log", "data": {"pad": "x" * 250_000}}).encode()
    post = request("POST", "/operations/7/events", f"Authorization: Bearer {SERVICE}", body=body)
    async with connected(replica.settings.server.port) as wire:
        waits = request("GET", f"/operations/42/events?after={last}&wait=60")
        sending = asyncio.create_task(wire.send(waits, *[post] * 8))
        await until(lambda: replica.viewers == 1)
        async with connected(replica.settings.server.port) as other:
            await other.send(request("GET", "/operations/42"))
            await other.answer()
        assert kept_bytes() < 2**20
        await backend.publish("42")
        assert [(await wire.answer()).status for _ in range(9)] == [200] + [201] * 8
        await sending


async def test_a_client_that_goes_is_noticed_behind_what_it_sent_ahead(
    replica: Replica, backend: Backend
) -> None:
    """Its long poll went on to its end: only the newest request was told."""
    (last,) = await backend.publish_many("42", 1)
    async with connected(replica.settings.server.port) as wire:
        waits = request("GET", f"/operations/42/events?after={last}&wait=60")
        await wire.send(waits, request("GET", "/operations/42") * 3)
        await until(lambda: replica.viewers == 1)
    await until(lambda: replica.viewers == 0, within_s=30)


async def test_a_reset_with_requests_in_the_pipe_was_a_traceback(
    process: ReplicaProcess, redis_server: Server
) -> None:
    """`mishaps` of the fixture looks for it."""
    body = b'{"type":"log","data":{"pad":"' + b"x" * 100_000 + b'"}}'
    post = request("POST", "/operations/7/events", f"Authorization: Bearer {SERVICE}", body=body)
    sse = request("GET", "/sse/operations/7")
    page = request("GET", "/operations/7/events")
    mixes = [
        [post, post, page],
        [page, post[:-50_000]],
        [post[:-50_000]],
        [sse, page, post],
        [page] * 50,
        [request("GET", "/operations/8/events?wait=2"), post, page],
    ]
    loop = asyncio.get_running_loop()
    for index in range(120):
        sock = socket.socket()
        sock.settimeout(0)
        await loop.sock_connect(sock, (process.host, process.port))
        data = b"".join(mixes[index % len(mixes)])
        sending = asyncio.ensure_future(loop.sock_sendall(sock, data))
        for _ in range(index % 7):
            await asyncio.sleep(0)
        await asyncio.wait([sending], timeout=0.02 * (index % 3))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        sending.cancel()
        await asyncio.wait([sending])
        sock.close()

    async def all_gone() -> bool:
        numbers = (await process.state())["numbers"]
        return not numbers["tidegate_sockets"]["public"]

    await until(all_gone, "connections stay")
    text = process.process.log_file.read_text(errors="replace")
    assert "Exception in ASGI application" not in text
