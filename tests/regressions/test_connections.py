"""Bugs in how connections were refused, closed and kept: unseen, for good, one by one, too many."""

import asyncio
import time

import pytest

from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers import binaries
from tests.servers.proxy import Proxy
from tests.servers.standalone import Options, Server
from tidegate.gateway import hub
from tidegate.model.close_codes import ComeBack, come_back
from tidegate.runtime import report


async def test_b09_a_refusal_can_be_read(replica: Replica) -> None:
    """A close before the handshake became HTTP 403: the browser saw 1006 and came back at once."""
    async with replica.watch("no%20such%20id") as viewer:
        assert viewer.socket.response is not None
        assert viewer.socket.response.status_code == 101
        frames, close = await viewer.rest()
        assert frames[0]["type"] == "error"
        assert frames[0]["data"]["code"] == "bad_request"
        assert "operation_id" in frames[0]["data"]["message"]
        assert close.code == 4400
        assert come_back(close.code) is ComeBack.NO


async def test_b10_a_shutdown_asks_everybody_to_come_back_each_at_its_own_time(
    redis_server: Server,
) -> None:
    """A clean close at deploy time meant never, all others came back after exactly 3 s."""
    replica = await Replica(redis_server.url).start()
    viewers = [replica.watch("42") for _ in range(8)]
    for viewer in viewers:
        await viewer.__aenter__()
        await viewer.state()
    stopping = asyncio.create_task(replica.stop())
    delays = set()
    for viewer in viewers:
        frames, close = await viewer.rest()
        delays.add(frames[-1]["data"]["after_ms"])
        assert come_back(close.code) is ComeBack.YES
        await viewer.__aexit__()
    await stopping
    assert len(delays) > 3


async def test_b11_a_viewer_that_does_not_read_stalls_nobody(
    replica: Replica, backend: Backend
) -> None:
    """Sockets were awaited one by one, so one blocked browser stopped all viewers."""
    stuck = [await replica.raw("42", receive_buffer=4096) for _ in range(5)]
    async with replica.watch("42", history="none") as reader:
        await reader.state()
        for start in range(0, 3000, 50):
            ids = await backend.publish_many("42", 50, start=start, pad=1000)
            assert await reader.ids(50) == ids
    # Each stays so; the last may still be caught up with when the reader has everything.
    await until(lambda: replica.hub.stats().lagging == len(stuck))
    for viewer in stuck:
        viewer.close()
    await until(lambda: replica.viewers == 0)


async def test_b12_without_redis_a_storm_of_viewers_does_not_queue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each connect waited behind the others for three attempts of 5 s each."""
    monkeypatch.setattr(hub, "JOIN_PATIENCE_S", 1.0)
    nowhere = "redis://127.0.0.1:1/0"
    async with Replica(nowhere, wait_for_redis=False) as replica:

        async def knock(number: int) -> int:
            async with replica.watch(f"op-{number % 10}") as viewer:
                frames, close = await viewer.rest()
                assert frames[0]["data"]["retry"] is True
                return close.code

        began = time.monotonic()
        codes = await asyncio.gather(*(knock(number) for number in range(60)))
        took_s = time.monotonic() - began
        assert set(codes) == {1013}
        assert come_back(1013) is ComeBack.LATER
        assert took_s < 10, "one patience for all, not one for each"


async def test_b12_redis_lost_after_the_start_is_told_and_heals(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis lost later was never noticed, and the local-only mode never tried Redis again."""
    async with (
        Server(binaries.embedded(), Options(durable=True)) as server,
        Replica(server.url) as replica,
        replica.watch("42") as viewer,
    ):
        await viewer.state()
        async with server.client() as client:
            ids = await Backend(client).publish_many("42", 3)
        assert await viewer.ids(3) == ids
        await server.kill()
        assert (await viewer.next())["type"] == "stale"
        monkeypatch.setattr(report, "RECONNECT_GRACE_S", 0.0)
        assert (await replica.admin("/readyz")).status_code == 503
        await server.restart()
        async with server.client() as client:
            ids = await Backend(client).publish_many("42", 3)
        assert (await viewer.until(id=ids[-1]))["id"] == ids[-1]
        assert [f["id"] for f in viewer.frames[-5:] if "id" in f] == ids
        assert "live" in {f["type"] for f in viewer.frames}
        assert (await replica.admin("/readyz")).status_code == 200


async def test_b12_a_link_that_was_cut_misses_nothing(
    redis_server: Server, backend: Backend
) -> None:
    """What was written while the process was cut off never arrived."""
    async with (
        Proxy((redis_server.host, redis_server.port)) as proxy,
        Replica(f"redis://{proxy.address}/0") as replica,
        replica.watch("42") as viewer,
    ):
        await viewer.state()
        first = await backend.publish("42")
        assert await viewer.ids(1) == [first]
        await proxy.refuse()
        proxy.cut()
        assert (await viewer.next())["type"] == "stale"
        missed = await backend.publish_many("42", 700)
        await proxy.accept()
        await viewer.until_id(missed[-1])
        assert [f["id"] for f in viewer.frames if "id" in f] == [first, *missed]


async def test_b13_connections_to_redis_do_not_grow_with_operations(
    replica: Replica, backend: Backend
) -> None:
    """Each watched operation held a blocked connection, per process."""

    async def connections() -> list[dict[str, str]]:
        return [c for c in await backend.client.client_list() if c["id"] != str(own)]

    own = await backend.client.client_id()
    viewers = [replica.watch(f"op-{number}") for number in range(150)]
    for viewer in viewers:
        await viewer.__aenter__()
        await viewer.state()
    for number in range(150):
        await backend.publish(f"op-{number}")
    for viewer in viewers:
        await viewer.entries(1)
    now = await connections()
    # The link, the control channel, and as many of the pool as tasks of the replica may send at the
    # same moment: topology, leases, slots, revocations, rights, and a look at what Redis can do.
    assert len(now) <= 2 + 6, "it grows with the operations"
    assert all("b" not in connection["flags"] for connection in now), "blocked"
    await asyncio.gather(*(viewer.__aexit__() for viewer in viewers))
