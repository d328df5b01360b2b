"""What a supervisor and one of its workers say to each other, over a pair of connected sockets.

    supervisor --Start; Request, Scrape, Died, Stop--> worker
    worker --Serving or CannotServe; Leased, Response, Scraped--> supervisor

Messages are MessagePack with their length in front. Each side takes the end of the other's stream
for its death, and a worker then drains. The pair is inherited: nobody else can speak on it, which
is why the settings may come over it as a pickle.
"""

from __future__ import annotations

import asyncio
import socket

import msgspec

from tidegate.telemetry.metric_merge import FamilyRecord

#: The largest is an answer with 500 operations: some 150 KB.
MESSAGE_MAX_BYTES = 64 * 1_048_576
_LENGTH_BYTES = 4

Headers = list[tuple[bytes, bytes]]


class Start(msgspec.Struct, frozen=True, tag=True):
    """Serve. `settings` is a pickle of `Settings`, `path` is `sys.path`."""

    number: int
    path: list[str]
    settings: bytes


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Drain and end; `hurry`: without waiting."""

    hurry: bool


class Request(msgspec.Struct, frozen=True, tag=True):
    """One of the admin port."""

    id: int
    method: str
    path: str
    raw_path: bytes
    query: bytes
    headers: Headers


class Scrape(msgspec.Struct, frozen=True, tag=True):
    """Tell the metrics."""

    id: int


class Died(msgspec.Struct, frozen=True, tag=True):
    """Another worker is gone without having given up its leases."""

    incarnations: list[str]


class Serving(msgspec.Struct, frozen=True, tag=True):
    """Viewers are served from now on."""


class CannotServe(msgspec.Struct, frozen=True, tag=True):
    """It ends because of this. `by_settings`: they cannot be used, one line for each problem."""

    text: str
    by_settings: bool


class Leased(msgspec.Struct, frozen=True, tag=True):
    """It has a lease under this name from now on."""

    incarnation: str


class Response(msgspec.Struct, frozen=True, tag=True):
    """To a `Request`."""

    id: int
    status: int
    headers: Headers
    body: bytes


class Scraped(msgspec.Struct, frozen=True, tag=True):
    """To a `Scrape`."""

    id: int
    families: list[FamilyRecord]


Message = (
    Start | Stop | Request | Scrape | Died | Serving | CannotServe | Leased | Response | Scraped
)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode


class WorkerChannel:
    """One end. `send` never waits: what is under way is bounded by the admin port's connections."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> WorkerChannel:
        """Takes the socket over."""
        reader, writer = await asyncio.open_unix_connection(sock=end)
        return cls(reader, writer)

    def send(self, message: Message) -> None:
        """To the other side; nothing happens if it is gone."""
        if self._writer.is_closing():  # uvloop raises RuntimeError then
            return
        data = _encode(message)
        self._writer.write(len(data).to_bytes(_LENGTH_BYTES, "big") + data)

    async def flush(self) -> None:
        """Wait until all of it has left, or cannot."""
        try:
            await self._writer.drain()
        except (OSError, RuntimeError):
            pass

    async def receive(self) -> Message | None:
        """The next message; None when the other side is gone."""
        try:
            length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES), "big")
            if length > MESSAGE_MAX_BYTES:
                return None
            message: Message = _decode(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError):
            return None
        return message

    def close(self) -> None:
        """Any number of times."""
        self._writer.close()
