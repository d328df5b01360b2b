"""A collector, and a backend."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from tests.gateway.fixtures import backend, loop_factories
from tests.telemetry.collector import Collector

__all__ = ["backend"]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return loop_factories()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector
