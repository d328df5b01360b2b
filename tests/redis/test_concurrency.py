"""Many reads and writes at once wait for their turn, on every kind of deployment: that a pool is
used up must not look as if Redis were away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import tidegate.redis.concurrency as turns
from tests.harness.replica import quick_settings
from tests.servers.cluster import Cluster
from tests.servers.sentinel import Sentinels
from tests.servers.standalone import Server
from tidegate.model.errors import RedisUnavailable
from tidegate.model.ids import ZERO, OperationId
from tidegate.redis.address import parse_address
from tidegate.redis.appending import Appender
from tidegate.redis.concurrency import ConcurrencyLimiter
from tidegate.redis.log import RedisLog
from tidegate.redis.operation_hash import OperationHash
from tidegate.redis.topology import MAX_CONNECTIONS, TURNS, Topology

AT_ONCE = 4 * MAX_CONNECTIONS
ONE, TWO = OperationId("42"), OperationId("43")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds at once are much for a busy machine."""
    monkeypatch.setattr(turns, "WAIT_S", 60)


class Parts:
    """What a replica reads and writes with."""

    def __init__(self, url: str) -> None:
        settings = quick_settings(url)
        self.topology = Topology(parse_address(settings.redis), settings.redis)
        self.log = RedisLog(self.topology, settings)
        self.hashes = OperationHash(self.topology, "operation:")
        self.appender = Appender(self.topology, settings.redis, settings.dispatch)


@asynccontextmanager
async def parts(url: str) -> AsyncIterator[Parts]:
    made = Parts(url)
    try:
        await made.topology.refresh()
        yield made
    finally:
        await made.appender.close()
        await made.topology.close()


async def all_at_once(made: Parts) -> None:
    written = await asyncio.gather(
        *(made.appender.append(ONE, [b'{"n":1}']) for _ in range(AT_ONCE))
    )
    assert len({each.ids for each in written}) == AT_ONCE
    reading = [made.log.after(ONE, ZERO) for _ in range(AT_ONCE)]
    looking = [made.hashes.read(ONE) for _ in range(AT_ONCE)]
    writing = [made.appender.append(TWO, [b'{"n":1}']) for _ in range(AT_ONCE)]
    await asyncio.gather(*reading, *looking, *writing)
    assert made.log.pages == AT_ONCE


async def test_on_one_server(redis_server: Server) -> None:
    async with parts(redis_server.url) as made, redis_server.client() as client:
        await all_at_once(made)
        names = [row["name"] for row in await client.client_list()]
        assert len(names) <= MAX_CONNECTIONS + 1


async def test_on_a_cluster(cluster: Cluster) -> None:
    async with parts(cluster.url) as made:
        await all_at_once(made)


async def test_behind_sentinel(sentinel: Sentinels) -> None:
    async with parts(sentinel.url) as made:
        await all_at_once(made)


async def test_who_waits_too_long_is_told(
    redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "WAIT_S", 0.1)
    async with parts(redis_server.url) as made:
        line = ConcurrencyLimiter(made.topology)
        release = asyncio.Event()

        async def hold() -> None:
            async with line.at("42"):
                await release.wait()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(TURNS):
                tasks.create_task(hold())
            await asyncio.sleep(0)
            with pytest.raises(RedisUnavailable, match="try again"):
                async with line.at("42"):
                    pass
            waiting = asyncio.create_task(hold())
            await asyncio.sleep(0)
            waiting.cancel()  # who gives up loses no turn
            release.set()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(TURNS):
                tasks.create_task(hold())
