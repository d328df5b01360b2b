"""A client of bytes, for requests that no HTTP library would send."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import NamedTuple

PATIENCE_S = 60.0


class Answer(NamedTuple):
    """One answer: its status, its header lines in lower case by name, its body."""

    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *parts: bytes) -> None:
        """All of it, as far as the other side takes it."""
        self.writer.write(b"".join(parts))
        await self.writer.drain()

    async def answer(self) -> Answer:
        """The next answer, with a body by its length or in chunks, else to the end."""
        async with asyncio.timeout(PATIENCE_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.rstrip().split("\r\n")
            headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
            status = int(first.split()[1])
            if "content-length" in headers:
                body = await self.reader.readexactly(int(headers["content-length"]))
            elif headers.get("transfer-encoding") == "chunked":
                body = b""
                while size := int(await self.reader.readline(), 16):
                    body += await self.reader.readexactly(size)
                    await self.reader.readexactly(2)
                await self.reader.readexactly(2)
            elif status in (101, 204, 304):
                body = b""
            else:
                body = await self.reader.read()
        return Answer(status, headers, body)

    async def rest(self) -> bytes:
        """Everything until the other side has ended it, cleanly or not."""
        found = b""
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionError):
                while data := await self.reader.read(65536):
                    found += data
        return found


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Wire]:
    """To a replica of this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


def request(method: str, path: str, *lines: str, body: bytes = b"", version: str = "1.1") -> bytes:
    """A request; with a body its length is told."""
    length = [f"Content-Length: {len(body)}"] if body else []
    head = [f"{method} {path} HTTP/{version}", "Host: localhost", *lines, *length, "", ""]
    return "\r\n".join(head).encode() + body
