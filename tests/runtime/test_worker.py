"""A worker answers its supervisor whatever goes wrong in what it is asked for."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tidegate.runtime import worker as working
from tidegate.runtime.worker import Worker
from tidegate.runtime.worker_channel import (
    Request,
    Response,
    Scrape,
    Scraped,
    Serving,
    Start,
    WorkerChannel,
)


class Broken(Collector):
    """Metrics that cannot be told at first."""

    def __init__(self) -> None:
        self.fails = True

    def collect(self) -> Iterator[Metric]:
        if self.fails:
            raise RuntimeError("a mistake")
        return iter(())

    def describe(self) -> Iterator[Metric]:
        return iter(())


async def admin(scope: Any, _receive: Any, send: Any) -> None:
    if scope["path"] == "/broken":
        raise RuntimeError("a mistake")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x" * 100})


@asynccontextmanager
async def serving(metrics: Collector) -> AsyncIterator[WorkerChannel]:
    """The supervisor's side."""
    ours, theirs = socket.socketpair()
    supervisor, channel = await WorkerChannel.open(ours), await WorkerChannel.open(theirs)
    registry = CollectorRegistry()
    registry.register(metrics)
    with socket.socket() as public:
        worker = Worker(channel, Start(1, [], b""), public)
        worker.serving(admin, registry)
        listening = asyncio.create_task(worker.listen())
        try:
            assert await supervisor.receive() == Serving()
            yield supervisor
        finally:
            supervisor.close()
            await listening
            channel.close()


async def test_metrics_that_fail_once_are_asked_for_again() -> None:
    metrics = Broken()
    async with serving(metrics) as supervisor:
        supervisor.send(Scrape(1))
        assert await supervisor.receive() == Scraped(1, None)
        metrics.fails = False
        supervisor.send(Scrape(2))
        assert await supervisor.receive() == Scraped(2, [])


@pytest.mark.parametrize("path", ["/broken", "/large"])
async def test_an_answer_that_fails_or_is_too_large_is_told_as_a_mistake(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """The other side would take a message that is too long for the end of this process."""
    monkeypatch.setattr(working, "ANSWER_MAX_BYTES", 99)
    async with serving(Broken()) as supervisor:
        supervisor.send(Request(1, "GET", path, path.encode(), b"", []))
        assert await supervisor.receive() == Response(1, 500, [], b"")
