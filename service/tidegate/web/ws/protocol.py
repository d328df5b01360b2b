"""One open WebSocket as an asyncio protocol: without ASGI, and without a task, a queue or an event.

Text messages go to a callback; a sender (`SocketOwner`) writes frames. Frames are parsed by the
sans-I/O protocol of `websockets`, through its public interface. It is created with the first data
that is not a single pong or a single close, so a viewer that only listens has none.

    OPEN --close sent--> CLOSING --close received, or `close_timeout_s`--> ENDED
    OPEN --close received, or a violation of RFC 6455--> ENDED

Invariant: what is parsed after our close is bounded, and no data frame is sent after a close.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Callable
from typing import Protocol, cast

from websockets.frames import Close, Frame, Opcode
from websockets.protocol import SEND_EOF, State
from websockets.server import ServerProtocol

from tidegate.core.connection_record import VIEWER_LEFT, ConnectionRecord
from tidegate.model import close_codes
from tidegate.model.close_codes import CloseCode
from tidegate.model.settings import ViewerSettings
from tidegate.web.server.connections import ConnectionRegistry
from tidegate.web.ws.keepalive import NOWHERE, Keepalive

#: The reason of a connection that ended because of a frame that RFC 6455 does not allow.
PROTOCOL_ERROR = "protocol_error"
#: How much is parsed at a time. A read may return 256 KiB, which can be 37,000 frames of one byte
#: and would block the event loop for 170 ms; the limits on messages end the connection after the
#: first piece.
PIECE_BYTES = 1024
#: How much is parsed after our close, to find the peer's close; the rest is ignored.
LAST_WORDS_BYTES = 1024

_log = logging.getLogger("websockets.server")
#: How frames of a client begin (RFC 6455 section 5.2): a pong with a payload of four bytes, a close
#: with a code, and one without; by the length of the frame.
_PONG, _CLOSE, _BARE_CLOSE = b"\x8a\x84", b"\x88\x82", b"\x88\x80"
_SMALL = {10: _PONG, 8: _CLOSE, 6: _BARE_CLOSE}
#: The codes with which browsers close; all others are checked by websockets.
_USUAL_CODES = (1000, 1001)
_NO_CODE = 1005


class SocketOwner(Protocol):
    """Sends on a socket, and is notified of its state."""

    record: ConnectionRecord

    @property
    def writable(self) -> bool:
        """Whether the buffer of the transport is below its high-water mark."""

    def paused(self) -> None:
        """The buffer has passed its high-water mark."""

    def resumed(self) -> None:
        """The buffer has drained below its low-water mark."""

    def lost(self) -> None:
        """The socket has ended: nothing can be sent any more."""


class Phase(enum.Enum):
    """The phase of a socket; see the module."""

    OPEN = enum.auto()
    CLOSING = enum.auto()
    ENDED = enum.auto()


class SocketsShared:
    """What all sockets of a port share.

    Attributes:
        on_end: called when a socket has ended.
    """

    __slots__ = ("keepalive", "loop", "members", "on_end", "settings")

    def __init__(
        self, settings: ViewerSettings, members: ConnectionRegistry, on_end: Callable[[], None]
    ) -> None:
        self.settings = settings
        self.members = members
        self.on_end = on_end
        self.keepalive = Keepalive(settings.ping_interval_s, settings.ping_timeout_s)
        self.loop = asyncio.get_running_loop()


class _Inbound:
    """What a socket needs once its peer has sent more than a single pong or close."""

    __slots__ = ("conn", "is_text", "last_words", "parts", "small", "small_since")

    def __init__(self, max_size: int) -> None:
        self.conn = ServerProtocol(state=State.OPEN, max_size=max_size, logger=_log)
        #: The fragments of an incomplete message.
        self.parts: list[bytes] = []
        self.is_text = False
        #: Pings, unexpected pongs and fragments in the second that began at `small_since`.
        self.small = 0
        self.small_since = 0.0
        #: Bytes parsed after our close.
        self.last_words = 0


class WebSocketProtocol:
    """The asyncio protocol of a socket after its handshake."""

    __slots__ = (
        "_close_timer",
        "_inbound",
        "_shared",
        "on_text",
        "owner",
        "phase",
        "slot",
        "transport",
    )

    def __init__(self, transport: asyncio.Transport, shared: SocketsShared) -> None:
        """Take over `transport`, and start its keepalive."""
        self.transport = transport
        self._shared = shared
        self.owner: SocketOwner | None = None
        self.on_text: Callable[[str], None] | None = None
        self.phase = Phase.OPEN
        self.slot = NOWHERE
        self._inbound: _Inbound | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        limits = shared.settings
        # uvloop's default low-water mark is 16 bytes: a socket would be resumed for each frame.
        transport.set_write_buffer_limits(limits.high_water_bytes, limits.low_water_bytes)
        transport.set_protocol(cast("asyncio.Protocol", self))
        shared.members.add(self)
        shared.keepalive.start(self)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """See `Pinged`."""
        return self._shared.loop

    # -- for the owner ---------------------------------------------------------------------------

    def send_close(self, code: int, reason: str) -> None:
        """Start the closing handshake; the connection is aborted after `close_timeout_s`."""
        if self.phase is not Phase.OPEN or self.transport.is_closing():
            return
        shared = self._shared
        shared.keepalive.stop(self)
        conn = self._reading().conn
        if conn.state is not State.OPEN:
            return  # its own close was in the same piece, and is answered after that
        self.phase = Phase.CLOSING
        conn.send_close(code, reason)
        self.transport.write(b"".join(conn.data_to_send()))
        timeout = shared.settings.close_timeout_s
        self._close_timer = shared.loop.call_later(timeout, self.transport.abort)

    # -- for the server --------------------------------------------------------------------------

    def shutdown(self) -> None:
        """Close without waiting for the closing handshake, because the server shuts down."""
        if self.phase is Phase.OPEN:
            self._end(close_codes.DRAINING.code, close_codes.DRAINING.name)
            self.send_close(close_codes.DRAINING.code, "")
        self._stop_clocks()
        self.transport.close()

    # -- for the transport -----------------------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - as asyncio has it
        """Notify the owner, and release everything."""
        self.phase = Phase.ENDED
        self._stop_clocks()
        self._end(close_codes.ABNORMAL.code, close_codes.ABNORMAL.name)
        self._shared.members.discard(self)
        self._shared.on_end()
        # Break reference cycles, which only a full garbage collection would free: the parser is a
        # generator that holds `conn`, its error holds stack frames, and `on_text` leads here.
        if self._inbound is not None:
            vars(self._inbound.conn).clear()
            self._inbound = None
        self.on_text = None

    def eof_received(self) -> None:
        """Nothing to do: the transport closes itself."""

    def pause_writing(self) -> None:
        """The buffer has passed its high-water mark."""
        if self.owner is not None:
            self.owner.paused()

    def resume_writing(self) -> None:
        """The buffer has drained below its low-water mark."""
        if self.owner is not None:
            self.owner.resumed()

    def data_received(self, data: bytes) -> None:
        """Parse data, which may end anywhere in a frame."""
        if self._inbound is None and _SMALL.get(len(data)) == data[:2] and self._is_read(data):
            return
        inbound = self._reading()
        if len(data) <= PIECE_BYTES and self.phase is Phase.OPEN:
            self._parse(inbound, data)
            return
        for at in range(0, len(data), PIECE_BYTES):
            if self.phase is Phase.ENDED or inbound.last_words > LAST_WORDS_BYTES:
                return  # the rest is ignored; the connection ends after `close_timeout_s`
            piece = data[at : at + PIECE_BYTES]
            if self.phase is Phase.CLOSING:
                inbound.last_words += len(piece)
            self._parse(inbound, piece)

    # -- for the keepalive -----------------------------------------------------------------------

    def send_ping(self, payload: bytes) -> bool:
        """See `Pinged`."""
        if self.phase is not Phase.OPEN or self.transport.is_closing():
            return False
        self.transport.write(Frame(Opcode.PING, payload).serialize(mask=False))
        return True

    def keepalive_timeout(self) -> None:
        """See `Pinged`."""
        code = close_codes.KEEPALIVE
        self._end(code.code, code.name)
        if self.phase is Phase.OPEN and not self.transport.is_closing():
            self.phase = Phase.ENDED
            self.transport.write(_close_frame(code.code, "keepalive ping timeout"))
            self.transport.close()
        self.transport.abort()  # the buffer will not drain

    # -- inside ----------------------------------------------------------------------------------

    def _reading(self) -> _Inbound:
        inbound = self._inbound
        if inbound is None:
            inbound = self._inbound = _Inbound(self._shared.settings.max_message_bytes)
        return inbound

    def _is_read(self, data: bytes) -> bool:
        """Handle a single complete pong or close, which is all that most viewers send; False if it
        has to be parsed by websockets.
        """
        if self.phase is not Phase.OPEN:
            return False
        mask = data[2:6]
        payload = bytes(byte ^ mask[at] for at, byte in enumerate(data[6:]))
        if len(data) == 10:
            return self._shared.keepalive.answered(self, payload)
        code = int.from_bytes(payload) if payload else _NO_CODE
        if payload and code not in _USUAL_CODES:
            return False
        self._leave(code, VIEWER_LEFT, b"\x88%c%b" % (len(payload), payload))
        return True

    def _parse(self, inbound: _Inbound, data: bytes) -> None:
        conn = inbound.conn
        conn.receive_data(data)
        replies = conn.data_to_send()
        code, reason = 0, PROTOCOL_ERROR
        for frame in conn.events_received():
            if not isinstance(frame, Frame):
                continue  # a request, before the handshake
            match frame.opcode:
                case Opcode.PING:
                    self._too_many(inbound)
                case Opcode.PONG:
                    if not self._shared.keepalive.answered(self, bytes(frame.data)):
                        self._too_many(inbound)
                case Opcode.CLOSE:
                    code, reason = Close.parse(frame.data).code, VIEWER_LEFT
                case _:
                    self._on_data(inbound, frame)
        if SEND_EOF in replies:
            self._leave(code or _code_of(replies), reason, b"".join(replies))
        elif self.phase is Phase.OPEN and (self.owner is None or self.owner.writable):
            self.transport.write(b"".join(replies))
        # else it does not read or a close was sent: replies would only fill the buffer

    def _on_data(self, inbound: _Inbound, frame: Frame) -> None:
        if frame.opcode is not Opcode.CONT:
            inbound.is_text = frame.opcode is Opcode.TEXT
            inbound.parts = [bytes(frame.data)]
        elif self._too_many(inbound):
            return
        else:
            inbound.parts.append(bytes(frame.data))
        if not frame.fin:
            return
        data = b"".join(inbound.parts)
        inbound.parts = []
        if self.phase is not Phase.OPEN or self.on_text is None:
            return
        if not inbound.is_text:
            data = b""  # viewers send text messages only; handled as an invalid one
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self._refuse(close_codes.INVALID_DATA)
            return
        self.on_text(text)

    def _too_many(self, inbound: _Inbound) -> bool:
        """Count a ping, an unexpected pong or a fragment, and refuse too many per second."""
        if self.phase is not Phase.OPEN:
            return True
        now = self._shared.loop.time()
        if now - inbound.small_since >= 1.0:
            inbound.small, inbound.small_since = 0, now
        inbound.small += 1
        if inbound.small <= self._shared.settings.messages_per_s:
            return False
        self._refuse(close_codes.BAD_REQUEST)
        return True

    def _refuse(self, code: CloseCode) -> None:
        self._end(code.code, code.name)
        self.send_close(code.code, "")

    def _leave(self, code: int, reason: str, reply: bytes) -> None:
        """End the connection: the peer has sent a close, or data that RFC 6455 does not allow."""
        transport = self.transport
        if self.phase is Phase.OPEN:
            self._end(code, reason)
        self.phase = Phase.ENDED
        self._stop_clocks()
        if transport.is_closing():
            return
        if transport.get_write_buffer_size():  # the peer may never read what precedes the reply
            shared = self._shared
            timeout = shared.settings.close_timeout_s
            self._close_timer = shared.loop.call_later(timeout, transport.abort)
        if reply:
            transport.write(reply)
        transport.close()

    def _end(self, code: int, reason: str) -> None:
        """Record the end and notify the owner, once."""
        owner, self.owner = self.owner, None
        if owner is not None:
            owner.record.told(code, reason)
            owner.lost()

    def _stop_clocks(self) -> None:
        self._shared.keepalive.stop(self)
        if self._close_timer is not None:
            self._close_timer.cancel()
            self._close_timer = None


def _close_frame(code: int, reason: str) -> bytes:
    return Frame(Opcode.CLOSE, Close(code, reason).serialize()).serialize(mask=False)


def _code_of(replies: list[bytes]) -> int:
    """The code of the close frame among the replies."""
    closes = [reply for reply in replies if reply[:1] == b"\x88" and len(reply) >= 4]
    return int.from_bytes(closes[-1][2:4]) if closes else close_codes.ABNORMAL.code
