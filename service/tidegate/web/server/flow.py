"""Both directions of one HTTP connection: whether it is read from, and for how long what was
written may stay unread.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, Protocol

from tidegate.web.server.port import Port

_NO_LINGER = struct.pack("ii", 1, 0)


class DirectWriter(Protocol):
    """Who writes to the transport itself; told what the protocol is told."""

    def paused(self) -> None:
        """The buffer is above its mark."""

    def resumed(self) -> None:
        """It has drained."""

    def lost(self) -> None:
        """The connection is."""


class Reading:
    """Pauses and resumes reading; on a closing transport it does nothing."""

    __slots__ = ("_is_paused", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._is_paused = False

    def pause(self) -> None:
        """Stop reading; what comes waits in the kernel."""
        if not self._is_paused and not self._transport.is_closing():
            self._is_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Continue reading."""
        if self._is_paused and not self._transport.is_closing():
            self._is_paused = False
            self._transport.resume_reading()


class UnreadAnswers:
    """Cuts a connection of whose answers nothing is read in time."""

    def __init__(self, transport: asyncio.Transport, port: Port) -> None:
        self._transport = transport
        self._port = port
        self._is_over = False
        self._clock: asyncio.TimerHandle | None = None
        #: When it was looked at last: how much was unsent, and whether all of it went since.
        self._unsent_bytes = 0
        self._has_drained = False

    def bound(self) -> None:
        """If something is unsent: it has to become less, in time."""
        if self._clock is not None or self._is_over:
            return
        unsent = self._transport.get_write_buffer_size()
        if unsent:
            self._unsent_bytes, self._has_drained = unsent, False
            loop = asyncio.get_running_loop()
            self._clock = loop.call_later(self._port.limits.unread_timeout_s, self._look)

    def drained(self) -> None:
        """More may be written."""
        self._has_drained = True

    def let_go(self) -> None:
        """The connection is lost, or another protocol's."""
        self._is_over = True
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _look(self) -> None:
        self._clock = None
        unsent = self._transport.get_write_buffer_size()
        if unsent and unsent >= self._unsent_bytes and not self._has_drained:
            self._cut()
        else:
            self.bound()

    def _cut(self) -> None:
        self._port.refusals["unread_answer"] += 1
        sock: Any = self._transport.get_extra_info("socket")
        if sock is not None:  # or the kernel keeps what it has for a quarter of an hour
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._transport.abort()
