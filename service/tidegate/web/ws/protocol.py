"""uvicorn's sans-I/O WebSocket protocol, with a way past ASGI for sending.

The endpoint finds this protocol in `scope["extensions"]["tidegate.direct"]`, accepts through ASGI,
then takes the socket over with `take_over`: from then on there is no ASGI task, no queue and no
event for it, inbound texts go to a callback and outbound bytes to the transport. Control frames,
ping and the closing handshake stay uvicorn's and websockets' work.

Bound to the uvicorn range in pyproject.toml: the methods overridden here are not a public
interface, so tests/web/ws/test_protocol.py holds them to what is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.protocol import State

from tidegate.core.connection_record import VIEWER_LEFT
from tidegate.model import close_codes
from tidegate.model.close_codes import CloseCode
from tidegate.model.settings import ViewerSettings
from tidegate.web.ws.sender import DirectSender

EXTENSION = "tidegate.direct"
#: The reason of an end by a frame that RFC 6455 does not allow.
PROTOCOL_ERROR = "protocol_error"
#: What is parsed at a time. A read may bring 256 KiB, which are 37,000 frames of one byte and stop
#: the loop for 170 ms; the bounds on messages end the connection after the first of these.
PIECE_BYTES = 1024
#: Parsed after our close, for the peer's answer to it; a flood goes on for longer.
LAST_WORDS_BYTES = 1024


_SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: "
)


class _Void:
    """Stands in for a queue that nobody reads."""

    def put_nowait(self, item: object) -> None:
        """Drop it."""


_VOID: Any = _Void()


class DirectProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection. Use `bind` to make a class with settings for uvicorn's `ws=`."""

    viewer_settings: ViewerSettings
    sender: DirectSender | None = None
    #: Called once, when the connection has ended.
    on_lost: Callable[[], None] | None = None
    _on_text: Callable[[str], None] | None = None
    _small = 0
    _small_since = 0.0
    _accept: bytes | None = None
    _last_words = 0

    # -- for the endpoint ------------------------------------------------------------------------

    def open_sender(self) -> DirectSender:
        """The sender of this socket; only after the handshake was accepted."""
        sender = DirectSender(self)
        if self.disconnected:
            sender.lost()
        else:
            self.sender = sender
        return sender

    def take_over(self, on_text: Callable[[str], None]) -> None:
        """No ASGI from here on; texts go to `on_text`. The application's task may end."""
        if self.disconnected:
            return
        self._on_text = on_text
        self.queue = _VOID
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        # 6 KiB per idle connection that nothing needs any more.
        for name in ("request", "response", "scope"):
            self.__dict__.pop(name, None)

    def send_close(self, code: int, reason: str) -> None:
        """Start the closing handshake; cut the connection if it takes too long."""
        if self.close_sent or self.transport.is_closing():
            return
        self.stop_keepalive()
        if self.conn.state is not State.OPEN:
            return  # its own close came in the same piece, and is answered with the next event
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        timeout = self.viewer_settings.close_timeout_s
        self.close_timer = self.loop.call_later(timeout, self.transport.abort)

    # -- for the handshake -----------------------------------------------------------------------

    def take_handshake(
        self, transport: asyncio.Transport, scope: dict[str, Any], accept: bytes
    ) -> None:
        """Start with a request that was read already; `accept` is its `Sec-WebSocket-Accept`."""
        self.connection_made(transport)
        self.conn.parser.close()
        self.conn.state = State.OPEN
        self.conn.parser = self.conn.parse()  # with the handshake done it begins with frames
        next(self.conn.parser)
        self.scope = cast("Any", scope)
        self._accept = accept
        self.handshake_initiated = True
        self.queue.put_nowait({"type": "websocket.connect"})
        task = self.loop.create_task(self.run_asgi())
        task.add_done_callback(self.on_task_complete)
        self.tasks.add(task)

    async def send(self, message: Any) -> None:
        accept = self._accept
        if accept is None or message["type"] != "websocket.accept":
            if self.close_sent:
                raise ClientDisconnected  # closed by us, which is no mistake of the application's
            await super().send(message)
            return
        self._accept = None
        head = [_SWITCHING, accept]
        if message.get("subprotocol"):
            head += [b"\r\nSec-WebSocket-Protocol: ", message["subprotocol"].encode()]
        head.append(b"\r\n\r\n")
        if not self.transport.is_closing():
            self.handshake_complete = True
            self.transport.write(b"".join(head))
            self.start_keepalive()

    # -- uvicorn's hooks -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        limits = self.viewer_settings
        # uvloop's default low mark is 16 bytes; a socket would wake up for every frame.
        self.transport.set_write_buffer_limits(
            high=limits.high_water_bytes, low=limits.low_water_bytes
        )

    def data_received(self, data: bytes) -> None:
        if len(data) <= PIECE_BYTES and not self.close_sent:
            super().data_received(data)
            return
        for at in range(0, len(data), PIECE_BYTES):
            if self.transport.is_closing() or self._last_words > LAST_WORDS_BYTES:
                return  # the rest is lost with the connection, or when its time to close is over
            piece = data[at : at + PIECE_BYTES]
            if self.close_sent:
                self._last_words += len(piece)
            super().data_received(piece)

    async def run_asgi(self) -> None:
        extensions: dict[str, Any] = self.scope["extensions"]
        extensions[EXTENSION] = self
        try:
            await self.app(self.scope, self.receive, self.send)
        except Exception:
            self.logger.exception("the WebSocket endpoint failed")
            self.send_500_response()
            self._on_text = None
        extensions.clear()  # a cycle through the scope
        if self._on_text is None and self.close_timer is None:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        on_lost, self.on_lost = self.on_lost, None
        if on_lost is not None:
            on_lost()
        self._lost(close_codes.ABNORMAL)
        super().connection_lost(exc)
        # Cycles, which only a full collection would free: the parser is a generator that holds its
        # owner, its error holds the frames it came through, the sender and the session lead here.
        self.conn.parser.close()
        self.conn.parser_exc = None
        self.sender = None
        self._on_text = None

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.sender is not None:
            self.sender.paused()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.sender is not None:
            self.sender.resumed()

    def shutdown(self) -> None:
        self._lost(close_codes.DRAINING)
        super().shutdown()

    def send_receive_event_to_app(self) -> None:
        if self._on_text is None:
            if self.conn.state is State.OPEN:
                super().send_receive_event_to_app()
            else:  # its close came in the same piece; uvicorn 0.54 fails if this cannot be decoded
                self.frames = []
            return
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.close_sent:
            return
        if self.curr_msg_data_type != "text":
            data = b""  # viewers speak in texts; answered as one that cannot be read
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self._refuse(close_codes.INVALID_DATA)
            return
        self._on_text(text)

    def handle_ping(self) -> None:
        if self._too_many() or not self.writable.is_set():
            self.conn.data_to_send()  # it does not read: a pong would only pile up
        else:
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        if not self._too_many():
            super().handle_pong(event)

    def handle_cont(self, event: Frame) -> None:
        if not self._too_many():
            super().handle_cont(event)

    def handle_close(self, event: Frame) -> None:
        said = self.conn.close_rcvd
        if said is not None and self.sender is not None:
            self.sender.record.told(said.code, VIEWER_LEFT)
        self._lost(close_codes.ABNORMAL)
        super().handle_close(event)

    def handle_parser_exception(self) -> None:
        sent = self.conn.close_sent
        if sent is not None and self.sender is not None:
            self.sender.record.told(sent.code, PROTOCOL_ERROR)
        self._lost(close_codes.ABNORMAL)
        super().handle_parser_exception()

    def keepalive_timeout(self) -> None:
        self._lost(close_codes.KEEPALIVE)
        super().keepalive_timeout()
        self.transport.abort()  # its buffer will not drain

    def _too_many(self) -> bool:
        """Bounds the frames that are no message by themselves: pings, pongs, parts of messages."""
        if self.close_sent:
            return True
        now = self.loop.time()
        if now - self._small_since >= 1.0:
            self._small, self._small_since = 0, now
        self._small += 1
        if self._small <= self.viewer_settings.messages_per_s:
            return False
        self._refuse(close_codes.BAD_REQUEST)
        return True

    def _refuse(self, code: CloseCode) -> None:
        self._lost(code)
        self.send_close(code.code, "")
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code.code})

    def _lost(self, code: CloseCode) -> None:
        """It has ended like this, unless it had ended before."""
        if self.sender is not None:
            self.sender.record.closed(code)
            self.sender.lost()


def bind(settings: ViewerSettings) -> type[DirectProtocol]:
    """A protocol class with these settings, for `uvicorn.Config(ws=...)`."""
    return type("BoundDirectProtocol", (DirectProtocol,), {"viewer_settings": settings})
