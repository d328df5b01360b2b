"""`app` is an application on an empty Redis, its manager started; `backend` publishes by XADD."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from tests.harness.fixtures import backend, loop_factories
from tests.legacy_contract.application import Application
from tests.servers.standalone import Server
from tidegate.embed import websockets

__all__ = ["backend"]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return loop_factories()


@pytest.fixture(autouse=True)
def patient_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stands still must not look like a Redis that does not answer."""
    monkeypatch.setattr(websockets, "JOIN_PATIENCE_S", 60.0)


@pytest.fixture
async def app(redis_server: Server) -> AsyncIterator[Application]:
    async with Application(redis_server.url) as app:
        yield app
