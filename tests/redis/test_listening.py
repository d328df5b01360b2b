"""What a backend hears on one stream, from the first time that it listens."""

from __future__ import annotations

import asyncio

import pytest

from tests.servers.cluster import Cluster
from tests.servers.standalone import Server
from tidegate.model.errors import RedisUnavailable
from tidegate.model.ids import OperationId
from tidegate.model.settings import RedisSettings
from tidegate.redis.publishing import EntryWriter, Listener

REQUESTS = OperationId("requests")
#: Of a wait that something is expected in; it ends as soon as it comes.
PATIENCE_S = 2.0


def hears_what_comes(settings: RedisSettings) -> None:
    with EntryWriter(settings) as writer, Listener(settings, REQUESTS) as listener:
        writer.publish(REQUESTS, "before")
        assert listener.wait(0.001) == []
        writer.publish(REQUESTS, "one")
        writer.publish(REQUESTS, "two")
        assert listener.wait(PATIENCE_S) == ["one", "two"]
        assert listener.wait(0.001) == []
        # A stream that was deleted is another one; its ids are times all the same.
        writer.remove(REQUESTS)
        writer.publish(REQUESTS, "three")
        assert listener.wait(PATIENCE_S) == ["three"]


async def test_each_entry_is_heard_once(any_server: Server) -> None:
    settings = RedisSettings.model_validate({"url": any_server.url})
    await asyncio.to_thread(hears_what_comes, settings)


@pytest.mark.full
async def test_each_entry_is_heard_once_on_a_cluster(cluster: Cluster) -> None:
    settings = RedisSettings.model_validate({"url": cluster.url})
    await asyncio.to_thread(hears_what_comes, settings)


async def test_a_server_that_is_gone_is_an_error_of_ours(redis_server: Server) -> None:
    settings = RedisSettings.model_validate({"url": redis_server.url})
    with Listener(settings, REQUESTS) as listener:
        assert await asyncio.to_thread(listener.wait, 0.001) == []
        await redis_server.kill()
        with pytest.raises(RedisUnavailable):
            await asyncio.to_thread(listener.wait, PATIENCE_S)
