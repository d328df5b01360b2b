"""The messages between the supervisor and one worker, over a pair of connected sockets.

    supervisor --Start; Request, Scrape, Died, Stop--> worker
    worker --Serving or CannotServe; Leased, Response, Scraped--> supervisor

A message is MessagePack, preceded by its length as 4 bytes (big-endian). Each side treats the end
of the stream as the death of the other; a worker then drains. The sockets are inherited, so no
other process can write to them: that is why the settings may be sent as a pickle.
"""

from __future__ import annotations

import asyncio
import socket

import msgspec

from tidegate.telemetry.metric_merge import FamilyRecord

#: The largest message is a response with 500 operations: about 150 KB. A longer one than the limit
#: ends the channel.
MESSAGE_MAX_BYTES = 64 * 1_048_576
ANSWER_MAX_BYTES = MESSAGE_MAX_BYTES // 2
#: Unsent bytes above which no more requests are sent.
UNREAD_MAX_BYTES = 1_048_576
_LENGTH_BYTES = 4

Headers = list[tuple[bytes, bytes]]


class Start(msgspec.Struct, frozen=True, tag=True):
    """Start to serve. `settings` is a pickle of `Settings`; `path` is `sys.path`, which need not be
    UTF-8.
    """

    number: int
    path: list[bytes]
    settings: bytes


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Drain and exit; `hurry`: without waiting for viewers."""

    hurry: bool


class Request(msgspec.Struct, frozen=True, tag=True):
    """A request to the admin port; it has no body."""

    id: int
    method: str
    path: str
    raw_path: bytes
    query: bytes
    headers: Headers


class Scrape(msgspec.Struct, frozen=True, tag=True):
    """Asks for the metrics."""

    id: int


class Died(msgspec.Struct, frozen=True, tag=True):
    """Another worker has died; its leases are to be released."""

    incarnations: list[str]


class Serving(msgspec.Struct, frozen=True, tag=True):
    """The worker accepts viewers."""


class CannotServe(msgspec.Struct, frozen=True, tag=True):
    """The worker exits with this error. `by_settings`: `text` has a line per invalid setting."""

    text: str
    by_settings: bool


class Leased(msgspec.Struct, frozen=True, tag=True):
    """The worker has acquired a lease."""

    incarnation: str


class Response(msgspec.Struct, frozen=True, tag=True):
    """The response to the `Request` with this id."""

    id: int
    status: int
    headers: Headers
    body: bytes


class Scraped(msgspec.Struct, frozen=True, tag=True):
    """The metrics, in response to the `Scrape` with this id; None if reading them failed."""

    id: int
    families: list[FamilyRecord] | None


Message = (
    Start | Stop | Request | Scrape | Died | Serving | CannotServe | Leased | Response | Scraped
)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode


class WorkerChannel:
    """One end of the channel. `send` never waits: callers check `is_full` before a request, and
    there are as many responses as requests.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> WorkerChannel:
        """A channel on this socket, which it closes."""
        reader, writer = await asyncio.open_unix_connection(sock=end)
        return cls(reader, writer)

    def send(self, message: Message) -> None:
        """Send a message; it is dropped if the other side has closed."""
        if self._writer.is_closing():  # uvloop raises RuntimeError then
            return
        data = _encode(message)
        self._writer.write(len(data).to_bytes(_LENGTH_BYTES, "big") + data)

    @property
    def is_full(self) -> bool:
        """So much is unsent that the other side should get no more requests: it does not read."""
        return self._writer.transport.get_write_buffer_size() > UNREAD_MAX_BYTES

    async def flush(self) -> None:
        """Wait until the send buffer has drained, or the other side has closed."""
        try:
            await self._writer.drain()
        except (OSError, RuntimeError):
            pass

    async def receive(self) -> Message | None:
        """The next message; None if the other side has closed, or sent something invalid."""
        try:
            length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES), "big")
            if length > MESSAGE_MAX_BYTES:
                return None
            message: Message = _decode(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError, msgspec.MsgspecError):
            return None
        return message

    def close(self) -> None:
        """Close the socket; may be called repeatedly."""
        self._writer.close()
