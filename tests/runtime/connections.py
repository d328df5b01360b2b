"""A connection for tests of what is done to many of them."""

from __future__ import annotations

import asyncio

from tests.harness.clock import START_S
from tidegate.model.close_codes import CloseCode
from tidegate.web.access.limits import Connection, ConnectionLimiter


class FakeConnection:
    """Remembers what it is told, and when."""

    def __init__(self, unsent_bytes: int = 0) -> None:
        self.gone_at = 0.0
        self.after_ms = -1
        self.unsent_bytes = unsent_bytes
        self.aborted: CloseCode | None = None

    def ask_to_reconnect(self, after_ms: int) -> None:
        self.gone_at = asyncio.get_running_loop().time() - START_S
        self.after_ms = after_ms

    def abort(self, code: CloseCode) -> None:
        self.aborted = code
        self.unsent_bytes = 0


def entered(limiter: ConnectionLimiter, *unsent_bytes: int) -> list[FakeConnection]:
    """One connection for each number of unsent bytes."""
    inside = [FakeConnection(size) for size in unsent_bytes]
    for connection in inside:
        as_connection: Connection = connection
        limiter.enter(as_connection)
    return inside
