"""The time that one connection is without a whole request: its first head, each later head once
it has begun, and between two requests. It may then be ended to make room for another, see `Port`.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from tidegate.web.server.port import Idle, Port


class Waiting(Idle, Protocol):
    """The connection."""

    def head_is_late(self) -> None:
        """Called when the head is not complete in time."""

    def end(self) -> None:
        """Close: no request came within `keep_alive_s`."""


class IdleTime:
    """The timers of one connection."""

    __slots__ = ("_connection", "_head_clock", "_loop", "_port", "_rest_clock")

    def __init__(self, connection: Waiting, port: Port) -> None:
        self._connection: Waiting | None = connection
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._head_clock: asyncio.TimerHandle | None = None
        self._rest_clock: asyncio.TimerHandle | None = None

    def first(self) -> None:
        """Wait for the first head, for `header_timeout_s`."""
        self._port.waiting += 1
        self.first_is_due(self._loop.time() + self._port.limits.header_timeout_s)

    def first_is_due(self, due: float) -> None:
        """Wait for the first head until this loop time; `Port.waiting` counts it already."""
        if self._connection is not None:
            self._head_clock = self._loop.call_at(due, self._connection.head_is_late)
            self._port.idle[self._connection] = None

    def rest(self) -> None:
        """Wait for the next request, for `keep_alive_s`."""
        if self._connection is None or self._head_clock is not None or self._rest_clock is not None:
            return
        self._port.idle[self._connection] = None
        seconds = self._port.limits.keep_alive_s
        self._rest_clock = self._loop.call_later(seconds, self._connection.end)

    def head_begins(self) -> None:
        """Wait for the rest of a head, for `header_timeout_s` from its first byte on."""
        self._stop_rest()
        if self._connection is not None and self._head_clock is None:  # not the first one
            self._port.waiting += 1
            seconds = self._port.limits.header_timeout_s
            self._head_clock = self._loop.call_later(seconds, self._connection.head_is_late)

    def head_is_whole(self) -> None:
        """Stop waiting for a head."""
        if self._head_clock is not None:
            self._head_clock.cancel()
            self._head_clock = None
            self._port.waiting -= 1

    def is_over(self) -> None:
        """Stop all timers: a request has come."""
        self.head_is_whole()
        self._stop_rest()
        if self._connection is not None:
            self._port.idle.pop(self._connection, None)

    def let_go(self) -> None:
        """Stop all timers, and break the reference cycle with the connection."""
        self.is_over()
        self._connection = None

    def _stop_rest(self) -> None:
        if self._rest_clock is not None:
            self._rest_clock.cancel()
            self._rest_clock = None
