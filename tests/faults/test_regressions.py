"""Bugs of the gateway that the fault run found, each reduced to what it takes to show it."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from tests.servers.standalone import Server
from tidegate.model.errors import RedisUnavailable
from tidegate.model.ids import ZERO, OperationId
from tidegate.model.settings import RedisSettings, RedisUrl, Settings
from tidegate.redis.address import parse_address
from tidegate.redis.log import RedisLog
from tidegate.redis.topology import Topology


def test_a_pooled_connection_that_just_broke_does_not_end_the_replica(redis_server: Server) -> None:
    """uvloop raises RuntimeError for a write to a closed transport, and redis-py lets it through.

    It came out of a viewer's catch-up task and took the whole replica down.
    """

    async def read_over_a_broken_connection() -> None:
        settings = Settings(redis=RedisSettings(url=RedisUrl(redis_server.url)))
        topology = Topology(parse_address(settings.redis), settings.redis)
        log = RedisLog(topology, settings)
        operation = OperationId("42")
        try:
            await log.after(operation, ZERO)
            for connection in topology.client.connection_pool._available_connections:  # type: ignore[union-attr]
                connection._writer.transport.abort()
            with pytest.raises(RedisUnavailable):
                await log.after(operation, ZERO)
            assert (await log.after(operation, ZERO)).info.exists is False
        finally:
            await topology.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(read_over_a_broken_connection())
