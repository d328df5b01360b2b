"""Bugs of the gateway that the fault run found, each reduced to what it takes to show it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import orjson
import pytest
import uvloop
from websockets.asyncio.client import connect

from tests.faults.publisher import TERMINAL, Publisher
from tests.faults.replicas import Replica
from tests.servers.proxy import Proxy
from tests.servers.standalone import Server
from tidegate.model.errors import RedisUnavailable
from tidegate.model.ids import ZERO, OperationId
from tidegate.model.settings import RedisSettings, RedisUrl, Settings
from tidegate.redis.address import Node, parse_address
from tidegate.redis.link import connect as connect_link
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
            pool: Any = topology.client.connection_pool  # type: ignore[union-attr]
            for connection in pool._available_connections:
                connection._writer.transport.abort()
            with pytest.raises(RedisUnavailable):
                await log.after(operation, ZERO)
            assert (await log.after(operation, ZERO)).info.exists is False
        finally:
            await topology.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(read_over_a_broken_connection())


async def test_a_viewer_that_leaves_while_its_history_is_read_does_not_end_the_replica(
    redis_server: Server,
) -> None:
    """Its first frames were written to a socket that was closed by then."""
    async with AsyncExitStack() as stack:
        link = await stack.enter_async_context(Proxy((redis_server.host, redis_server.port)))
        client = await stack.enter_async_context(redis_server.client())
        settings = {"topic.ring_entries": 10}
        replica = await stack.enter_async_context(Replica(0, f"redis://{link.address}/0", settings))
        publisher = Publisher(client, "42")
        await publisher.write_many(50)
        url = f"ws://{replica.host}:{replica.port}/ws/operations/42"
        async with connect(url, max_queue=None) as first:
            await first.recv()
            link.down.delay(0.1)
            for _ in range(5):
                async with connect(f"{url}?history=all"):
                    pass
            await publisher.finish()
            # One that came later has its history: so those that left were due before.
            async with connect(f"{url}?history=all") as last:
                async for text in last:
                    if orjson.loads(text)["type"] == TERMINAL:
                        break
        await replica.answers("/healthz")
        assert replica.mishaps() == []


async def test_a_slot_that_leaves_during_an_unsubscribe_shifts_no_reply(
    redis_server: Server,
) -> None:
    """The server pushes `sunsubscribe` by itself, then refuses the command with MOVED.

    The push was taken for the confirmation and the refusal for the next command's reply: from then
    on each reply went to the wrong command, so that one operation's entries could reach another's.
    """
    replies: list[Any] = []
    pushes: list[Any] = []
    link, _ = await connect_link(
        Node(redis_server.host, redis_server.port),
        parse_address(RedisSettings(url=RedisUrl(redis_server.url))),
        pushes.append,
        lambda: None,
    )
    try:
        link.unsubscribe("SUNSUBSCRIBE", b"key")
        # What the cluster's server would send, in place of the real one's answers.
        link.send(b"", replies.append)
        link.data_received(b">3\r\n+sunsubscribe\r\n$3\r\nkey\r\n:0\r\n")
        link.data_received(b"-MOVED 16287 127.0.0.1:7000\r\n+PONG\r\n$4\r\nnext\r\n")
        assert replies == [b"next"]
        assert pushes == []
    finally:
        link.abort()
