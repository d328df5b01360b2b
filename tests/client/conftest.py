"""`backend` looks into Redis; `publishers` makes either publisher, under one interface."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol

import pytest

from tests.harness.fixtures import backend, loop_factories
from tidegate import AsyncPublisher, Publisher

__all__ = ["backend"]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return loop_factories()


class OffLoop:
    """A synchronous object whose methods are called in a thread: awaitable like the other one."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)
        if not callable(method):
            return method

        async def call(*args: Any, **named: Any) -> Any:
            return await asyncio.to_thread(method, *args, **named)

        return call

    @asynccontextmanager
    async def operation(self, *args: Any, **named: Any) -> AsyncIterator[Any]:
        block = self.inner.operation(*args, **named)
        running = await asyncio.to_thread(block.__enter__)
        try:
            yield OffLoop(running)
        except BaseException as error:
            if not block.__exit__(type(error), error, error.__traceback__):
                raise
        else:
            await asyncio.to_thread(block.__exit__, None, None, None)


class Make(Protocol):
    def __call__(self, redis: Any, **options: Any) -> Any: ...


@pytest.fixture(params=["sync", "async"])
async def publishers(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """`publishers(url, ...)`: a publisher whose methods are awaited; closed after the test."""
    async with AsyncExitStack() as stack:

        def make(redis: Any, **options: Any) -> Any:
            made: Any = (
                OffLoop(Publisher(redis, **options))
                if request.param == "sync"
                else AsyncPublisher(redis, **options)
            )
            stack.push_async_callback(_close, made)
            return made

        yield make


async def _close(publisher: Any) -> None:
    try:
        await publisher.close()
    except Exception:  # noqa: BLE001 - what it held could not be sent: the test killed Redis
        return
