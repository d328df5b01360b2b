"""No sockets, no Redis, and time that jumps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.harness.clock import MovedClockLoop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"moved": MovedClockLoop}
