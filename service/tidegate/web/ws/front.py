"""The first protocol of each connection to the public port: it counts the connection, waits for its
first data, and hands it over.

If the data begins with a complete, valid WebSocket handshake, the `Acceptor` takes over. Otherwise
the bounded HTTP protocol does, with the data that was read. It hands the remaining handshakes to
the `Acceptor`: those that arrive in pieces, follow an answered request, or are invalid.

    accepted --no room--> HTTP, which refuses it
    accepted --first data, after waiting for its turn--> WebSocket or HTTP
    accepted --no data in time--> closed
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

#: RFC 9112 section 3 and RFC 9110 section 5.5, without exceptions: everything else is left to the
#: HTTP parser.
_HEAD = re.compile(
    rb"GET (/[!-~]*) HTTP/1\.1\r\n"
    rb"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)+)\r\n"
)
_BLANK = b" \t"


class _Ordinary(NamedTuple):
    """A handshake, and the data after it."""

    target: bytes
    headers: RawHeaders
    key: bytes
    behind: bytes


def read_handshake(data: bytes, max_bytes: int) -> _Ordinary | None:
    """The complete, valid handshake at the beginning of `data`; None for anything else."""
    found = _HEAD.match(data, 0, max_bytes)
    if found is None:
        return None
    headers = []
    upgrade = connection = b""  # a comma before each: two headers are a list, not one word
    for line in found[2][:-2].split(b"\r\n"):
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(_BLANK)
        headers.append((name, value))
        if name == b"upgrade":
            upgrade += b"," + value
        elif name == b"connection":
            connection += b"," + value
    if upgrade.lower() != b",websocket":
        return None
    if connection.lower() != b",upgrade" and b"upgrade" not in [
        word.strip(_BLANK) for word in connection.lower().split(b",")
    ]:
        return None
    key = find_key(headers)
    return None if key is None else _Ordinary(found[1], headers, key, data[found.end() :])


class BoundedHttp(Protocol):
    """The HTTP protocol that connections are handed to."""

    def carry_on(self, transport: asyncio.Transport, data: bytes, due: float) -> None:
        """Take over a connection that is counted and waits for its first request, of which `data`
        has arrived; the whole head is due at this time of the event loop.
        """

    def refuse(self, transport: asyncio.Transport, reason: str) -> None:
        """Take over a connection that is counted, and refuse it for this reason."""


class FrontShared:
    """What all connections of a port share; `http` creates the protocol of one connection."""

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
    """The asyncio protocol of a connection until it is handed over."""

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
        """Count the connection, and refuse it if there is no room."""
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
        """Part of the first request, which is read when it is this connection's turn."""
        if self._is_over:
            return
        port = self._shared.port
        if self._data:  # its turn has not come
            self._data += data
        else:
            self._data = data
            if port.pace.run(self._first):
                return
        if not self._is_paused and len(self._data) > port.limits.header_max_bytes:
            self._is_paused = True
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """Nothing to do: the transport closes itself."""

    def pause_writing(self) -> None:
        """Nothing to do: only a refusal is written here, and nothing after it."""

    def resume_writing(self) -> None:
        """As `pause_writing`."""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - as asyncio has it
        """Stop counting the connection."""
        if not self._is_over:
            self._give_up()
        self._shared.port.left()

    def make_room(self) -> None:
        """Close this idle connection, because another one needs its place; see `Port`."""
        self._give_up()
        self._transport.abort()

    def shutdown(self) -> None:
        """Close the connection, because the server shuts down."""
        if not self._is_over:
            self._give_up()
            self._transport.close()

    def _first(self) -> None:
        """Read the first request: it is this connection's turn."""
        if self._is_over:
            return
        shared, transport = self._shared, self._transport
        if self._is_paused:
            transport.resume_reading()
        request = read_handshake(self._data, shared.port.limits.header_max_bytes)
        data, self._data = self._data, b""
        self._give_up()
        if request is None:
            shared.port.waiting += 1  # it still waits: the HTTP protocol counts it from now on
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
        """Stop waiting: cancel the timer, and unregister."""
        shared = self._shared
        self._is_over = True
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
            shared.port.waiting -= 1
        shared.port.idle.pop(self, None)
        shared.members.discard(self)
