"""A peer that does not take its close is cut off when its time is over: no socket, and a clock that
the test moves.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.harness.clock import run, settle
from tidegate.model import close_codes
from tidegate.model.settings import ViewerSettings
from tidegate.web.ws.protocol import SocketsShared, WebSocketProtocol
from tidegate.web.ws.sender import DirectSender


class Transport(asyncio.Transport):
    """Takes what is written, and knows whether it was cut."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.cuts = 0
        self.limits: tuple[int | None, int | None] = (None, None)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...

    def abort(self) -> None:
        self.cuts += 1

    def close(self) -> None: ...

    def is_closing(self) -> bool:
        return self.cuts > 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limits = (high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


def open_socket(settings: ViewerSettings) -> tuple[WebSocketProtocol, Transport]:
    """A protocol behind its handshake."""
    transport = Transport()
    members: set[WebSocketProtocol] = set()
    return WebSocketProtocol(transport, SocketsShared(settings, members, lambda: None)), transport


@pytest.mark.parametrize("answers", [False, True])
def test_a_peer_that_does_not_answer_its_close_is_cut_in_time(answers: bool) -> None:
    async def main() -> None:
        protocol, transport = open_socket(ViewerSettings(close_timeout_s=5))
        assert transport.limits == (65_536, 16_384)
        sender = protocol.owner = DirectSender(protocol)
        sender.close(close_codes.SLOW)
        sender.close(close_codes.FINISHED)  # the first one counts
        assert transport.written == b"\x88\x02" + close_codes.SLOW.code.to_bytes(2, "big")
        await asyncio.sleep(4.9)
        assert transport.cuts == 0
        if answers:
            protocol.connection_lost(None)
        await asyncio.sleep(0.2)
        assert transport.cuts == (0 if answers else 1)
        if not answers:
            protocol.connection_lost(None)
        await settle()

    run(main())
