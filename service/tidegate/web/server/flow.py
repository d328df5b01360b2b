"""Both directions of one HTTP connection: when more is read from it, and for how long what was
written may stay unread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from uvicorn.protocols.http.flow_control import FlowControl


class DirectWriter(Protocol):
    """Who writes to the transport itself; told what uvicorn's flow control is told."""

    def paused(self) -> None:
        """The buffer is above its mark."""

    def resumed(self) -> None:
        """It has drained."""

    def lost(self) -> None:
        """The connection is."""


class Flow(FlowControl):
    """uvicorn's, which resumes whenever an application asks for a body; here `goes_on` decides."""

    def __init__(self, transport: asyncio.Transport, goes_on: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._goes_on: Callable[[], bool] | None = goes_on

    def pause_reading(self) -> None:
        if not self._transport.is_closing():
            super().pause_reading()

    def resume_reading(self) -> None:
        """A client that is gone is no reason to fail."""
        if self._goes_on is not None and not self._transport.is_closing() and self._goes_on():
            super().resume_reading()

    def let_go(self) -> None:
        """Break the cycle."""
        self._goes_on = None


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
