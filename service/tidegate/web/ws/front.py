"""The first protocol of each connection of the public port: it counts the connection, waits for
the first data, and gives the connection away.

A whole ordinary WebSocket handshake goes to the `Acceptor`. Everything else goes to the bounded
HTTP protocol with what was read already; that one gives handshakes away, too: those that come in
pieces, behind an answered request, or with a mistake in them.

    accepted --no room--> HTTP, which says so
    accepted --first data, when it is its turn--> WebSocket or HTTP
    accepted --nothing in time--> cut
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import NamedTuple, Protocol

from tidegate.web.access.limits import ConnectionLimiter, unavailable
from tidegate.web.server.connections import ConnectionRegistry, descriptor
from tidegate.web.server.port import Port
from tidegate.web.ws.acceptor import Acceptor, RawHeaders, find_key

#: RFC 9112 section 3 and RFC 9110 section 5.5, strictly: what differs is for the HTTP parser.
_HEAD = re.compile(
    rb"GET (/[!-~]*) HTTP/1\.1\r\n"
    rb"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)+)\r\n"
)
_BLANK = b" \t"


class _Ordinary(NamedTuple):
    """A handshake, and what stands behind it."""

    target: bytes
    headers: RawHeaders
    key: bytes
    behind: bytes


def read_handshake(data: bytes, max_bytes: int) -> _Ordinary | None:
    """A whole ordinary handshake at the beginning of `data`; None for anything else."""
    found = _HEAD.match(data, 0, max_bytes)
    if found is None:
        return None
    headers = []
    upgrade = connection = b""
    for line in found[2][:-2].split(b"\r\n"):
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(_BLANK)
        headers.append((name, value))
        if name == b"upgrade":
            upgrade += value
        elif name == b"connection":
            connection += value
    if upgrade.lower() != b"websocket":
        return None
    if connection.lower() != b"upgrade" and b"upgrade" not in [
        word.strip(_BLANK) for word in connection.lower().split(b",")
    ]:
        return None
    key = find_key(headers)
    return None if key is None else _Ordinary(found[1], headers, key, data[found.end() :])


class BoundedHttp(Protocol):
    """Who speaks HTTP."""

    def carry_on(self, transport: asyncio.Transport, data: bytes, due: float) -> None:
        """Take over a connection that is counted and waits for its first request."""

    def refuse(self, transport: asyncio.Transport, reason: str) -> None:
        """Take over a connection that is counted and for which there is no room."""


class FrontShared:
    """What all connections of a port have in common; `http` makes a protocol for one."""

    __slots__ = ("acceptor", "http", "limiter", "loop", "members", "port")

    def __init__(
        self,
        port: Port,
        limiter: ConnectionLimiter,
        acceptor: Acceptor,
        members: ConnectionRegistry,
        http: Callable[[], BoundedHttp],
    ) -> None:
        self.port = port
        self.limiter = limiter
        self.acceptor = acceptor
        self.members = members
        self.http = http
        self.loop = asyncio.get_running_loop()


class Front:
    """An asyncio protocol."""

    __slots__ = ("_clock", "_data", "_due", "_is_over", "_is_paused", "_shared", "_transport")

    def __init__(self, shared: FrontShared) -> None:
        self._shared = shared
        self._data = b""
        self._is_over = False
        self._is_paused = False
        self._clock: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:
        """It was accepted."""
        shared = self._shared
        port = shared.port
        self._transport = transport
        reason = port.take_in(descriptor(transport))
        if reason is not None:
            self._is_over = True
            shared.http().refuse(transport, reason)
            return
        shared.members.add(self)
        port.waiting += 1
        port.idle[self] = None
        self._due = shared.loop.time() + port.limits.header_timeout_s
        self._clock = shared.loop.call_at(self._due, self._is_late)

    def data_received(self, data: bytes) -> None:
        """Something of its first request."""
        if self._is_over:
            return
        port = self._shared.port
        if self._data:  # its turn has not come
            self._data += data
            if not self._is_paused and len(self._data) > port.limits.header_max_bytes:
                self._is_paused = True
                self._transport.pause_reading()
            return
        self._data = data
        port.pace.run(self._first)

    def eof_received(self) -> None:
        """The transport closes itself."""

    def pause_writing(self) -> None:
        """Of a refusal, behind which nothing is written."""

    def resume_writing(self) -> None:
        """As `pause_writing`."""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - as asyncio has it
        """It is gone."""
        if not self._is_over:
            self._give_up()
        self._shared.port.left()

    def make_room(self) -> None:
        """It has no request, and somebody else has: see `Port`."""
        self._give_up()
        self._transport.abort()

    def shutdown(self) -> None:
        """The server ends."""
        if not self._is_over:
            self._give_up()
            self._transport.close()

    def _first(self) -> None:
        """It is its turn."""
        if self._is_over:
            return
        shared, transport = self._shared, self._transport
        if self._is_paused:
            transport.resume_reading()
        request = read_handshake(self._data, shared.port.limits.header_max_bytes)
        data, self._data = self._data, b""
        self._give_up()
        if request is None:
            shared.port.waiting += 1  # still: it is counted there now
            shared.http().carry_on(transport, data, self._due)
            return
        refusal = shared.limiter.refusal(shared.loop.time())
        if refusal is not None:
            transport.write(unavailable(refusal))
            transport.close()
        elif not transport.is_closing():
            target, headers, key, behind = request
            socket = shared.acceptor.accept(transport, target, headers, key)
            if behind:
                socket.data_received(behind)

    def _is_late(self) -> None:
        self._shared.port.refusals["header_time"] += 1
        self._give_up()
        self._transport.abort()

    def _give_up(self) -> None:
        """Wait for nothing any more."""
        shared = self._shared
        self._is_over = True
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
            shared.port.waiting -= 1
        shared.port.idle.pop(self, None)
        shared.members.discard(self)
