"""uvicorn's HTTP protocol with bounds of its own: on heads, on bodies that nobody reads, on
requests sent ahead, on answers that nobody reads, and on time without a request.

What comes is parsed piece by piece (`web.server.pieces`), so that the parser is never further than
the bounds allow. Once enough requests wait behind the one that is answered, the rest of what was
read is held back and nothing more is read.

    data_received -> pieces -> _feed -> parser -> a request's task, or the pipeline
                                 ^                              |
                                 +---- on_response_complete <---+

An upgrade that is not spoken here is ignored (RFC 9110 section 7.8): the parser takes what is
behind such a head for another protocol, so a new one is given the head without the upgrade, and the
body then. Bound to the uvicorn range in pyproject.toml, see tests/web/server/test_http_protocol.py.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from functools import partial
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tidegate.web.access.limits import unavailable
from tidegate.web.problem import last_answer
from tidegate.web.server.connections import descriptor
from tidegate.web.server.cycle import Cycle
from tidegate.web.server.flow import DirectWriter, Flow, UnreadAnswers
from tidegate.web.server.pieces import Pieces
from tidegate.web.server.port import LINGERING_MAX, Port

#: Of a body that nobody reads. More than the loop reads at once (256 KiB), so that one that is to
#: be read has been asked for before.
UNREAD_MAX_BYTES = 1_048_576
#: Requests that may wait behind the one that is answered.
PIPELINE_MAX = 8
#: A refused connection stays for so long: until it asks, and until its answer is read.
LINGER_S = 1.0
#: In a request's `scope["extensions"]`: its connection, for what ASGI has no word for.
CONNECTION = "tidegate.connection"
#: The same: to be called by who reads the body, within bounds of its own.
READS_BODY = "tidegate.reads_body"

_NO_LINGER = struct.pack("ii", 1, 0)
#: Of a head, for another protocol; neither goes on to the application.
_UPGRADE_WORDS = frozenset({b"upgrade", b"http2-settings"})


class HttpProtocol(HttpToolsProtocol):
    """Use `bind_http` to make a class with a port for uvicorn's `http=`."""

    port: Port
    #: Handshakes are taken by `handle_websocket_upgrade`.
    takes_sockets = False
    #: Nothing has come from it.
    _is_new = True
    #: Nothing is parsed any more; what still comes is dropped.
    _is_over = False
    #: No request behind the one that is parsed now.
    _is_last = False
    _pieces: Pieces
    _feeding: asyncio.Handle | None = None
    #: Parsed since the last thing that was whole: a head, a piece of a body, a request. Bounds
    #: heads and trailers, of which the parser keeps everything.
    _unended_bytes = 0
    _head_clock: asyncio.TimerHandle | None = None
    #: Of the request whose body is on its way: how much came, and whether somebody reads it.
    _request = 0
    _body_is_due = False
    _body_is_read = False
    _body_left = 0
    _unread_bytes = 0
    _body_clock: asyncio.TimerHandle | None = None
    #: The request that is answered; `cycle` is the newest one.
    _running: Cycle | None = None
    #: To be sent behind the answers that are due, and then the end.
    _last_answer: bytes | None = None
    _unread: UnreadAnswers
    _linger_clock: asyncio.TimerHandle | None = None
    _dropped_bytes = 0
    #: Who writes the answer past ASGI, if anybody does.
    writer: DirectWriter | None = None

    # -- the connection ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._start(transport)
        reason = self.port.take_in(descriptor(transport))
        if reason is None:
            self._expect_head()
            self.port.idle[self] = None
        else:
            self._refuse(reason)

    def carry_on(self, transport: asyncio.Transport, data: bytes, due: float) -> None:
        """Take over a connection that is counted and waits for its first request, of which `data`
        has come; all of its head is due at this loop time.
        """
        self._start(transport)
        transport.set_protocol(self)
        self._is_new = False
        self._head_clock = self.loop.call_at(due, self._head_is_late)
        self.port.idle[self] = None
        self._pieces.add(data)
        self._feed()

    def refuse(self, transport: asyncio.Transport, reason: str) -> None:
        """Take over a connection that is counted and for which there is no room."""
        self._start(transport)
        transport.set_protocol(self)
        self._refuse(reason)

    def _start(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.flow = Flow(transport, self._goes_on)
        self._pieces = Pieces()
        self._unread = UnreadAnswers(transport, self.port.limits.unread_timeout_s, self._is_unread)

    def connection_lost(self, exc: Exception | None) -> None:
        self.port.left()
        writer, self.writer = self.writer, None
        if writer is not None:
            writer.lost()
        if self._running is not None:
            self._running.disconnect()
        super().connection_lost(exc)
        self._let_go()

    def _let_go(self) -> None:
        """Stop all clocks, and break the cycles that only a full collection would free."""
        self._is_over = True
        self._pieces.clear()
        self._head_is_read()
        self._body_is_over()
        self._unset_keepalive_if_required()
        self.port.idle.pop(self, None)
        if self._feeding is not None:
            self._feeding.cancel()
        if self._linger_clock is not None:
            self._linger_clock.cancel()
            self._linger_clock = None
            self.port.lingering -= 1
        self.pipeline.clear()
        nothing: Any = None
        if isinstance(self.flow, Flow):
            self.flow.let_go()
        self._unread.let_go()
        self.parser = self.cycle = self.scope = nothing
        self._running = None

    def _refuse(self, reason: str) -> None:
        """There is no room for it. It is told so once it asks: clients expect no answer before."""
        self._is_over = True
        self._last_answer = unavailable(reason)
        if reason == "descriptors" or self.port.lingering >= LINGERING_MAX:
            self._write_last()
        else:
            self.port.lingering += 1
            self._linger_clock = self.loop.call_later(LINGER_S, self._end_lingering)

    def _linger(self, size_bytes: int) -> None:
        """Something came; what more comes is dropped, so that the answer is not lost by a reset."""
        if self._last_answer is not None:
            self.transport.write(self._last_answer)
            self.transport.write_eof()
            self._last_answer = None
        self._dropped_bytes += size_bytes
        if self._dropped_bytes > HIGH_WATER_LIMIT:
            self.transport.close()

    def _end_lingering(self) -> None:
        if self._last_answer is None:
            self.transport.abort()
        else:
            self._write_last()

    def make_room(self) -> None:
        """It has no request, and somebody else has: see `Port`."""
        self._is_over = True
        self.transport.abort()

    def shutdown(self) -> None:
        """What has come as a whole is answered, and nothing behind it."""
        self._is_last = True
        if not self._body_is_due:
            self._is_over = True
            self._pieces.clear()
        super().shutdown()

    # -- what comes -------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            if self._linger_clock is not None:
                self._linger(len(data))
            return
        self._pieces.add(data)
        if self._is_new:
            self._is_new = False
            if not self.port.pace.run(self._feed_first):
                self.flow.pause_reading()
        else:
            self._feed()

    def _feed_first(self) -> None:
        """It is the turn of its first request, if it is still there."""
        if not self._is_over:
            self._feed()

    def _goes_on(self) -> bool:
        """Whether more is to be read now; what is held back comes first."""
        if self._is_full():
            return False
        if self._pieces and self._feeding is None:
            self._feeding = self.loop.call_soon(self._feed)
        return not self._pieces

    def _is_full(self) -> bool:
        """Whether enough is kept for requests that are not answered yet."""
        cycle, waiting = self.cycle, self.pipeline
        if not waiting:  # only a body that nobody takes
            return (
                self._body_is_due
                and not cycle.response_complete
                and len(cycle.body) > HIGH_WATER_LIMIT
            )
        return (
            len(waiting) >= PIPELINE_MAX
            or sum(len(one.body) for one, _ in waiting) > HIGH_WATER_LIMIT
        )

    def _feed(self) -> None:
        self._feeding = None
        self._is_over = self._is_over or self.transport.is_closing()
        while self._pieces and not self._is_over:
            if self._is_full():
                self.flow.pause_reading()
                return
            self._parse(self._pieces.next(self._body_left))
        if self._is_over:
            self._pieces.clear()
        elif self._body_is_due and not self._body_is_read:
            self._bound_body()
        self.flow.resume_reading()

    def _parse(self, piece: bytes) -> None:
        self._unended_bytes += len(piece)
        most = self.port.limits.header_max_bytes
        if not self._body_is_due and self._unended_bytes > most:
            self._end_with("header_size", 431, f"the request head has more than {most} bytes")
            return
        try:
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade:
                self._upgrade()
        except httptools.HttpParserError:
            text = "not an HTTP/1.1 request"
            if self._body_is_due:
                self._refuse_body("bad_request", 400, text)
            else:
                self._end_with("bad_request", 400, text)
        if self._body_is_due and self._unended_bytes > most:  # trailers, or between two chunks
            self._refuse_body("header_size", 431, f"the trailers have more than {most} bytes")

    def _upgrade(self) -> None:
        """The parser will not go on behind this head."""
        if self.scope["method"] == "CONNECT":
            self._end_with("bad_request", 501, "CONNECT is not supported")
        elif self._is_websocket():
            self.handle_websocket_upgrade()
        else:
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self.parser.feed_data(self._head_without_upgrade())

    def _is_websocket(self) -> bool:
        """Whether this is a handshake; with another method, version or word it is a request."""
        if not self.takes_sockets or self.scope["http_version"] != "1.1":
            return False
        upgrades = [value for name, value in self.headers if name == b"upgrade"]
        return self.scope["method"] == "GET" and [v.lower() for v in upgrades] == [b"websocket"]

    def _head_without_upgrade(self) -> bytes:
        scope = self.scope
        first = f" HTTP/{scope['http_version']}\r\n".encode()
        lines = [scope["method"].encode(), b" ", self.url, first]
        for name, value in self.headers:
            if name == b"connection":
                words = [word.strip() for word in value.split(b",")]
                value = b", ".join(w for w in words if w.lower() not in _UPGRADE_WORDS)
            if name not in _UPGRADE_WORDS:
                lines += [name, b": ", value, b"\r\n"]
        return b"".join([*lines, b"\r\n"])

    # -- the parser's callbacks -------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._unset_keepalive_if_required()
        self._request += 1
        scope: Any = self.scope
        scope["extensions"] = {
            CONNECTION: self,
            READS_BODY: partial(self._reads_body, self._request),
        }
        if self._head_clock is None:  # not the first request of this connection
            self._expect_head()

    def on_headers_complete(self) -> None:
        parser, scope = self.parser, self.scope
        scope["method"] = parser.get_method().decode("ascii")
        scope["http_version"] = parser.get_http_version()
        if parser.should_upgrade():
            return  # see `_upgrade`
        self._unended_bytes = 0
        self._head_is_read()
        self.port.idle.pop(self, None)
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope["path"] = self.root_path + (unquote(path) if "%" in path else path)
        scope["raw_path"] = self.root_path.encode("ascii") + url.path
        scope["query_string"] = url.query or b""
        keep_alive = scope["http_version"] == "1.1" and parser.should_keep_alive()
        self._is_last = self._is_last or not keep_alive
        self._body_is_due = True
        self._body_is_read = False
        self._body_left = self._told_length()
        self._unread_bytes = 0
        waits = not self._is_idle()
        self.cycle = cycle = self._new_cycle(keep_alive=keep_alive)
        if waits:
            self.pipeline.appendleft((cycle, self.app))
        else:
            self._run(cycle)

    def on_body(self, body: bytes) -> None:
        self._unended_bytes = 0
        self._unread_bytes += len(body)
        self._body_left = max(0, self._body_left - len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._unended_bytes = 0
        self._body_is_over()
        self._is_over = self._is_last
        super().on_message_complete()
        self._rest()

    def _told_length(self) -> int:
        told = [value for name, value in self.headers if name == b"content-length"]
        return int(told[0]) if told else 0  # the parser has checked that it is a number

    # -- requests and their answers ---------------------------------------------------------------

    def _new_cycle(self, *, keep_alive: bool) -> Cycle:
        return Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )

    def _run(self, cycle: Any) -> None:
        self._running = cycle
        task = self.loop.create_task(cycle.run_asgi(self.app))
        task.add_done_callback(self._answered)
        self.tasks.add(task)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._unread.bound()

    def _is_idle(self) -> bool:
        """Every request so far is answered."""
        cycle: Any = self.cycle
        return cycle is None or cycle.response_complete

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.pipeline:
            cycle, _ = self.pipeline.pop()
            self._run(cycle)
            if cycle is self.cycle and self._body_is_due and not self._body_is_read:
                self._bound_body()
        elif self._last_answer is not None:
            self._write_last()
        else:
            self._rest()
        self.flow.resume_reading()

    def _rest(self) -> None:
        """If there is nothing to do: wait for the next request, but not for ever."""
        if self._body_is_due or self._head_clock is not None or not self._is_idle():
            return
        if not self._is_over and self.timeout_keep_alive_task is None:
            self.port.idle[self] = None
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _end_with(self, code: str, status: int, detail: str, *, retry: bool = False) -> None:
        """An answer behind all that are due, and the end; nothing more is parsed."""
        self.port.refusals[code] += 1
        self._is_over = True
        self._head_is_read()
        self._body_is_over()
        self._last_answer = last_answer(status, code, detail, retry=retry)
        if self._is_idle():
            self._write_last()

    def _write_last(self) -> None:
        if self._last_answer is not None and not self.transport.is_closing():
            self.transport.write(self._last_answer)
            self.transport.close()
            self._unread.bound()

    # -- time for a head --------------------------------------------------------------------------

    def _expect_head(self) -> None:
        self.port.waiting += 1
        self._head_clock = self.loop.call_later(
            self.port.limits.header_timeout_s, self._head_is_late
        )

    def _head_is_read(self) -> None:
        if self._head_clock is not None:
            self._head_clock.cancel()
            self._head_clock = None
            self.port.waiting -= 1

    def _head_is_late(self) -> None:
        if self._is_idle():
            self.port.refusals["header_time"] += 1
            self.transport.abort()
        else:  # what was asked for before it is answered
            self._end_with(
                "header_time", 408, "the request head did not arrive in time", retry=True
            )

    # -- bodies that nobody reads -----------------------------------------------------------------

    def _bound_body(self) -> None:
        """It is not here as a whole, and nobody has asked for it."""
        if self._unread_bytes > UNREAD_MAX_BYTES:
            self._refuse_body("body_size", 413, "this request takes no body")
        elif self._body_clock is None and self.cycle is self._running:
            self._body_clock = self.loop.call_later(
                self.port.limits.header_timeout_s,
                self._refuse_body,
                *("body_time", 408, "the body did not arrive in time"),
            )

    def _reads_body(self, request: int) -> None:
        if request == self._request:
            self._body_is_read = True
            self._stop_body_clock()

    def _body_is_over(self) -> None:
        self._body_is_due = False
        self._body_left = 0
        self._stop_body_clock()

    def _stop_body_clock(self) -> None:
        if self._body_clock is not None:
            self._body_clock.cancel()
            self._body_clock = None

    def _refuse_body(self, code: str, status: int, detail: str) -> None:
        cycle: Any = self.cycle
        if cycle.response_started:  # and now the rest of its answer is lost, or was sent
            self.port.refusals[code] += 1
            self._is_over = True
            self._body_is_over()
            self.transport.close()
            return
        if self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()  # not begun
            self.cycle = self.pipeline[0][0] if self.pipeline else self._running  # type: ignore[assignment]
        else:
            cycle.disconnect()
            self.cycle = None  # type: ignore[assignment]
        self._end_with(code, status, detail, retry=status == 408)

    # -- answers that nobody reads ----------------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread.bound()
        if self.writer is not None:
            self.writer.paused()

    def resume_writing(self) -> None:
        self._unread.drained()
        super().resume_writing()
        if self.writer is not None:
            self.writer.resumed()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._unread.bound()

    def _is_unread(self) -> None:
        self.port.refusals["unread_answer"] += 1
        sock: Any = self.transport.get_extra_info("socket")
        if sock is not None:  # or the kernel keeps what it has for a quarter of an hour
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


def bind_http(port: Port) -> type[HttpProtocol]:
    """A protocol class with this port, for `uvicorn.Config(http=...)`."""
    return type("BoundHttpProtocol", (HttpProtocol,), {"port": port})
