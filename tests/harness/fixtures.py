"""Fixtures over the ones of tests/conftest.py: import them into a conftest to use them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from tests.harness.backend import Backend
from tests.servers.standalone import Server


def loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that `tidegate serve` uses, so that the transports under test are the real ones."""
    try:
        import uvloop
    except ImportError:  # pragma: no cover - Windows, PyPy
        return {"asyncio": asyncio.new_event_loop}
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def backend(redis_server: Server) -> AsyncIterator[Backend]:
    async with redis_server.client() as client:
        yield Backend(client)
