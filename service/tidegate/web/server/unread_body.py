"""A request's body that nobody reads, bounded in bytes and in time."""

from __future__ import annotations

import asyncio
from typing import Protocol

from tidegate.web.server.port import Port

#: More than the loop reads at once (256 KiB), so that one that is to be read has been asked for
#: before.
UNREAD_MAX_BYTES = 1_048_576


class Refusing(Protocol):
    """The connection."""

    def refuse_body(self, code: str, status: int, detail: str) -> None:
        """Answer with this status and end the connection."""


class UnreadBody:
    """Bounds the body of the newest request of one connection."""

    __slots__ = ("_clock", "_connection", "_is_read", "_loop", "_port")

    def __init__(self, connection: Refusing, port: Port) -> None:
        self._connection: Refusing | None = connection
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._clock: asyncio.TimerHandle | None = None
        self._is_read = False

    def begin(self) -> None:
        """A new request has begun, and nothing reads its body yet."""
        self._is_read = False

    def bound(self, size_bytes: int) -> None:
        """Check a body of which `size_bytes` came, but not all; start its timer."""
        if self._is_read or self._connection is None:
            return
        if size_bytes > UNREAD_MAX_BYTES:
            self._connection.refuse_body("body_size", 413, "this request takes no body")
        elif self._clock is None:
            self._clock = self._loop.call_later(
                self._port.limits.header_timeout_s,
                self._connection.refuse_body,
                *("body_time", 408, "the body did not arrive in time"),
            )

    def is_read(self) -> None:
        """The application reads it, within bounds of its own."""
        self._is_read = True
        self.is_over()

    def is_over(self) -> None:
        """Stop the timer: the body is complete, or refused."""
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def let_go(self) -> None:
        """Stop the timer, and break the reference cycle with the connection."""
        self.is_over()
        self._connection = None
