"""A collector, a backend, and logging that is put back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from tests.harness.fixtures import backend, loop_factories
from tests.harness.logs import logging_as_before
from tests.telemetry.collector import Collector

__all__ = ["backend"]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return loop_factories()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture(name="logging_as_before")
def put_back() -> Iterator[None]:
    """Whatever a test sets up, the logging of the test run is as it was."""
    with logging_as_before():
        yield
