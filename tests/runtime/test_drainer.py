"""How a replica goes away: not ready, a moment for load balancers, closes at a pace; all of it cut
short by a second signal.

Where a wait must not be over by itself it is a minute long, and the test says when it ends.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.faults.replicas import Replica as ReplicaProcess
from tests.harness.backend import Backend
from tests.harness.plain_http import plain_client
from tests.harness.replica import Replica
from tests.harness.viewer import Viewer
from tests.harness.waiting import until
from tests.servers.standalone import Server
from tidegate.web.http.shutdown_guard import ShutdownGuard

LONG_S = 60.0
SHORT_S = 30.0
PUBLISH_TOKEN = "the token of these tests, of more than thirty-two bytes"


async def reason(replica: Replica) -> str:
    """Of being not ready."""
    answer = await replica.admin("/readyz")
    assert answer.status_code == 503
    return str(answer.json()["reason"])


async def end(stopping: asyncio.Task[None], replica: Replica) -> None:
    """The second signal; nothing is waited for after it."""
    assert not stopping.done()
    replica.runtime.stop()
    async with asyncio.timeout(SHORT_S):
        await stopping


async def begun(replica: Replica) -> asyncio.Task[None]:
    stopping = asyncio.create_task(replica.stop())
    await until(lambda: replica.runtime._report._stopping_since is not None)
    return stopping


async def test_load_balancers_have_a_moment_in_which_everybody_is_served(
    redis_server: Server, backend: Backend
) -> None:
    drain = {"delay_s": LONG_S, "window_s": 0}
    replica = await Replica(redis_server.url, drain=drain).start()
    async with replica.watch("42") as viewer:
        await viewer.state()
        stopping = await begun(replica)
        assert await reason(replica) == "stopping"
        async with replica.watch("42") as late:
            await late.state()
            written = await backend.publish("42")
            await viewer.until_id(written)
            await late.until_id(written)
            await end(stopping, replica)
            for one in (viewer, late):
                frames, close = await one.rest()
                assert [frame["type"] for frame in frames] == ["reconnect"]
                assert close.code == 1012


async def test_the_moment_is_also_for_those_who_only_ask(
    redis_server: Server, backend: Backend
) -> None:
    """Without connections the port was shut at once, under backends that publish over HTTP."""
    await backend.publish("42")
    replica = await Replica(redis_server.url, drain={"delay_s": LONG_S}).start()
    stopping = await begun(replica)
    assert await reason(replica) == "stopping"
    base = f"http://127.0.0.1:{replica.settings.server.port}"
    async with plain_client(base) as client:
        assert (await client.get("/operations/42")).status_code == 200
    await end(stopping, replica)


async def test_in_the_window_nobody_comes_in_and_those_inside_are_served(
    redis_server: Server, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One is sent away at each tick, so the second of two would be 0.1 s later.
    monkeypatch.setattr("tidegate.runtime.drainer.TICK_S", LONG_S)
    drain = {"delay_s": 0, "window_s": LONG_S}
    replica = await Replica(redis_server.url, drain=drain).start()
    async with replica.watch("42") as first, replica.watch("42") as second:
        await first.state()
        await second.state()
        stopping = await begun(replica)
        frames, close = await first.rest()
        assert [frame["type"] for frame in frames] == ["reconnect"]
        assert close.code == 1012
        with pytest.raises(InvalidStatus) as refused:
            await connect(replica.url("42"))
        assert refused.value.response.status_code == 503
        assert int(refused.value.response.headers["Retry-After"]) > 0
        await second.until_id(await backend.publish("42"))
        await end(stopping, replica)
        assert (await second.rest())[1].code == 1012


async def test_a_second_sigterm_shortens_and_the_end_is_a_good_one(redis_server: Server) -> None:
    settings = {"drain.delay_s": LONG_S, "drain.window_s": LONG_S}
    async with (
        ReplicaProcess(0, redis_server.url, settings) as replica,
        Viewer(f"ws://{replica.host}:{replica.port}/ws/operations/42") as viewer,
    ):
        await viewer.state()
        replica.process.signal(signal.SIGTERM)
        async with plain_client(f"http://{replica.host}:{replica.admin_port}") as admin:

            async def not_ready() -> bool:
                return (await admin.get("/readyz")).status_code != 200

            await until(not_ready)
        await viewer.ping()
        replica.process.signal(signal.SIGTERM)
        assert (await viewer.rest())[1].code == 1012
        assert await replica.process.wait(SHORT_S) == 0
        assert replica.mishaps() == []
        async with redis_server.client() as client:
            assert await client.zcard("{tidegate}:pods") == 0


@asynccontextmanager
async def half_a_post(
    replica: ReplicaProcess, *headers: str
) -> AsyncIterator[asyncio.StreamReader]:
    """A request that is inside, and whose body never comes."""
    reader, writer = await asyncio.open_connection(replica.host, replica.port)
    head = (
        "POST /operations/42/events HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {PUBLISH_TOKEN}",
        "Content-Type: application/json",
        "Content-Length: 1000",
        "Expect: 100-continue",
        *headers,
    )
    try:
        writer.write("\r\n".join((*head, "\r\n")).encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        yield reader
    finally:
        writer.close()


async def answer(reader: asyncio.StreamReader) -> dict[str, Any]:
    """A problem, with its status."""
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    found: dict[str, Any] = json.loads(body)
    assert head.split()[1] == str(found["status"]).encode()
    return found


async def test_what_is_at_work_at_the_very_end_is_told_that_nobody_knows(
    redis_server: Server,
) -> None:
    """Each was a 500, and a traceback in the log."""
    settings = {
        "publish.token": PUBLISH_TOKEN,
        "drain.delay_s": 0,
        "drain.window_s": 0,
        "server.shutdown_timeout_s": 1,
    }
    async with (
        ReplicaProcess(0, redis_server.url, settings) as replica,
        asyncio.timeout(SHORT_S),
        half_a_post(replica) as one,
        half_a_post(replica, "Idempotency-Key: two") as two,
    ):
        replica.process.signal(signal.SIGTERM)
        told = [await answer(one), await answer(two)]
        assert [(body["status"], body["code"]) for body in told] == [(503, "uncertain")] * 2
        assert [body["retry"] for body in told] == [False, True]
        assert await replica.process.wait(SHORT_S) == 0
        assert replica.mishaps() == []
        assert replica.process.log_tail().count("request cancelled by shutdown") == 2


async def test_an_answer_that_has_begun_is_not_made_to_look_whole() -> None:
    begun = asyncio.Event()
    sent: list[str] = []

    async def streaming(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        begun.set()
        await asyncio.Event().wait()

    async def send(message: Message) -> None:
        sent.append(message["type"])

    async def receive() -> Message:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    request = asyncio.ensure_future(ShutdownGuard(streaming)(scope, receive, send))
    await begun.wait()
    request.cancel()
    await request
    assert sent == ["http.response.start"]
