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
        """Nothing more of it is read."""


class UnreadBody:
    """The newest request's of one connection."""

    __slots__ = ("_clock", "_connection", "_is_read", "_loop", "_port")

    def __init__(self, connection: Refusing, port: Port) -> None:
        self._connection: Refusing | None = connection
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._clock: asyncio.TimerHandle | None = None
        self._is_read = False

    def begin(self) -> None:
        """A request has."""
        self._is_read = False

    def bound(self, size_bytes: int) -> None:
        """So much of it is here, which is not all."""
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
        """By somebody with bounds of his own."""
        self._is_read = True
        self.is_over()

    def is_over(self) -> None:
        """All of it is here, or nothing more is read."""
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def let_go(self) -> None:
        """The connection is lost, or another protocol's."""
        self.is_over()
        self._connection = None
