"""What is written to one HTTP connection: who writes past ASGI, and for how long it may stay unread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol


class DirectWriter(Protocol):
    """Who writes to the transport itself; told what the protocol is told."""

    def paused(self) -> None:
        """The buffer is above its mark."""

    def resumed(self) -> None:
        """It has drained."""

    def lost(self) -> None:
        """The connection is."""


class UnreadAnswers:
    """Cuts a connection of whose answers nothing is read for `timeout_s`."""

    def __init__(
        self, transport: asyncio.Transport, timeout_s: float, on_cut: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._timeout_s = timeout_s
        self._on_cut: Callable[[], None] | None = on_cut
        self._clock: asyncio.TimerHandle | None = None
        #: When it was looked at last: how much was unsent, and whether all of it went since.
        self._unsent_bytes = 0
        self._has_drained = False

    def bound(self) -> None:
        """If something is unsent: it has to become less, in time."""
        if self._clock is not None or self._on_cut is None:
            return
        unsent = self._transport.get_write_buffer_size()
        if unsent:
            self._unsent_bytes, self._has_drained = unsent, False
            loop = asyncio.get_running_loop()
            self._clock = loop.call_later(self._timeout_s, self._look)

    def drained(self) -> None:
        """More may be written."""
        self._has_drained = True

    def let_go(self) -> None:
        """The connection is lost, or another protocol's."""
        self._on_cut = None
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _look(self) -> None:
        self._clock = None
        unsent = self._transport.get_write_buffer_size()
        if unsent and unsent >= self._unsent_bytes and not self._has_drained:
            if self._on_cut is not None:
                self._on_cut()
            self._transport.abort()
        else:
            self.bound()
