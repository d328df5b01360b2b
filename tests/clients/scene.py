"""What the tests in Chromium share: a replica for pages, a page that watches, a backend."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tests.cli.browser import Browser
from tests.clients.package import PageServer
from tests.faults.publisher import Publisher
from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.servers.nginx import Nginx
from tests.servers.proxy import Proxy
from tests.servers.standalone import Server

PAUSE_S = 0.02


def for_pages(redis: Server, pages: PageServer, *, linger_s: float = 5) -> Replica:
    """A replica that the test's pages may connect to."""
    return Replica(redis.url, auth={"origins": [pages.origin]}, topic={"linger_s": linger_s})


def base(place: Replica | Proxy | Nginx) -> str:
    port = place.settings.server.port if isinstance(place, Replica) else place.port
    return f"http://127.0.0.1:{port}"


async def watch(
    browser: Browser, urls: Sequence[str], operations: Sequence[str], *, token: str = ""
) -> None:
    given = json.dumps({"url": urls})
    await browser.evaluate(f"page.start({given}, {json.dumps(operations)}, {json.dumps(token)})")


async def state(browser: Browser, operation: str) -> dict[str, Any]:
    found: dict[str, Any] = await browser.evaluate(f"page.state({operation!r})")
    return found


@asynccontextmanager
async def publishing(
    backend: Backend, operations: Sequence[str]
) -> AsyncIterator[dict[str, Publisher]]:
    """Entries of all operations, one after another, until the block ends; then their ends.

    A write that fails is not repeated: the stream tells what was written (`Publisher.log`).
    """
    publishers = {name: Publisher(backend.client, name) for name in operations}
    over = False

    async def write() -> None:
        while not over:
            for publisher in publishers.values():
                await publisher.write("log")
            await asyncio.sleep(PAUSE_S)

    # It is not cancelled: redis-py can lose a cancellation (see `redis.batches.end_if_cancelled`).
    writing = asyncio.create_task(write())
    try:
        yield publishers
    finally:
        over = True
        await asyncio.gather(writing, return_exceptions=True)
    for publisher in publishers.values():
        await publisher.finish()
