"""Sentinels that keep to themselves, and what it means that none of them names a primary."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.harness.backend import Backend
from tests.harness.replica import Replica, quick_settings
from tests.servers import binaries
from tests.servers.ports import free_port
from tests.servers.sentinel import Sentinels
from tests.servers.standalone import Options, Server
from tidegate.model.errors import RedisUnavailable, WriteUncertain
from tidegate.model.ids import OperationId
from tidegate.redis.address import parse_address
from tidegate.redis.appending import Appender, SyncAppender
from tidegate.redis.publishing import open_client
from tidegate.redis.topology import Topology

OURS, THEIRS = "of the servers", "of the Sentinels"


@pytest.mark.real("valkey9")
async def test_sentinels_with_a_login_of_their_own() -> None:
    """Without `redis.sentinel_password` such Sentinels could not be asked at all."""
    options = Options(password=OURS)
    async with Sentinels(
        binaries.embedded(), options, replicas=0, sentinel_password=THEIRS
    ) as sentinel:
        settings = quick_settings(sentinel.url, redis={"password": OURS}).redis
        topology = Topology(parse_address(settings), settings)
        with pytest.raises(RedisUnavailable, match=r"set redis.sentinel_password$"):
            await topology.refresh()
        await topology.close()
        login = {"password": OURS, "sentinel_password": THEIRS}
        async with (
            Replica(sentinel.url, redis=login) as replica,
            (await sentinel.primary()).client() as client,
            replica.watch("42") as viewer,
        ):
            await viewer.state()
            written = await Backend(client).publish("42")
            assert await viewer.ids(1) == [written]


async def test_the_client_turns_to_a_new_primary_although_the_old_one_answers(
    sentinel: Sentinels,
) -> None:
    """What is asserted again after a failover must not go to whoever is about to lose it."""
    settings = quick_settings(sentinel.url).redis
    topology = Topology(parse_address(settings), settings)
    try:
        assert await topology.refresh()
        old = await sentinel.primary()
        await topology.client.set("who", "old")
        await sentinel.move(next(server for server in sentinel.servers if server is not old))
        assert await topology.refresh()
        await topology.client.set("who", "new")
        async with (await sentinel.primary()).client() as new, old.client() as before:
            assert (await new.get("who"), await before.get("who")) == (b"new", b"old")
    finally:
        await topology.close()


async def test_a_sentinel_that_is_dead_or_refuses_is_asked_once(sentinel: Sentinels) -> None:
    """redis-py asked it eleven times before the next one, and the operator gave up before that.

    That took four seconds for each of these; with so many it is not the machine that is slow.
    """
    alone = Server(binaries.embedded(), Options(password="not ours"))
    dead = [f"127.0.0.1:{free_port()}" for _ in range(6)]
    async with alone:
        hosts = ",".join([*dead, alone.address])
        settings = quick_settings(sentinel.url.replace("://", f"://{hosts},")).redis
        topology = Topology(parse_address(settings), settings)
        client: Any = open_client(settings)
        try:
            async with asyncio.timeout(10):
                assert await topology.refresh()
            async with asyncio.timeout(10):
                assert await asyncio.to_thread(client.ping)
        finally:
            await topology.close()
            client.close()


async def test_nothing_is_written_where_no_sentinel_knows_the_primary(sentinel: Sentinels) -> None:
    """redis-py has this error twice, and the one of its asyncio half was taken for a lost reply."""
    settings = quick_settings(f"{sentinel.url}-not")
    topology = Topology(parse_address(settings.redis), settings.redis)
    appender = Appender(topology, settings.redis, settings.dispatch)
    blocking = SyncAppender(settings.redis, settings.dispatch)
    try:
        with pytest.raises(RedisUnavailable, match="no reachable Sentinel") as waiting:
            await appender.append(OperationId("42"), ["{}"])
        with pytest.raises(RedisUnavailable, match="no reachable Sentinel") as told:
            blocking.append(OperationId("42"), ["{}"])
    finally:
        await appender.close()
        await topology.close()
        blocking.close()
    for error in (waiting, told):
        assert not isinstance(error.value, WriteUncertain)
