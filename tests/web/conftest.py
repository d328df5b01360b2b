"""Web tests run on uvloop, as a replica does, and on both senders where they ask for `replica`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from tests.harness.fixtures import backend, loop_factories
from tests.harness.replica import Replica
from tests.servers.standalone import Server

__all__ = ["backend"]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return loop_factories()


@pytest.fixture(params=["direct", pytest.param("asgi", marks=pytest.mark.full)])
def sender(request: pytest.FixtureRequest) -> str:
    """Every test that takes it runs over both ways to a socket (one in the quick tier)."""
    return str(request.param)


@pytest.fixture
async def replica(redis_server: Server, sender: str) -> AsyncIterator[Replica]:
    async with Replica(redis_server.url, sender=sender) as replica:
        yield replica
