"""How a replica goes away: not ready, a moment for load balancers, closes at a pace; all of it cut
short by a second signal.

Where a wait must not be over by itself it is a minute long, and the test says when it ends.
"""

from __future__ import annotations

import asyncio
import signal
import time

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.faults.replicas import Replica as ReplicaProcess
from tests.gateway.backend import Backend
from tests.gateway.replica import Replica, until
from tests.gateway.viewer import Viewer
from tests.servers.standalone import Server

LONG_S = 60.0
SHORT_S = 30.0
WINDOW_S = 1.0


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
    async with httpx.AsyncClient(base_url=base) as client:
        assert (await client.get("/operations/42")).status_code == 200
    await end(stopping, replica)


async def test_in_the_window_nobody_comes_in_and_those_inside_are_served(
    redis_server: Server, backend: Backend
) -> None:
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


async def test_closes_are_spread_over_the_window(redis_server: Server) -> None:
    drain = {"delay_s": 0, "window_s": WINDOW_S}
    replica = await Replica(redis_server.url, drain=drain).start()
    viewers = [replica.watch("42") for _ in range(10)]
    for viewer in viewers:
        await viewer.__aenter__()
        await viewer.state()
    stopping = await begun(replica)

    async def closed_at(viewer: Viewer) -> float:
        assert (await viewer.rest())[1].code == 1012
        return time.monotonic()

    at = sorted(await asyncio.gather(*map(closed_at, viewers)))
    await stopping
    # One in a tick of 0.1 s. On a busy machine it takes longer, never less.
    assert at[-1] - at[0] > 0.7 * WINDOW_S


async def test_a_second_sigterm_shortens_and_the_end_is_a_good_one(redis_server: Server) -> None:
    settings = {"drain.delay_s": LONG_S, "drain.window_s": LONG_S}
    async with (
        ReplicaProcess(0, redis_server.url, settings) as replica,
        Viewer(f"ws://{replica.host}:{replica.port}/ws/operations/42") as viewer,
    ):
        await viewer.state()
        replica.process.signal(signal.SIGTERM)
        async with httpx.AsyncClient() as client, asyncio.timeout(SHORT_S):
            address = f"http://{replica.host}:{replica.admin_port}/readyz"
            while (await client.get(address)).status_code == 200:  # noqa: ASYNC110 - a process
                await asyncio.sleep(0.02)
        await viewer.ping()
        replica.process.signal(signal.SIGTERM)
        assert (await viewer.rest())[1].code == 1012
        assert await replica.process.wait(SHORT_S) == 0
        assert replica.mishaps() == []
        async with redis_server.client() as client:
            assert await client.zcard("{tidegate}:pods") == 0
