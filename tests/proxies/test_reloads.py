"""Each proxy is reloaded and both replicas drained behind it: each entry once, in order.

All proxies at the same time, in front of the same two replicas.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.faults.judge import judge
from tests.faults.publisher import Publisher
from tests.faults.viewer import Viewer
from tests.proxies.conftest import two_replicas
from tests.proxies.programs import FrontProxy, those_here
from tests.servers.tls import Certificates

pytestmark = [pytest.mark.full, pytest.mark.timeout(180)]

VIEWERS = 4
PAUSE_S = 0.02
ARRIVAL_S = 60.0


def _viewer(proxy: FrontProxy, number: int) -> Viewer:
    name = f"{proxy.program}/{number}"
    return Viewer(name, "42", [proxy.address], rng=random.Random(name))


@asynccontextmanager
async def publishing(publisher: Publisher) -> AsyncIterator[None]:
    """Entries one after another until the block ends, and then the last."""
    over = False

    async def write() -> None:
        while not over:
            await publisher.write("log")
            await asyncio.sleep(PAUSE_S)

    writing = asyncio.create_task(write())
    try:
        yield
    finally:
        over = True
        await writing
    await publisher.finish()


async def test_nothing_is_lost_or_comes_twice(certificates: Certificates) -> None:
    present = those_here()
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(two_replicas(certificates))
        client = await stack.enter_async_context(gateway.redis.client())
        proxies = [await stack.enter_async_context(kind(gateway.site)) for kind in present]
        viewers = [_viewer(proxy, number) for proxy in proxies for number in range(VIEWERS)]
        publisher = Publisher(client, "42")
        tasks = [asyncio.create_task(viewer.run(), name=viewer.name) for viewer in viewers]

        async def all_have_the_last() -> None:
            number = publisher.last
            for viewer in viewers:
                await viewer.entry(number, ARRIVAL_S)

        try:
            async with publishing(publisher):
                await publisher.write_surely()
                await all_have_the_last()
                await asyncio.gather(*(proxy.reload() for proxy in proxies))
                await all_have_the_last()
                for replica in gateway.replicas:
                    await replica.stop()
                    await all_have_the_last()
                    await replica.start()
            async with asyncio.timeout(ARRIVAL_S):
                await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        log = await publisher.log()
        wrong = []
        for viewer in viewers:
            verdict = judge(viewer.record, [log], viewer.rules)
            wrong += [f"{viewer.name}: {complaint}" for complaint in verdict.complaints]
            wrong += [f"{viewer.name}: needless {gap}" for gap in viewer.gaps()]
            # Every one was on a replica that was drained, or its proxy has lied about them.
            assert verdict.reconnects >= 1, viewer.name
            assert verdict.entries == len(log)
        assert not wrong, "\n".join(wrong)
