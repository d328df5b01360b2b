"""A request's body, read within bounds of size and time.

A body that is refused is read to its end and dropped, so that the client gets to the answer; one
that is far too large, or too slow, is not, and its connection has to be closed. Bodies that nobody
reads are bounded by `web.server.http_protocol`.
"""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from tidegate.web.server.answering import READS_BODY

#: Of a refused body: read and dropped, before the connection is closed instead.
SKIP_MAX_BYTES = 16 * 1_048_576
SKIP_MAX_S = 2.0


class BodyTooLarge(Exception):
    """More bytes than allowed; the rest is still on its way."""


class Body:
    """Of one request."""

    def __init__(self, request: Request) -> None:
        self._receive = request.receive
        told = request.headers.get("content-length", "")
        self._told = int(told[:20]) if told.isascii() and told.isdigit() else 0
        self._is_complete = False
        reads_body = request.scope.get("extensions", {}).get(READS_BODY)
        if reads_body is not None:
            reads_body()

    async def read(self, max_bytes: int, timeout_s: float) -> bytes:
        """All of it.

        Raises:
            BodyTooLarge, TimeoutError
            ClientDisconnect: it ended in the middle.
        """
        if self._told > max_bytes:
            raise BodyTooLarge
        body = bytearray()
        async with asyncio.timeout(timeout_s):
            while not self._is_complete:
                body += await self._part()
                if len(body) > max_bytes:
                    raise BodyTooLarge
        return bytes(body)

    async def skip(self) -> bool:
        """Drop what is left; False: there is too much left, or it does not come."""
        left = SKIP_MAX_BYTES
        try:
            async with asyncio.timeout(SKIP_MAX_S):
                while not self._is_complete and left > 0:
                    left -= len(await self._part())
        except (TimeoutError, ClientDisconnect):
            pass
        return self._is_complete

    async def _part(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self._is_complete = not message.get("more_body", False)
        part: bytes = message.get("body", b"")
        return part
