"""`backend` looks into Redis; `reporters` makes reporters, and closes them after the test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest

from tests.harness.fixtures import backend, loop_factories
from tidegate.integrations import TaskReporter

__all__ = ["backend"]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return loop_factories()


class Make(Protocol):
    def __call__(self, redis: Any, **options: Any) -> TaskReporter: ...


@pytest.fixture
def reporters() -> Iterator[Make]:
    made: list[TaskReporter] = []

    def make(redis: Any, **options: Any) -> TaskReporter:
        made.append(TaskReporter(redis, **options))
        return made[-1]

    yield make
    for reporter in made:
        reporter.close(0)
