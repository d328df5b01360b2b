"""Connections on which nothing is published: pings and comments keep them open through a proxy.

All proxies at the same time: the wait is the same for each.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

import pytest
from websockets.asyncio.client import connect

from tests.harness.backend import Backend
from tests.proxies.conftest import two_replicas
from tests.proxies.programs import FrontProxy, those_here
from tests.proxies.test_paths import events, next_entry
from tests.servers.tls import Certificates
from tidegate.client.watching import endpoint

pytestmark = [pytest.mark.full, pytest.mark.timeout(200)]

#: Half as long again as what proxies wait by default, a minute.
IDLE_S = 90.0
OPERATION = "42"


async def _idle(proxy: FrontProxy, opened: asyncio.Barrier, written: asyncio.Event) -> list[str]:
    """The id that each way of watching has received at the end, over the same connection."""
    async with (
        connect(
            endpoint(proxy.url, OPERATION),
            subprotocols=["tidegate.v1"],  # type: ignore[list-item]  # a NewType of str
            ssl=proxy.tls,
            ping_interval=None,
        ) as socket,
        proxy.client(http2=True) as client,
        client.stream("GET", f"/sse/operations/{OPERATION}", timeout=None) as answer,
    ):
        stream = events(answer)
        assert json.loads(await socket.recv())["type"] == "current_state"
        assert (await anext(stream))["type"] == "current_state"
        await opened.wait()
        await written.wait()
        async with asyncio.timeout(20):
            return [json.loads(await socket.recv())["id"], str(await next_entry(stream))]


async def test_nothing_is_closed(certificates: Certificates) -> None:
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(two_replicas(certificates))
        client = await stack.enter_async_context(gateway.redis.client())
        proxies = [await stack.enter_async_context(kind(gateway.site)) for kind in those_here()]
        opened, written = asyncio.Barrier(len(proxies) + 1), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            idle = {
                proxy.program: tasks.create_task(_idle(proxy, opened, written)) for proxy in proxies
            }
            await opened.wait()
            # The only wait for time: that nothing is closed has no event.
            await asyncio.sleep(IDLE_S)
            entry_id = await Backend(client).publish(OPERATION)
            written.set()
        found = {name: task.result() for name, task in idle.items()}
    assert found == {name: [entry_id, entry_id] for name in found}
