"""A WebSocket client with nothing running in the background: it reads, answers and closes only when
told.

For what a good client cannot show: a browser that does not read, a peer that never answers a ping,
bytes that are no frames. Frames are parsed by websockets' own sans-I/O protocol.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any, Self

from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from tests.harness.viewer import TIMEOUT_S, Json

READ_BYTES = 65_536


class RawViewer:
    """One connection. `await RawViewer.open(url)`; `close` at the end."""

    def __init__(self, sock: socket.socket, url: str) -> None:
        self.sock = sock
        self.protocol = ClientProtocol(parse_uri(url), max_size=None)
        self.received: list[Frame] = []
        self.bytes_read = 0
        self.ended = False

    @classmethod
    async def open(cls, url: str, *, receive_buffer: int = 0) -> Self:
        """Connect and shake hands. A small receive buffer makes the server feel us soon."""
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        try:
            sock.settimeout(0)
            if receive_buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            viewer = cls(sock, url)
            uri = viewer.protocol.uri
            await loop.sock_connect(sock, (uri.host, uri.port))
            viewer.protocol.send_request(viewer.protocol.connect())
            await viewer.answer()
            while not viewer.protocol.events and viewer.protocol.state.name == "CONNECTING":
                await viewer.read()
        except BaseException:
            sock.close()
            raise
        return viewer

    async def read(self) -> int:
        """One read from the socket; how many bytes. Nothing is answered."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(TIMEOUT_S):
            data = await loop.sock_recv(self.sock, READ_BYTES)
        self.bytes_read += len(data)
        if data:
            self.protocol.receive_data(data)
        else:
            self.ended = True
            self.protocol.receive_eof()
        for event in self.protocol.events_received():
            if isinstance(event, Frame):
                self.received.append(event)
            elif isinstance(event, Response):
                assert event.status_code == 101, event
        return len(data)

    async def answer(self) -> None:
        """Send what the protocol has to say: pongs, and the echo of a close."""
        await self.write(b"".join(self.protocol.data_to_send()))

    async def write(self, data: bytes) -> None:
        """Any bytes at all."""
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def until_end(self) -> list[Frame]:
        """Read until the server has ended the connection; its close frame is echoed."""
        try:
            while not self.ended:
                await self.read()
                if self.close_code is not None:
                    await self.answer()
        except ConnectionError:
            self.ended = True
        return self.received

    def take(self) -> list[Json]:
        """The JSON frames read since the last call."""
        found, self.received = self.received, []
        return [json.loads(bytes(f.data)) for f in found if f.opcode is Opcode.TEXT]

    async def next_frames(self, **wanted: Any) -> list[Json]:
        """Read until a JSON frame with these values has come; all since the last call."""
        found: list[Json] = []
        while True:
            new = self.take()
            found += new
            for frame in new:
                if all(frame.get(name) == value for name, value in wanted.items()):
                    return found
            assert not self.ended, f"ended before {wanted}: {found[-3:]}"
            await self.read()

    @property
    def close_code(self) -> int | None:
        """The code in the server's close frame, if one was read."""
        rcvd: Close | None = self.protocol.close_rcvd
        return None if rcvd is None else rcvd.code

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
