"""A connection for which there is no room. It is told so once it asks: clients expect no answer
before. Then it stays for a moment, so that the answer is not lost by a reset.
"""

from __future__ import annotations

import asyncio

from tidegate.web.access.limits import unavailable
from tidegate.web.server.port import LINGERING_MAX, Port

#: Until it asks, and until its answer is read.
LINGER_S = 1.0
#: Of what it sends.
DROPPED_MAX_BYTES = 65_536


class Lingering:
    """Refuses one connection, answers its first data, and ends it after `LINGER_S`."""

    def __init__(self, transport: asyncio.Transport, port: Port, reason: str) -> None:
        self._transport = transport
        self._port = port
        self._answer: bytes | None = unavailable(reason)
        self._dropped_bytes = 0
        self._clock: asyncio.TimerHandle | None = None
        if reason == "descriptors" or port.lingering >= LINGERING_MAX:
            self._say()
            transport.close()
        else:
            port.lingering += 1
            self._clock = asyncio.get_running_loop().call_later(LINGER_S, self._end)

    def received(self, size_bytes: int) -> None:
        """Count received bytes, which are dropped; the first ones are answered."""
        if self._clock is None:
            return
        if self._answer is not None:
            self._say()
            self._transport.write_eof()
        self._dropped_bytes += size_bytes
        if self._dropped_bytes > DROPPED_MAX_BYTES:
            self._transport.close()

    def let_go(self) -> None:
        """Stop the timer: the connection is lost."""
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
            self._port.lingering -= 1

    def _end(self) -> None:
        if self._answer is None:
            self._transport.abort()
        else:
            self._say()
            self._transport.close()

    def _say(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not self._transport.is_closing():
            self._transport.write(answer)
