"""Fixtures of the Redis tests: a backend on either end of the supported range."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.harness.backend import Backend
from tests.servers.standalone import Server


@pytest.fixture
async def either(any_server: Server) -> AsyncIterator[Backend]:
    """A backend on `any_server`."""
    async with any_server.client() as client:
        yield Backend(client)
