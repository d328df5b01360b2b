"""A server that ends quiet connections (`timeout`) before they are used again."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers import binaries
from tests.servers.standalone import Options, Server
from tidegate.model.ids import OperationId

TIMEOUT_S = 1


@pytest.mark.real("valkey9")
async def test_a_lease_that_is_renewed_less_often_than_redis_ends_idle_connections_was_lost() -> (
    None
):
    async with (
        Server(binaries.embedded(), Options(config={"timeout": TIMEOUT_S})) as server,
        Replica(server.url, slots={"lease_s": 60, "renew_s": 20}) as replica,
        server.client() as client,
    ):
        pods = replica.runtime._node.pods
        await until(lambda: pods.is_held, "a lease")
        # Whatever it has at rest is gone by now; the link and the control connection talk.
        await until(lambda: _only_busy_ones(client), "idle connections ended")
        await pods.renew()
        await replica.runtime._node.log.locate(OperationId("42"), None)
        assert pods.counts["failures"] == 0


async def _only_busy_ones(client: Redis) -> bool:
    rows = await client.client_list()
    return not [row for row in rows if row["cmd"].startswith(("eval", "hset", "pexpire"))]
