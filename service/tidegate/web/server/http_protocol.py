"""HTTP of one connection, within bounds: on heads, on bodies that nobody reads, on requests sent
ahead, on answers that nobody reads, and on time without a request.

What comes is read piece by piece (`web.server.pieces`), so that nothing is further than the bounds
allow. Each request is answered by a uvicorn protocol of its own (`web.server.exchange`); what comes
behind it waits as bytes until it is answered, and when these are many, nothing more is read.

    data_received -> pieces -> _feed -> framing -> an exchange --answered--> _feed
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tidegate.web.problem import last_answer
from tidegate.web.server.answering import Answering
from tidegate.web.server.connections import ConnectionRegistry, descriptor
from tidegate.web.server.exchange import Exchange, addresses_of
from tidegate.web.server.flow import DirectWriter, Reading, UnreadAnswers
from tidegate.web.server.framing import Framing, NotHttp
from tidegate.web.server.idle_time import IdleTime
from tidegate.web.server.lingering import Lingering
from tidegate.web.server.pieces import Pieces
from tidegate.web.server.port import Port
from tidegate.web.server.unread_body import UnreadBody
from tidegate.web.server.upgrade import Upgrade

#: Of what waits behind the request that is answered; more stays in the kernel. One that sends less
#: is read from, so that it is noticed when it goes.
AHEAD_MAX_BYTES = 65_536

#: Makes what makes a protocol for each connection of a server.
Bind = Callable[[Answering, ConnectionRegistry], Callable[[], Any]]


class HttpProtocol(asyncio.Protocol):
    """The asyncio protocol of one HTTP connection; see `bind_http`."""

    #: Handshakes are taken by `handle_handshake`.
    takes_sockets = False
    #: Who writes the answer past ASGI, if anybody does.
    writer: DirectWriter | None = None
    transport: asyncio.Transport
    is_write_paused = False
    #: No request behind the newest one.
    is_last = False
    #: Nothing has come from it.
    _is_new = True
    #: Nothing is parsed any more; what still comes is dropped.
    _is_over = False
    #: What comes from now on is dropped; what has come as a whole is answered.
    _is_shut = False
    _lingering: Lingering | None = None
    _feeding: asyncio.Handle | None = None
    #: What is parsed now came before the answer to the request in front of it.
    _is_ahead = False
    #: The request that is not answered.
    _exchange: Exchange | None = None

    def __init__(self, port: Port, answering: Answering, members: ConnectionRegistry) -> None:
        self.port = port
        self._answering = answering
        self._members = members
        self._loop = asyncio.get_running_loop()
        self._pieces = Pieces()
        self._framing = Framing()
        self._idle = IdleTime(self, port)
        self._body = UnreadBody(self, port)
        self._reading: Reading
        self._unread: UnreadAnswers
        self._addresses: dict[str, object] | None = None

    # -- the connection ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, and wait for its first request or refuse it."""
        self._start(transport)
        reason = self.port.take_in(descriptor(transport))
        if reason is None:
            self._idle.first()
        else:
            self._refuse(reason)

    def carry_on(self, transport: asyncio.Transport, data: bytes, due: float) -> None:
        """Take over a connection that is counted and waits for its first request, of which `data`
        has come; all of its head is due at this loop time.
        """
        self._start(transport)
        transport.set_protocol(self)
        self._is_new = False
        self._idle.first_is_due(due)
        self._pieces.add(data)
        self._feed()

    def refuse(self, transport: asyncio.Transport, reason: str) -> None:
        """Take over a connection that is counted and for which there is no room."""
        self._start(transport)
        transport.set_protocol(self)
        self._refuse(reason)

    def _start(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self._members.add(self)
        self._reading = Reading(transport)
        self._unread = UnreadAnswers(transport, self.port)

    def _refuse(self, reason: str) -> None:
        self._is_over = True
        self._lingering = Lingering(self.transport, self.port, reason)
        self._unread.bound()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - as asyncio has it
        """Tell whoever answers, and release everything."""
        self.port.left()
        writer, self.writer = self.writer, None
        if writer is not None:
            writer.lost()
        self._let_go()

    def _let_go(self) -> None:
        """Stop all clocks, and break the cycles that only a full collection would free."""
        self._is_over = True
        self._members.discard(self)
        self._pieces.clear()
        self._idle.let_go()
        self._body.let_go()
        if self._feeding is not None:
            self._feeding.cancel()
        if self._lingering is not None:
            self._lingering.let_go()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.let_go()
        self._framing.let_go()
        self._unread.let_go()

    def make_room(self) -> None:
        """Abort, so that another connection has room; see `Port`."""
        self._is_over = True
        self.transport.abort()

    def shutdown(self) -> None:
        """Answer the requests that are complete, and close behind the last one."""
        self._is_shut = True
        if self._exchange is None:
            self._pieces.clear()
            self.end()
        elif self._framing.is_body_due:
            self.is_last = True
        else:
            self._end_if_shut()

    def end(self) -> None:
        """Close the connection behind what was written."""
        self._is_over = True
        self.transport.close()
        self._unread.bound()

    # -- what comes -------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self._is_over:
            if self._lingering is not None:
                self._lingering.received(len(data))
            return
        if self._is_shut and not self._framing.is_body_due:
            return
        self._pieces.add(data)
        if self._is_new:
            self._is_new = False
            if not self.port.pace.run(self._feed_first):
                self._reading.pause()
        else:
            self._feed()

    def _feed_first(self) -> None:
        """It is the turn of its first request, if it is still there."""
        if not self._is_over:
            self._feed()

    def _feed(self) -> None:
        self._feeding = None
        self._is_over = self._is_over or self.transport.is_closing()
        while self._pieces and not self._is_over and not self._waits():
            self._parse(self._pieces.next(self._framing.body_left))
        if self._is_over:
            self._pieces.clear()
        elif self._framing.is_body_due:
            self._body.bound(self._framing.body_bytes)
        if self._is_shut:
            self._end_if_shut()
        exchange = self._exchange
        if len(self._pieces) > AHEAD_MAX_BYTES or (exchange is not None and exchange.is_full):
            self._reading.pause()
        else:
            self._reading.resume()

    def _waits(self) -> bool:
        """Whether the next piece has to wait for the answer, or for who reads the body."""
        exchange = self._exchange
        return exchange is not None and (exchange.is_full or not self._framing.is_body_due)

    def _parse(self, piece: bytes) -> None:
        framing = self._framing
        if framing.is_body_due:
            self._parse_body(piece)
            return
        most = self.port.limits.header_max_bytes
        if framing.unended_bytes + len(piece) > most:
            self._end_with("header_size", 431, f"the request head has more than {most} bytes")
            return
        try:
            framing.feed(piece)
            if framing.upgrade is not None:
                self._upgrade(framing.upgrade)
        except NotHttp:
            self._end_with("bad_request", 400, "not an HTTP/1.1 request")
            return
        if self._is_over:
            return
        head = framing.take_head()
        if head is not None:
            self._begin(head)
        elif framing.is_in_head:
            self._idle.head_begins()

    def _parse_body(self, piece: bytes) -> None:
        framing, most = self._framing, self.port.limits.header_max_bytes
        try:
            framing.feed(piece)
        except NotHttp:
            self.refuse_body("bad_request", 400, "not an HTTP/1.1 request")
            return
        if framing.is_body_due and framing.unended_bytes > most:  # or between two chunks
            self.refuse_body("header_size", 431, f"the trailers have more than {most} bytes")
            return
        if self._exchange is not None:
            self._exchange.feed(piece)
        if not framing.is_body_due:
            self._request_is_whole()

    def _begin(self, head: bytes) -> None:
        """It is whole."""
        self._idle.is_over()
        self._body.begin()
        self.is_last = self.is_last or not self._framing.keeps_alive
        if self._addresses is None:
            self._addresses = addresses_of(self.transport)
        exchange = self._exchange = Exchange(self, self._addresses, self._framing.version)
        exchange.begin(self._answering.protocol(exchange), head)
        if not self._framing.is_body_due:
            self._request_is_whole()

    def _request_is_whole(self) -> None:
        self._body.is_over()
        self._is_over = self.is_last
        self._rest()

    def _end_if_shut(self) -> None:
        """Behind the last of what came before the shutdown."""
        if self._pieces or self._is_over:
            return
        if self._exchange is None:
            self.end()
        else:
            self.is_last = True
            self._is_over = not self._framing.is_body_due

    def _upgrade(self, upgrade: Upgrade) -> None:
        """The head asks for another protocol. Raises `NotHttp`."""
        if upgrade.method == "CONNECT":
            self._end_with("bad_request", 501, "CONNECT is not supported")
        elif self.takes_sockets and upgrade.is_websocket():
            self.handle_handshake(upgrade)
        else:
            self._framing.ignore_upgrade(upgrade)

    def handle_handshake(self, handshake: Upgrade) -> None:
        """Answer a WebSocket handshake, where `takes_sockets`."""
        raise NotImplementedError

    def go_on(self) -> None:
        """Pass on more of a body, first what waits here."""
        if self._feeding is None:
            self._feeding = self._loop.call_soon(self._feed)

    # -- answers ----------------------------------------------------------------------------------

    def answered(self) -> None:
        """The answer of the newest request is complete: go on with the next one."""
        self._exchange = None
        self._unread.bound()
        if self.transport.is_closing():
            return
        if self.is_last:
            self.end()
            return
        if self._pieces or self._is_shut:
            self._is_ahead = True
            self._feed()
            self._is_ahead = False
        else:
            self._reading.resume()
        self._rest()

    def _rest(self) -> None:
        """If there is nothing to do: wait for the next request, but not for ever."""
        if self._is_over or self._exchange is not None or self._framing.is_body_due:
            return
        self._idle.rest()

    def head_is_late(self) -> None:
        """Abort: no complete head came in time."""
        self.port.refusals["header_time"] += 1
        self.transport.abort()

    def _end_with(self, code: str, status: int, detail: str, *, retry: bool = False) -> None:
        """An answer of our own, and the end; nothing more is parsed."""
        self.port.refusals[code] += 1
        self._idle.head_is_whole()
        self._body.is_over()
        if not self.transport.is_closing():
            self.transport.write(last_answer(status, code, detail, retry=retry))
        self.end()

    # -- bodies that nobody reads -----------------------------------------------------------------

    def body_is_read(self) -> None:
        """The application reads the newest body, within bounds of its own."""
        self._body.is_read()

    def refuse_body(self, code: str, status: int, detail: str) -> None:
        """Refuse the newest body with this status, and end the connection."""
        exchange = self._exchange
        if exchange is None or exchange.has_begun:  # the rest of its answer is lost, or was sent
            self.port.refusals[code] += 1
            self._body.is_over()
            self.end()
            return
        self._exchange = None
        exchange.let_go()
        self._end_with(code, status, detail, retry=status == 408)

    # -- answers that nobody reads ----------------------------------------------------------------

    def pause_writing(self) -> None:
        """See asyncio."""
        self.is_write_paused = True
        if self._exchange is not None:
            self._exchange.pause_writing()
        self._unread.bound()
        if self.writer is not None:
            self.writer.paused()

    def resume_writing(self) -> None:
        """See asyncio."""
        self.is_write_paused = False
        self._unread.drained()
        if self._exchange is not None:
            self._exchange.resume_writing()
        if self.writer is not None:
            self.writer.resumed()


def bind_http(port: Port) -> Bind:
    """Return what makes protocols for this port, for `runtime.server.Server`."""

    def bind(answering: Answering, members: ConnectionRegistry) -> Callable[[], HttpProtocol]:
        return lambda: HttpProtocol(port, answering, members)

    return bind
