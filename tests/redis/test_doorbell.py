"""The three doorbells: each works, is taken where those before it are forbidden, and is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from structlog.testing import capture_logs

from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers.proxy import Proxy
from tests.servers.relay_loss import PushFault
from tests.servers.standalone import Server
from tidegate.gateway import hub
from tidegate.redis.dispatcher import DISPATCH_EACH

#: Enough for a replica, without the doorbell in front.
RIGHTS = ("~*", "&*", "+@all", "-client|tracking")
DOORBELLS = ["tracking", "keyspace", "poll"]


async def allow(server: Server, doorbell: str) -> str:
    """Make a user that may use this doorbell and none better; its URL."""
    if doorbell == "tracking":
        return server.url
    async with server.client() as client:
        events = "Ktg$" if doorbell == "keyspace" else ""
        await client.config_set("notify-keyspace-events", events)
        await client.execute_command("ACL", "SETUSER", "plain", "on", ">pw", *RIGHTS)
    return f"redis://plain:pw@{server.address}/0"


@asynccontextmanager
async def a_replica(server: Server, doorbell: str) -> AsyncIterator[Replica]:
    redis = {"poll_interval_s": 0.05}
    async with Replica(await allow(server, doorbell), redis=redis) as replica:
        yield replica


@pytest.mark.parametrize("doorbell", DOORBELLS)
async def test_the_best_that_works_is_taken_and_told(any_server: Server, doorbell: str) -> None:
    with capture_logs() as logs:
        async with a_replica(any_server, doorbell) as replica:
            state = (await replica.admin("/debug/state")).json()
            assert [link["doorbell"] for link in state["redis"]["primaries"]] == [doorbell]
            metrics = (await replica.admin("/metrics")).text
            assert f'tidegate_redis_doorbell{{doorbell="{doorbell}"}} 1.0' in metrics
    up = [line for line in logs if line["event"] == "Redis connection established"]
    assert [line["doorbell"] for line in up] == [doorbell]


@pytest.mark.parametrize("doorbell", DOORBELLS)
async def test_every_doorbell_brings_every_entry(
    any_server: Server, either: Backend, doorbell: str
) -> None:
    async with a_replica(any_server, doorbell) as replica, replica.watch("42") as viewer:
        await viewer.state()
        ids = await either.publish_many("42", 3)  # the stream begins
        assert await viewer.ids(3) == ids
        for _ in range(5):
            ids = await either.publish_many("42", 20)
            assert await viewer.ids(20) == ids
        await either.client.delete("operation-progress:42")
        frames, close = await viewer.rest()
        assert [frame["data"]["code"] for frame in frames] == ["expired"]
        assert close.code == 4410


async def test_a_doorbell_that_is_wanted_and_forbidden_is_told(
    any_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "JOIN_PATIENCE_S", 1.0)
    url = await allow(any_server, "poll")
    for wanted in ("tracking", "keyspace"):
        replica = Replica(url, wait_for_redis=False, redis={"doorbell": wanted})
        with capture_logs() as logs:
            async with replica, replica.watch("42") as viewer:
                frames, close = await viewer.rest()
                assert frames[0]["data"]["code"] == "redis_unavailable"
                assert close.code == 1013
                # On a busy machine the viewer may run out of patience first.
                await until(
                    lambda: any(line["event"] == "cannot connect to Redis" for line in logs)
                )
        told = [line["reason"] for line in logs if line["event"] == "cannot connect to Redis"]
        assert told
        assert all(f"redis.doorbell is {wanted}" in reason for reason in told)


async def test_the_probe_leaves_nothing_behind(any_server: Server, either: Backend) -> None:
    async with a_replica(any_server, "keyspace"):
        async for key in either.client.scan_iter("*probe*"):
            assert await either.client.pttl(key) <= 1000


async def test_a_flush_rings_everything(any_server: Server, either: Backend) -> None:
    """FLUSHALL pushes an invalidation of no key in particular."""
    replica = Replica(any_server.url)
    async with replica, replica.watch("a") as one, replica.watch("b") as two:
        for viewer, name in ((one, "a"), (two, "b")):
            await viewer.state()
            await either.publish(name)
            await viewer.entries(1)
        await either.client.flushall()
        for viewer in (one, two):
            frames, close = await viewer.rest()
            assert frames[-1]["data"]["code"] == "expired"
            assert close.code == 4410


async def test_a_lost_ring_delays_an_entry_and_loses_none(redis_server: Server) -> None:
    fault = PushFault(b"invalidate", lambda number: 0)
    async with Proxy((redis_server.host, redis_server.port)) as proxy, redis_server.client() as c:
        proxy.down.filter = fault.on_connection
        backend = Backend(c)
        quick = {"sweep_s": 0.5, "follow_arm_s": 0.4}
        replica = Replica(f"redis://{proxy.address}/0", dispatch=quick)
        async with replica, replica.watch("42") as viewer:
            await viewer.state()
            for _ in range(3):
                ids = await backend.publish_many("42", 5)
                assert await viewer.ids(5) == ids
    assert fault.lost >= 3


async def test_the_sweep_mostly_reads_where_it_knows_the_newest_entry(
    any_server: Server, either: Backend
) -> None:
    """Whether a relay has brought it, or a dispatch that found nothing has told of it."""
    await either.publish("before")
    async with (
        Replica(any_server.url, dispatch={"sweep_s": 0.2}) as replica,
        replica.watch("before") as before,
        replica.watch("live") as live,
    ):
        await before.state()
        await live.state()
        await either.publish("live")
        await live.entries(1)
        counted = replica.counts()

        def grown(name: str) -> int:
            return replica.counts().get(name, 0) - counted.get(name, 0)

        await until(lambda: grown("look_calls") >= 20)
        looks, dispatches = grown("look_calls"), grown("dispatch_calls")
        expected = looks / (DISPATCH_EACH - 1)
        # Of each stream one that is empty at first, and the ends of the stretch.
        assert expected - 2 <= dispatches <= expected + 4, (looks, dispatches)


async def test_lost_and_repeated_relays_are_repaired(redis_server: Server) -> None:
    fault = PushFault(b"smessage", lambda number: (0, 1, 2, 1, 0)[number % 5])
    async with Proxy((redis_server.host, redis_server.port)) as proxy, redis_server.client() as c:
        proxy.down.filter = fault.on_connection
        backend = Backend(c)
        quick = {"sweep_s": 0.5, "follow_arm_s": 0.4}
        replica = Replica(f"redis://{proxy.address}/0", dispatch=quick)
        async with replica, replica.watch("42") as viewer:
            await viewer.state()
            ids: list[str] = []
            for _ in range(60):
                ids += await backend.publish_many("42", 3)
                if len(ids) % 9 == 0:
                    await viewer.until_id(ids[-1])
            assert [frame["id"] for frame in viewer.frames if "id" in frame] == ids
            assert all(frame["type"] != "gap" for frame in viewer.frames)
    assert fault.lost > 3
    assert fault.repeated > 3


async def test_names_that_do_not_exist_stayed_in_redis_table_of_tracked_keys(
    any_server: Server, either: Backend
) -> None:
    async def remembered() -> int:
        return int((await either.client.info())["tracking_total_keys"])

    async with Replica(any_server.url, topic={"linger_s": 0}) as replica:
        async with AsyncExitStack() as viewers:
            for number in range(30):
                viewer = await viewers.enter_async_context(replica.watch(f"nothing-{number}"))
                await viewer.state()
            assert await remembered() >= 30
            begun = await viewers.enter_async_context(replica.watch("42"))
            await begun.state()
            ids = await either.publish_many("42", 1)
            assert await begun.ids(1) == ids
        await until(lambda: replica.viewers == 0, "everybody has left")

        async def is_small() -> bool:
            return await remembered() <= 1  # of the stream that there is

        await until(is_small, "only what exists is remembered")
        assert [key async for key in either.client.scan_iter("operation-progress:*")] == [
            b"operation-progress:42"
        ]
        async with replica.watch("nothing-7") as again:  # armed anew
            await again.state()
            ids = await either.publish_many("nothing-7", 1)
            assert await again.ids(1) == ids
