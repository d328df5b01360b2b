"""A viewer's socket without a network: the replica's own protocol class over a transport that only
remembers.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tidegate.model.close_codes import CLOSE_CODES
from tidegate.model.settings import ViewerSettings
from tidegate.web.ws.protocol import SocketsShared, WebSocketProtocol
from tidegate.web.ws.sender import DirectSender
from tidegate.web.ws.session import Session

#: RFC 6455 section 7.4.1, and the registry it began: what may stand in a close frame.
_MAY_BE_SENT = {1000, 1001, 1002, 1003, *range(1007, 1015)}
_VIEWER = ViewerSettings(max_message_bytes=1024)


class Transport(asyncio.Transport):
    """Only remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.out = bytearray()
        self.closing = False

    def write(self, data: Any) -> None:
        self.out += data

    def close(self) -> None:
        self.closing = True

    abort = close

    def write_eof(self) -> None:
        """Nobody reads."""

    def is_closing(self) -> bool:
        return self.closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Fed without it."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever full here."""

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """Nothing is read."""

    def resume_reading(self) -> None:
        """Nothing is read."""


LOOP = asyncio.new_event_loop()


def feed(data: bytes) -> None:
    """The first byte says in pieces of which size the rest arrives."""
    LOOP.run_until_complete(_feed(data))


async def _feed(data: bytes) -> None:
    transport = Transport()
    members: set[WebSocketProtocol] = set()
    protocol = WebSocketProtocol(transport, SocketsShared(_VIEWER, members, lambda: None))
    sender = protocol.owner = DirectSender(protocol)
    protocol.on_text = Session(sender, _VIEWER.messages_per_s).on_text
    size = data[0] + 1 if data else 1
    for at in range(1, len(data), size):
        if transport.closing:
            break
        protocol.data_received(data[at : at + size])
    protocol.connection_lost(None)
    assert not members
    await asyncio.sleep(0)
    _check(bytes(transport.out))


def _check(rest: bytes) -> None:
    closed = False
    while rest:
        # RFC 6455 section 5.5.1: no data behind a close. A pong may follow (5.5.2).
        assert not closed or rest[0] == 0x8A, "no data follows a close"
        opcode, size, at = rest[0], rest[1], 2
        assert size < 128, "what a server sends is not masked"
        if size == 126:
            size, at = int.from_bytes(rest[2:4], "big"), 4
        payload, rest = rest[at : at + size], rest[at + size :]
        assert len(payload) == size, "a frame is whole"
        if opcode == 0x81:
            assert json.loads(payload)["type"] in ("pong", "error")
        elif opcode == 0x88:
            closed = True
            code = int.from_bytes(payload[:2], "big")
            # A viewer's own code is echoed, if it may be sent at all; none is echoed as none.
            echoed = 3000 <= code < 5000 or code in _MAY_BE_SENT
            assert not payload or code in CLOSE_CODES or echoed, code
        else:
            assert opcode == 0x8A, f"opcode {opcode:#x}"
