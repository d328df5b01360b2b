"""The packed browser client, and a page in Chromium that uses it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.browser import Browser
from tests.clients.package import PageServer, pack
from tests.harness.fixtures import backend, loop_factories
from tests.servers import binaries

__all__ = ["backend"]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return loop_factories()


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the package, as `npm install` would have it."""
    return pack(tmp_path_factory.mktemp("package"))


@pytest.fixture
def pages(package: Path) -> Iterator[PageServer]:
    with PageServer(package) as server:
        yield server


@pytest.fixture
async def browser(pages: PageServer) -> AsyncIterator[Browser]:
    """On the test page, whose `page` is there."""
    program = binaries.browser()
    assert program is not None
    async with Browser(program) as browser:
        await browser.open(f"{pages.origin}/")
        await browser.until("typeof page === 'object'")
        yield browser
