"""Regression tests run on uvloop, as a replica does, with real sockets and a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from tests.harness.fixtures import backend, loop_factories
from tests.harness.replica import Replica
from tests.servers.standalone import Server

__all__ = ["backend"]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return loop_factories()


@pytest.fixture
async def replica(redis_server: Server) -> AsyncIterator[Replica]:
    async with Replica(redis_server.url) as replica:
        yield replica


@pytest.fixture
async def replicas(redis_server: Server) -> AsyncIterator[list[Replica]]:
    """Three of them, on one Redis."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(Replica(redis_server.url, pod=f"pod-{number}"))
            for number in range(3)
        ]
