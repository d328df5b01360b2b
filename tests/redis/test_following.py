"""The life of a followed stream: attached, kept warm, dropped; and how many replicas share it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from tests.harness.backend import GROUP, PREFIX, Backend
from tests.harness.replica import Replica
from tests.harness.viewer import Viewer
from tests.harness.waiting import until
from tests.servers.standalone import Server

LINGER_S = 0.2


async def test_a_consumer_is_removed_by_name_when_nobody_watches_any_more(
    any_server: Server, either: Backend
) -> None:
    async with Replica(any_server.url, topic={"linger_s": LINGER_S}) as replica:
        await either.publish("42")
        await either.client.xgroup_create(PREFIX + "42", "tidegate", "0")
        await either.client.xgroup_createconsumer(PREFIX + "42", "tidegate", "somebody-else")
        async with replica.watch("42") as viewer:
            await viewer.state()
            assert await either.consumers("42") == ["pod-1", "somebody-else"]
        await until(lambda: replica.hub.stats().operations == 0)
        await until_consumers(either, ["somebody-else"])


async def until_consumers(backend: Backend, wanted: list[str]) -> None:
    async def holds() -> bool:  # Redis tells nobody
        return await backend.consumers("42") == wanted

    await until(holds)


async def test_a_topic_without_viewers_is_dropped_with_all_its_memory(
    any_server: Server, either: Backend
) -> None:
    async with Replica(any_server.url, topic={"linger_s": LINGER_S}) as replica:
        async with AsyncExitStack() as stack:  # all at once: a linger may be over before the last
            for number in range(20):
                name = f"op-{number}"
                await either.publish_many(name, 50, pad=100)
                viewer = await stack.enter_async_context(replica.watch(name))
                await viewer.state()
                await viewer.entries(50)
            assert replica.hub.stats().ring_bytes > 50_000
        await until(lambda: replica.hub.stats().operations == 0)
        stats = replica.hub.stats()
        assert (stats.ring_bytes, stats.outbox_items) == (0, 0)
        assert replica.feed.stats()[0].watches == 0

        async def nobody_subscribes() -> bool:  # what was sent to Redis last may be on its way
            names = f"{PREFIX}*"
            return not await either.client.execute_command("PUBSUB", "SHARDCHANNELS", names)

        await until(nobody_subscribes)


async def test_a_script_flush_heals_without_losing_anything(
    any_server: Server, either: Backend
) -> None:
    async with Replica(any_server.url) as replica, replica.watch("42") as viewer:
        await viewer.state()
        for _ in range(10):
            await either.client.script_flush()
            ids = await either.publish_many("42", 5)
            assert await viewer.ids(5) == ids
        await either.client.script_flush()
        async with replica.watch("7") as other, replica.watch("42", history="all") as late:
            await other.state()
            await late.state()
            await late.entries(50)
        assert replica.counts()["error_no_script"] > 0


async def test_a_destroyed_group_loses_nothing(any_server: Server, either: Backend) -> None:
    async with Replica(any_server.url) as replica, replica.watch("42") as viewer:
        await viewer.state()
        for _ in range(5):
            ids = await either.publish_many("42", 5)
            assert await viewer.ids(5) == ids
            await either.client.xgroup_destroy(PREFIX + "42", GROUP)
        ids = await either.publish_many("42", 5)
        assert await viewer.ids(5) == ids


async def test_a_killed_link_comes_back_and_misses_nothing(
    any_server: Server, either: Backend
) -> None:
    async with Replica(any_server.url) as replica, replica.watch("42") as viewer:
        await viewer.state()
        ids: list[str] = []
        for _ in range(5):
            ids += await either.publish_many("42", 5)
            await either.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            ids += await either.publish_many("42", 5)
            await viewer.until_id(ids[-1])
        assert [frame["id"] for frame in viewer.frames if "id" in frame] == ids
        assert replica.counts()["connects"] > 1


async def test_the_bound_on_topics_is_kept(any_server: Server) -> None:
    replica = Replica(any_server.url, topic={"max_topics": 2})
    async with replica, replica.watch("a") as one, replica.watch("b") as two:
        await one.state()
        await two.state()
        async with replica.watch("c") as three:
            frames, close = await three.rest()
            assert frames[0]["data"]["code"] == "overloaded"
            assert close.code == 1013
        async with replica.watch("a") as again:
            await again.state()


async def test_followers_rings_stay_quiet_and_the_leaders_death_is_short(
    any_server: Server, either: Backend
) -> None:
    """Of three replicas one answers the rings; when it is gone, entries come after one time to arm
    and one grace at the most. These are long enough that a machine that stands still for a while
    does not make a leader of a follower.
    """
    quick = {"follow_arm_s": 2, "follow_grace_s": 2, "sweep_s": 30}
    async with AsyncExitStack() as stack:
        replicas = [Replica(any_server.url, pod=f"pod-{n}", dispatch=quick) for n in range(3)]
        viewers: list[Viewer] = []
        for replica in replicas:
            await replica.start()
            stack.push_async_callback(replica.stop)
            viewers.append(await stack.enter_async_context(replica.watch("42")))
            await viewers[-1].state()
        for _ in range(50):  # until the roles are settled
            ids = await either.publish_many("42", 1)
            for viewer in viewers:
                await viewer.until_id(ids[-1])
        before = [replica.counts().copy() for replica in replicas]
        for _ in range(100):
            ids = await either.publish_many("42", 1)
            for viewer in viewers:
                await viewer.until_id(ids[-1])
        rings = [r.counts()["rings"] - b["rings"] for r, b in zip(replicas, before, strict=True)]
        leader = rings.index(max(rings))
        assert rings[leader] >= 90
        assert sum(rings) - rings[leader] <= 20, f"followers mostly listen: {rings}"
        assert [r.feed.stats()[0].leading for r in replicas].count(1) == 1
        (primary,) = replicas[leader].feed._primaries.values()
        # As if the process had stopped: it neither answers rings nor ends its connection.
        assert primary.dispatcher.link is not None
        primary.dispatcher.link.on_push = lambda push: None
        async with asyncio.timeout(2 + 2 + 6):  # far below the sweep
            ids = await either.publish_many("42", 1)
            for n, viewer in enumerate(viewers):
                if n != leader:
                    await viewer.until_id(ids[-1])


async def test_a_repair_in_pages_of_one_entry_comes_to_an_end(
    any_server: Server, either: Backend
) -> None:
    """Each page began with the last entry applied, brought nothing else, and was read again."""
    async with (
        Replica(any_server.url, dispatch={"max_entries": 1}) as replica,
        replica.watch("42") as viewer,
    ):
        await viewer.state()
        ids = await either.publish_many("42", 10)
        assert await viewer.ids(10) == ids
        assert replica.counts()["repair_reads"] <= 11
