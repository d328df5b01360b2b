"""Answers for clients of HTTP/1.0, which know no chunks (RFC 9112 section 7.1): a body without a
length ends with its connection. uvicorn sends them chunks all the same.
"""

from __future__ import annotations

from typing import Any

import httptools

_CHUNKS = b"transfer-encoding"


class Unchunked:
    """Converts one answer of uvicorn to the form without chunks."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._reason = b""
        self._lines: list[bytes] = []
        self._out: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        """Return what is to be sent for these bytes of uvicorn's."""
        self._parser.feed_data(data)
        out = b"".join(self._out)
        self._out.clear()
        return out

    def let_go(self) -> None:
        """Break the reference cycle with the parser."""
        nothing: Any = None
        self._parser = nothing

    # -- the parser's callbacks -------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """See httptools."""
        self._reason = b""
        self._lines = []

    def on_status(self, reason: bytes) -> None:
        """See httptools."""
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools."""
        if name.lower() != _CHUNKS:
            self._lines += [name, b": ", value, b"\r\n"]

    def on_headers_complete(self) -> None:
        """See httptools."""
        status = self._parser.get_status_code()
        if status >= 200:  # others are for HTTP/1.1, too
            first = b"HTTP/1.1 %d %b\r\n" % (status, self._reason)
            self._out += [first, *self._lines, b"\r\n"]

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._out.append(body)
