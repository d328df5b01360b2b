"""One test for each known kind of harm: short, and with the outcome that is promised for it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from statistics import median
from typing import Any

import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.faults.judge import Opened
from tests.faults.publisher import Publisher
from tests.faults.replicas import Replica
from tests.faults.scene import END_S, audience, gateway, with_ghosts
from tests.harness.waiting import until
from tests.servers.cluster import Cluster
from tests.servers.sentinel import Sentinels
from tests.servers.standalone import Server
from tidegate.model.close_codes import EXPIRED

#: The longest starts nine replicas, which takes two busy cores a minute.
pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

#: The promise of the design: an entry written when the dispatching replica dies reaches the others.
TAKEOVER_S = 3.0
#: Where it has to be seen that nothing waits for the sweep, there is none.
NO_SWEEP = {"dispatch.sweep_s": 600}


@asynccontextmanager
async def publishing(publisher: Publisher, every_s: float = 0.01) -> AsyncIterator[None]:
    """Entries all the time."""

    stop = asyncio.Event()

    async def write_on() -> None:
        while not stop.is_set():
            await publisher.write()
            await asyncio.sleep(every_s)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write_on())
        try:
            yield
        finally:
            # Not cancelled: redis-py's `wait_for` swallows that now and then on Python 3.11.
            stop.set()


async def leaders(replicas: list[Replica]) -> list[Replica]:
    """The replicas that answer doorbells at once; one operation is all they watch."""
    running = [replica for replica in replicas if replica.process.running]
    states = [await replica.state() for replica in running]
    return [
        replica
        for replica, state in zip(running, states, strict=True)
        if sum(primary["leading"] for primary in state["redis"]["primaries"])
    ]


async def the_leader(replicas: list[Replica], publisher: Publisher) -> Replica:
    """The one replica that does, once there is one; entries are written meanwhile."""
    leading: list[Replica] = []

    async def one_leads() -> bool:
        leading[:] = await leaders(replicas)
        if len(leading) != 1:
            await publisher.write()
        return len(leading) == 1

    await until(one_leads, lambda: f"leading: {[one.pod for one in leading]}")
    return leading[0]


# --- the replica that dispatches


@pytest.mark.parametrize(
    ("number", "turns"),
    [
        (signal.SIGSTOP, 6),
        (signal.SIGKILL, 2),  # after each a process has to start
        pytest.param(signal.SIGKILL, 6, marks=pytest.mark.full),
    ],
)
async def test_an_entry_written_when_the_dispatching_replica_goes_reaches_the_others(
    redis_server: Server, number: signal.Signals, turns: int
) -> None:
    async with (
        redis_server.client() as client,
        gateway(redis_server.url, 3) as replicas,
        audience("42", replicas) as viewers,
    ):
        publisher = Publisher(client, "42")
        await viewers.join()
        # Of each order the median: the machine may be elsewhere once.
        took_s: tuple[list[float], list[float]] = ([], [])
        for turn in range(turns):
            gone = await the_leader(replicas, publisher)
            others = [v for v in viewers.viewers if v.replica != gone.index]
            if turn % 2:
                gone.process.signal(number)
                await publisher.write()
            else:
                await publisher.write()
                gone.process.signal(number)
            last = publisher.last
            began = time.monotonic()
            for viewer in others:
                await viewer.entry(last, END_S)
            took_s[turn % 2].append(time.monotonic() - began)
            if number is signal.SIGSTOP:
                gone.resume()
            else:
                await gone.process.wait()
                if turn < turns - 1:
                    await gone.start()
            await publisher.write()
        await publisher.finish()
        await viewers.end(await publisher.log())
        assert max(map(median, took_s)) < TAKEOVER_S, took_s


# --- Sentinel


def through(sentinels: Sentinels) -> tuple[redis.asyncio.Sentinel, redis.asyncio.Redis]:
    """A client of whoever is the primary. Close both."""
    options: dict[str, Any] = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5}
    sentinel = redis.asyncio.Sentinel(
        [(server.host, server.port) for server in sentinels.sentinels],
        sentinel_kwargs=options,
        retry=Retry(NoBackoff(), 0),
        **options,
    )
    return sentinel, sentinel.master_for(sentinels.name)


@pytest.mark.parametrize(
    "how",
    [
        "killed in the middle of writes",
        pytest.param("killed", marks=pytest.mark.full),
        pytest.param("ordered", marks=pytest.mark.full),
    ],
)
async def test_a_sentinel_failover(sentinel: Sentinels, how: str) -> None:
    async with gateway(sentinel.url, 2) as replicas, audience("42", replicas) as viewers:
        finder, client = through(sentinel)
        try:
            publisher = Publisher(client, "42")
            await viewers.join()
            async with publishing(publisher):
                await viewers.have(20)
                if how == "ordered":
                    await sentinel.fail_over()
                elif how == "killed in the middle of writes":
                    async with sentinel.failed_over():
                        await (await sentinel.primary()).kill()
            if how == "killed":
                await sentinel.synced()
                async with sentinel.failed_over():
                    await (await sentinel.primary()).kill()
            await viewers.join(history=None)
            await publisher.write_surely()
            async with publishing(publisher):
                await asyncio.sleep(0.3)
            await publisher.finish()
            log = with_ghosts(await publisher.log_with(required=False), viewers.viewers)
            # Only when nothing was lost there is nothing to announce.
            lost = not all(entry.required for entry in log)
            await viewers.end(log, gaps=("rewound", "recreated") if lost else ())
        finally:
            await client.aclose()
            for server in finder.sentinels:
                await server.aclose()


# --- cluster


async def test_slots_move_while_entries_are_written(cluster: Cluster) -> None:
    async with (
        cluster.client() as client,
        gateway(cluster.url, 2, NO_SWEEP) as replicas,
        audience("42", replicas) as viewers,
    ):
        publisher = Publisher(client, "42")
        slot = cluster.slot(publisher.key)
        await viewers.join()
        async with publishing(publisher):
            await viewers.have(10)
            for _ in range(2):
                target = await cluster.other_than(await cluster.owner(slot))
                source = await cluster.begin_move(slot, target)
                await asyncio.sleep(0.1)
                await cluster.move_keys(slot, source, target)
                # The key is there, the slot is here: whoever asks here is answered with ASK.
                await asyncio.sleep(0.3)
                await viewers.join(history=None)
                await cluster.finish_move(slot, source, target)
                await viewers.have(publisher.last)
        await publisher.finish()
        await viewers.end(await publisher.log())


async def test_an_operation_begins_in_a_slot_that_is_moving(cluster: Cluster) -> None:
    """There is no key yet, so the source sends everybody away with ASK."""
    async with (
        cluster.client() as client,
        gateway(cluster.url, 2, NO_SWEEP) as replicas,
        audience("42", replicas) as viewers,
    ):
        publisher = Publisher(client, "42")
        slot = cluster.slot(publisher.key)
        await viewers.join()
        target = await cluster.other_than(await cluster.owner(slot))
        source = await cluster.begin_move(slot, target)
        async with publishing(publisher):
            await asyncio.sleep(0.3)
            await cluster.finish_move(slot, source, target)
            await viewers.have(20)
        # The new primary learns late that the slot is its own, and ends subscriptions once more.
        for _ in range(3):
            await publisher.write_surely()
            await viewers.have(publisher.last)
        await publisher.finish()
        await viewers.end(await publisher.log())


@pytest.mark.parametrize("how", ["takeover", pytest.param("killed", marks=pytest.mark.full)])
async def test_a_cluster_failover(cluster_with_replicas: Cluster, how: str) -> None:
    cluster = cluster_with_replicas
    async with (
        cluster.client() as client,
        gateway(cluster.url, 2, NO_SWEEP) as replicas,
        audience("42", replicas) as viewers,
        audience("1", replicas) as bystanders,
    ):
        publisher, other = Publisher(client, "42"), Publisher(client, "1")
        primary = await cluster.owner(publisher.key)
        assert await cluster.owner(other.key) is not primary
        follower = (await cluster.replicas_of(primary))[0]
        await viewers.join()
        await bystanders.join()
        async with publishing(publisher, 0.02), publishing(other, 0.02):
            await viewers.have(10)
            if how == "takeover":
                await cluster.take_over(follower)
            else:
                await primary.kill()
                await until(partial(_serves, cluster, publisher.key, primary), "nobody took over")
            await publisher.write_surely()
            await viewers.have(publisher.last)
            await viewers.join(history=None)
        await publisher.finish()
        await other.finish()
        log = with_ghosts(await publisher.log_with(required=False), viewers.viewers)
        lost = not all(entry.required for entry in log)
        await viewers.end(log, gaps=("rewound", "recreated") if lost else ())
        await bystanders.end(await other.log())


async def _serves(cluster: Cluster, key: str, old: Server) -> bool:
    """Whether somebody else serves this key, and the cluster is whole."""
    try:
        owner = await cluster.owner(key)
        async with owner.client() as client:
            return owner is not old and bool(await client.exists(key))
    except Exception:  # noqa: BLE001 - nobody serves it yet
        return False


# --- the server


async def test_redis_stands_still_for_seconds(redis_server: Server) -> None:
    # Noticed soon, and yet not when the machine stands still for a moment.
    settings = {**NO_SWEEP, "redis.heartbeat_s": 0.5, "redis.reply_timeout_s": 3.0}
    async with (
        redis_server.client(socket_timeout=1) as client,
        gateway(redis_server.url, 2, settings) as replicas,
        audience("42", replicas) as viewers,
    ):
        publisher = Publisher(client, "42")
        await viewers.join()
        async with publishing(publisher):
            await viewers.have(10)
            redis_server.pause()
            await until(
                lambda: all(viewer.said["stale"] for viewer in viewers.viewers),
                lambda: f"stale: {[dict(viewer.said) for viewer in viewers.viewers]}",
            )
            redis_server.resume()
            await publisher.write_surely()
            await viewers.have(publisher.last)
        await publisher.finish()
        await viewers.end(await publisher.log())
        for viewer in viewers.viewers:
            assert sum(isinstance(event, Opened) for event in viewer.record) == 1
            assert viewer.said["stale"] == viewer.said["live"] == 1


async def test_out_of_memory_and_back(redis_server: Server) -> None:
    async with (
        redis_server.client() as client,
        gateway(redis_server.url, 2, NO_SWEEP) as replicas,
        audience("42", replicas) as viewers,
        audience("43", replicas) as newcomers,
    ):
        publisher, other = Publisher(client, "42"), Publisher(client, "43")
        await viewers.join()
        await publisher.write_many(50)
        await other.write_many(50)
        await client.config_set("maxmemory", "1mb")
        assert await publisher.write() is None
        # Nobody has read this stream so far: its group is made now.
        await newcomers.join()
        await newcomers.have(50)
        await viewers.join(history=None)
        await client.config_set("maxmemory", "0")
        await publisher.write_many(50)
        await publisher.finish()
        await other.finish()
        await viewers.end(await publisher.log())
        await newcomers.end(await other.log())


# --- the stream


@pytest.mark.parametrize(
    ("how", "again"),
    [
        ("DEL", 1),
        ("DEL", 300),
        ("FLUSHALL", 30),
        pytest.param("DEL", 30, marks=pytest.mark.full),
        pytest.param("FLUSHALL", 1, marks=pytest.mark.full),
        pytest.param("FLUSHALL", 300, marks=pytest.mark.full),
    ],
)
async def test_a_stream_that_is_made_again_is_announced(
    redis_server: Server, how: str, again: int
) -> None:
    async with (
        redis_server.client() as client,
        gateway(redis_server.url, 2, NO_SWEEP) as replicas,
        audience("42", replicas) as viewers,
    ):
        first = Publisher(client, "42")
        await viewers.join()
        await first.write_many(30)
        await viewers.have(30)
        before = await first.log()
        await client.execute_command(*(("DEL", first.key) if how == "DEL" else ("FLUSHALL",)))
        second = Publisher(client, "42", first_number=1000)
        await second.write_many(again)
        await viewers.have(999 + again)
        await second.finish()
        await viewers.end(before, await second.log(), gaps=("recreated",))
        assert [len(viewer.gaps()) for viewer in viewers.viewers] == [1, 1]


async def test_a_stream_made_again_with_lower_ids_is_announced(redis_server: Server) -> None:
    """A backend that chooses its ids: the cursor lies within the new log and means nothing."""
    async with (
        redis_server.client() as client,
        gateway(redis_server.url, 2) as replicas,
        audience("42", replicas) as viewers,
    ):
        first = Publisher(client, "42")
        await viewers.join()
        for at in (10, 20, 30):
            await first.write_at(f"{at}-0")
        await viewers.have(3)
        before = await first.log()
        second = Publisher(client, "42", first_number=1000)
        async with client.pipeline(transaction=True) as pipe:
            pipe.execute_command("DEL", first.key)
            for at in (5, 15, 35):
                second.queue_at(pipe, f"{at}-0")
            await pipe.execute()
        await second.finish()
        await viewers.end(before, await second.log(), gaps=("recreated", "rewound"))
        assert all(viewer.gaps() for viewer in viewers.viewers)


async def test_a_stream_that_is_gone_for_good_ends_its_viewers(redis_server: Server) -> None:
    settings = {"topic.expired_grace_s": 0.5}
    async with (
        redis_server.client() as client,
        gateway(redis_server.url, 2, settings) as replicas,
        audience("42", replicas) as viewers,
    ):
        publisher = Publisher(client, "42")
        await viewers.join()
        await publisher.write_many(30)
        await viewers.have(30)
        await client.delete(publisher.key)
        async with asyncio.timeout(END_S):
            for viewer in viewers.viewers:
                await viewer.ended.wait()
                assert viewer.closed == EXPIRED.code


async def test_a_publisher_that_keeps_one_entry_loses_nothing_silently(
    redis_server: Server,
) -> None:
    async with (
        redis_server.client() as client,
        gateway(redis_server.url, 2) as replicas,
        audience("42", replicas) as viewers,
    ):
        publisher = Publisher(client, "42")
        await viewers.join()
        for burst in range(40):
            for _ in range(burst % 8):
                await publisher.write_surely(maxlen=1)
            await publisher.write_many(10, maxlen=1)
            if burst % 10 == 5:
                await viewers.join(history=None)
        await publisher.finish()
        log = await publisher.log_with(required=True)
        await viewers.end(log, gaps=("trimmed",))
