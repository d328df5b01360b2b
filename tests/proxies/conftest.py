"""A gateway of two replicas for the proxies, shared by the tests of a module."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import pytest
import pytest_asyncio

from tests.faults.replicas import Ports, Replica
from tests.proxies.site import HOSTS, Site
from tests.servers import binaries
from tests.servers.ports import free_port
from tests.servers.standalone import Server
from tests.servers.tls import Certificates

#: Requests to cancel of one address and replica, so that a test has used them up soon.
CANCELS = 2
SETTINGS: dict[str, object] = {
    "server.forwarded_allow_ips": "127.0.0.1",
    "cancel.user_burst": CANCELS,
    "cancel.user_per_s": 0.000_001,
    "drain.delay_s": 2,
    "drain.window_s": 1,
    "drain.jitter_s": 0,
}


class Gateway(NamedTuple):
    """Two running replicas, and what proxies must know of them."""

    redis: Server
    replicas: list[Replica]
    site: Site


@asynccontextmanager
async def two_replicas(certificates: Certificates) -> AsyncIterator[Gateway]:
    if sys.platform != "linux":
        pytest.skip("the two replicas are on 127.0.0.11 and 127.0.0.12, which only Linux has")
    ports = Ports(free_port(), free_port())
    async with Server(binaries.embedded()) as redis, AsyncExitStack() as stack:
        replicas = [
            Replica(index, redis.url, SETTINGS, host=host, ports=ports)
            for index, host in enumerate(HOSTS.values())
        ]
        for replica in replicas:
            stack.callback(replica.close)
        await asyncio.gather(*(replica.start() for replica in replicas))
        yield Gateway(redis, replicas, Site(ports, certificates))
        mishaps = [mishap for replica in replicas for mishap in replica.mishaps()]
        assert not mishaps, "\n".join(mishaps)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(certificates: Certificates) -> AsyncIterator[Gateway]:
    async with two_replicas(certificates) as found:
        yield found
