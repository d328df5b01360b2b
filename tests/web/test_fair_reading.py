"""One user who reads as much as one may, and another who asks for a little meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.harness.viewer import Viewer
from tests.harness.waiting import until
from tests.servers.standalone import Server
from tests.web.access.test_admission import guarded, token
from tests.web.access.test_admission_http import client_of

ENTRIES = 20_000
CONNECTIONS = 10
#: Pages of the one during a request of the other: 49 and 30 before they were shared, then 4.
PAGES_BETWEEN = 15


@asynccontextmanager
async def sockets(replica: Replica) -> AsyncIterator[None]:
    """All connections of one user, each of which reads the whole log."""
    async with asyncio.TaskGroup() as tasks:
        reading = [tasks.create_task(read_all(replica)) for _ in range(CONNECTIONS)]
        yield
        assert not any(task.done() for task in reading), "nobody has all of it yet"
        for task in reading:
            task.cancel()


async def read_all(replica: Replica) -> None:
    headers = {"Authorization": f"Bearer {token('mallory')}"}
    url = replica.url("long", last_event_id="0-0")
    async with Viewer(url, additional_headers=headers) as viewer:
        async for _ in viewer.socket:
            pass


@asynccontextmanager
async def pages(replica: Replica) -> AsyncIterator[None]:
    """Connections of one user that read large pages without end."""

    async def read_pages() -> None:
        async with client_of(replica, token("mallory")) as client:
            after = ""
            while True:
                answer = await client.get(f"/operations/long/events?limit=500&after={after}")
                answer.raise_for_status()
                page: Any = answer.json()
                after = page["cursor"] if page["more"] else ""

    async with asyncio.TaskGroup() as tasks:
        reading = [tasks.create_task(read_pages()) for _ in range(CONNECTIONS)]
        yield
        for task in reading:
            task.cancel()


@pytest.mark.parametrize("shape", [sockets, pages])
async def test_one_users_reading_went_before_another_users_request(
    redis_server: Server, backend: Backend, shape: Any
) -> None:
    for _ in range(ENTRIES // 1_000):
        await backend.publish_many("long", 1_000, pad=100)
    await backend.publish_many("other", 1_000)
    async with (
        guarded(redis_server, slots={"limit": CONNECTIONS}) as replica,
        client_of(replica, token("ann")) as client,
    ):
        log = replica.runtime._node.log
        async with shape(replica):
            await until(lambda: log.pages > CONNECTIONS, "it is in full swing")
            before = log.pages
            answer = await client.get("/operations/other/events?limit=50")
            between = log.pages - before
            assert len(answer.json()["events"]) == 50
            assert between <= PAGES_BETWEEN
