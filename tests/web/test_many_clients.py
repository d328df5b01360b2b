"""Clients as people have them, on real processes: a replica killed under `tidegate watch` and under
`curl`, and headers with values that nobody expects.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import shutil
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator

import pytest

from tests.cli.command import finish, start
from tests.faults.replicas import Replica
from tests.harness.backend import Backend
from tests.harness.viewer import Viewer
from tests.harness.waiting import until
from tests.servers.standalone import Server

ENTRIES = 120


@pytest.fixture
async def pair(redis_server: Server) -> AsyncIterator[tuple[Replica, Replica]]:
    async with Replica(0, redis_server.url) as one, Replica(1, redis_server.url) as two:
        yield one, two
        assert one.mishaps() == []
        assert two.mishaps() == []


async def publish(backend: Backend, count: int, ids: list[str]) -> None:
    for n in range(count):
        ids.append(await backend.publish("42", "log", n=n))
        await asyncio.sleep(0.005)  # a pace


async def test_watch_goes_on_at_another_replica_after_kill_9(
    pair: tuple[Replica, Replica], backend: Backend
) -> None:
    one, two = pair
    ids: list[str] = []
    urls = [f"ws://{pod.host}:{pod.port}" for pod in pair]
    watching = await start(
        *("watch", "42", "--json", "--history", "all"), "--url", urls[0], "--url", urls[1]
    )
    await publish(backend, ENTRIES // 3, ids)

    async def begun() -> bool:
        return any([await watched(pod) for pod in pair])

    await until(begun, "it watches one of them")
    victim = one if await watched(one) else two
    await publish(backend, ENTRIES // 3, ids)
    await victim.kill()
    await publish(backend, ENTRIES // 3, ids)
    ids.append(await backend.finish("42"))
    done = await finish(watching)
    assert done.code == 0, done.err
    frames = [json.loads(line) for line in done.out.splitlines()]
    assert [frame["id"] for frame in frames if "id" in frame] == ids
    assert not any(frame["type"] == "gap" for frame in frames)


async def watched(pod: Replica) -> bool:
    numbers = (await pod.state())["numbers"]
    return bool(sum(numbers["tidegate_connections"].values()))


async def curl(pod: Replica, *arguments: str) -> Process:
    url = f"http://{pod.host}:{pod.port}/sse/operations/42?history=all"
    return await asyncio.create_subprocess_exec(
        *("curl", "-sSN", "--noproxy", "*", "--max-time", "30", *arguments, url),
        stdout=PIPE,
        stderr=PIPE,
    )


def ids_of(events: str) -> list[str]:
    """Of the entries among the whole events; what the end of the connection cut off is not one."""
    found = []
    for event in events.split("\n\n")[:-1]:
        lines = dict(line.partition(": ")[::2] for line in event.splitlines())
        frame = json.loads(lines.get("data", "{}"))
        if "id" in frame:
            assert frame["id"] == lines["id"]
            found.append(frame["id"])
    return found


@pytest.mark.full
@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
async def test_curl_goes_on_at_another_replica_after_kill_9(
    pair: tuple[Replica, Replica], backend: Backend
) -> None:
    one, two = pair
    ids: list[str] = []
    first = await curl(one)
    await publish(backend, ENTRIES // 2, ids)
    await until(lambda: watched(one))
    await publish(backend, ENTRIES // 2, ids)
    await one.kill()
    before, said = await first.communicate()
    assert first.returncode != 0, "the connection broke, and curl says so"
    assert said
    seen = ids_of(before.decode())
    assert seen
    await publish(backend, 10, ids)
    second = await curl(two, "-H", f"Last-Event-ID: {seen[-1]}")
    ids.append(await backend.finish("42"))
    after, said = await second.communicate()
    assert (second.returncode, said) == (0, b"")
    assert seen + ids_of(after.decode()) == ids
    assert after.rstrip().endswith(b'"name":"finished"}}')


# --- hostile headers

PATHS = (
    ("GET", "/operations/42"),
    ("GET", "/operations/42/events"),
    ("GET", "/sse/operations/43"),
    ("POST", "/operations/42/events"),
    ("GET", "/ws/operations/43"),
    ("GET", "/ws"),
)
NAMES = (
    *("Authorization", "Cookie", "Origin", "Host", "Last-Event-ID", "Idempotency-Key"),
    *("If-None-Match", "Content-Type", "Content-Length", "Transfer-Encoding", "Connection"),
    *("Upgrade", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol"),
    *("Sec-WebSocket-Extensions", "Expect", "Accept", "X-Forwarded-For", "traceparent"),
    *("Access-Control-Request-Method", "Access-Control-Request-Headers"),
)
VALUES = (
    *(b"", b" ", b"\x00", b"\xff\xfe\xfd", b"\xc3\xa9", b"\xed\xa0\x80", b"a\tb", b"\x7f"),
    *(b"-1", b"0x10", b"9" * 400, b"NaN", b"1e309", b"%00%0d%0a", b"\xe2\x80\xa8"),
    *(b'"', b'""', b"*", b"W/", b",,,,", b";=;=", b"Bearer", b"Bearer  ", b"Bearer \xff"),
    *(b"null", b"http://[", b"http://" + b"a." * 200, b"{42}", b"${jndi:x}", b"()" * 900),
    *(b"x" * 15_000, b"gzip, chunked", b"chunked, identity", b"websocket, h2c"),
)
_SHAKE = (
    (b"Upgrade", b"websocket"),
    (b"Connection", b"Upgrade"),
    (b"Sec-WebSocket-Key", b"MDEyMzQ1Njc4OWFiY2RlZg=="),
    (b"Sec-WebSocket-Version", b"13"),
)


async def ask(pod: Replica, method: str, path: str, name: str, value: bytes) -> bytes:
    """The status line; empty when it was hung up without one."""
    headers = {b"Host": b"x", **(dict(_SHAKE) if path.startswith("/ws") else {})}
    headers[name.encode()] = value
    lines = [f"{method} {path} HTTP/1.1".encode()]
    lines += [key + b": " + text for key, text in headers.items()]
    reader, writer = await asyncio.open_connection(pod.host, pod.port)
    try:
        with contextlib.suppress(ConnectionError):
            writer.write(b"\r\n".join([*lines, b"", b""]))
            if name in ("Content-Length", "Transfer-Encoding", "Expect"):
                writer.write_eof()  # what was promised does not come
            async with asyncio.timeout(12):
                return await reader.readline()
    except TimeoutError:
        return b"HTTP/1.1 999 silence"
    finally:
        writer.close()
    return b""


# All are 4,000 requests; each thirteenth still meets each path, name and value.
@pytest.mark.timeout(400)
@pytest.mark.parametrize("every", [13, pytest.param(1, marks=pytest.mark.full)])
async def test_no_header_value_is_a_fault(
    redis_server: Server, backend: Backend, every: int
) -> None:
    """An answer below 500, or none; the replica serves on and its log has no traceback."""
    await backend.publish("42")
    await backend.publish("43")
    settings = {
        "publish.token": "s" * 32,
        "auth.origins": '["https://app.example.com"]',
        "auth.cookie": "session",
    }
    cases = list(itertools.product(PATHS, NAMES, VALUES))[::every]
    async with Replica(0, redis_server.url, settings) as pod:
        for at in range(0, len(cases), 20):
            some = cases[at : at + 20]
            async with asyncio.timeout(30):
                answers = await asyncio.gather(
                    *(ask(pod, *path, name, value) for path, name, value in some)
                )
            for case, line in zip(some, answers, strict=True):
                status = line.split()[1:2]
                assert not line or 100 <= int(status[0]) < 500, (case, line)
        async with Viewer(f"ws://{pod.host}:{pod.port}/ws/operations/42") as viewer:
            await viewer.state()
            await viewer.entries(1)
        assert pod.mishaps() == []
