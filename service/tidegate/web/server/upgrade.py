"""A head that asks for another protocol: a WebSocket handshake, or an upgrade that is not spoken
here and is ignored (RFC 9110 section 7.8).
"""

from __future__ import annotations

import contextlib

import httptools

#: Of a head, for another protocol; neither goes on to the application.
_WORDS = frozenset({b"upgrade", b"http2-settings"})


class Upgrade:
    """Method, target and headers of such a head."""

    def __init__(self, head: bytes) -> None:
        self.target = b""
        #: Names in lower case.
        self.headers: list[tuple[bytes, bytes]] = []
        parser = httptools.HttpRequestParser(self)
        with contextlib.suppress(httptools.HttpParserUpgrade):
            parser.feed_data(head)
        self.method = parser.get_method().decode("ascii")
        self.version = parser.get_http_version()

    def is_websocket(self) -> bool:
        """Whether this is a WebSocket handshake: `GET`, HTTP/1.1, and no other upgrade."""
        upgrades = [value.lower() for name, value in self.headers if name == b"upgrade"]
        return self.version == "1.1" and self.method == "GET" and upgrades == [b"websocket"]

    def head_without(self) -> bytes:
        """Return the head without the upgrade, for the same request."""
        first = f" HTTP/{self.version}\r\n".encode()
        lines = [self.method.encode(), b" ", self.target, first]
        for name, value in self.headers:
            if name == b"connection":
                words = [word.strip() for word in value.split(b",")]
                value = b", ".join(w for w in words if w.lower() not in _WORDS)
            if name not in _WORDS:
                lines += [name, b": ", value, b"\r\n"]
        return b"".join([*lines, b"\r\n"])

    # -- the parser's callbacks -------------------------------------------------------------------

    def on_url(self, url: bytes) -> None:
        """See httptools."""
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools."""
        self.headers.append((name.lower(), value))
