"""Where the requests of one connection begin and end, and what their heads say.

It is fed piece by piece (`web.server.pieces`), so that it is never further than the bounds allow.
Nothing is answered here, and nothing of a body is kept.

    between requests --first byte--> head --empty line--> body --its end--> between requests

An upgrade that is not spoken here is ignored (RFC 9110 section 7.8): the parser takes what is
behind such a head for another protocol, so a new one is given the head without the upgrade.
"""

from __future__ import annotations

from typing import Any

import httptools

#: Of a head, for another protocol; neither goes on to the application.
_UPGRADE_WORDS = frozenset({b"upgrade", b"http2-settings"})


class NotHttp(Exception):
    """These bytes are no request."""


class Framing:
    """Of one connection. The attributes are those of the newest request."""

    def __init__(self) -> None:
        self._parser = self._new_parser()
        #: Of a head that is not whole.
        self._pieces: list[bytes] = []
        #: A head that is whole, until it is taken.
        self._head: bytes | None = None
        #: The first byte of a head is here, the last one is not.
        self.is_in_head = False
        #: The head asks for another protocol, see `ignore_upgrade`.
        self.is_upgrade = False
        self.is_body_due = False
        self.target = b""
        #: Names in lower case.
        self.headers: list[tuple[bytes, bytes]] = []
        self.method = ""
        self.version = ""
        #: Whether another request may follow.
        self.keeps_alive = False
        #: How much of the body came.
        self.body_bytes = 0
        #: How much of it is due, where it has a length.
        self.body_left = 0
        #: Since the last thing that was whole: a head, a piece of a body, a request. Bounds heads
        #: and trailers, of which the parser keeps everything.
        self.unended_bytes = 0

    def feed(self, piece: bytes) -> None:
        """It came. Raises `NotHttp`."""
        self.unended_bytes += len(piece)
        if not self.is_body_due:
            self._pieces.append(piece)
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            self.is_upgrade = True
        except httptools.HttpParserError:
            raise NotHttp from None

    def take_head(self) -> bytes | None:
        """The head, once, as soon as it is whole."""
        head, self._head = self._head, None
        return head

    def is_websocket(self) -> bool:
        """Whether an upgrade is a handshake; with another method, version or word it is none."""
        upgrades = [value.lower() for name, value in self.headers if name == b"upgrade"]
        return self.version == "1.1" and self.method == "GET" and upgrades == [b"websocket"]

    def ignore_upgrade(self) -> None:
        """Read the head without it. Raises `NotHttp`."""
        text = self._head_without_upgrade()
        self.is_upgrade = False
        self._pieces.clear()
        self._parser = self._new_parser()
        self.feed(text)

    def let_go(self) -> None:
        """Break the cycle with the parser; nothing is fed any more."""
        nothing: Any = None
        self._parser = nothing
        self._pieces.clear()
        self.is_body_due = False

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def _head_without_upgrade(self) -> bytes:
        first = f" HTTP/{self.version}\r\n".encode()
        lines = [self.method.encode(), b" ", self.target, first]
        for name, value in self.headers:
            if name == b"connection":
                words = [word.strip() for word in value.split(b",")]
                value = b", ".join(w for w in words if w.lower() not in _UPGRADE_WORDS)
            if name not in _UPGRADE_WORDS:
                lines += [name, b": ", value, b"\r\n"]
        return b"".join([*lines, b"\r\n"])

    # -- the parser's callbacks -------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """See httptools."""
        self.is_in_head = True
        self.target = b""
        self.headers = []
        self.body_bytes = self.body_left = 0

    def on_url(self, url: bytes) -> None:
        """See httptools."""
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools."""
        name = name.lower()
        if name == b"content-length":
            self.body_left = int(value)  # the parser has checked that it is a number
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """See httptools. What is raised here makes it no request."""
        parser = self._parser
        self.method = parser.get_method().decode("ascii")
        self.version = parser.get_http_version()
        if parser.should_upgrade():
            return
        httptools.parse_url(self.target).path.decode("ascii")
        self.keeps_alive = self.version == "1.1" and parser.should_keep_alive()
        self.is_in_head = False
        self.is_body_due = True
        self.unended_bytes = 0
        self._head = b"".join(self._pieces)
        self._pieces.clear()

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self.unended_bytes = 0
        self.body_bytes += len(body)
        self.body_left = max(0, self.body_left - len(body))

    def on_message_complete(self) -> None:
        """See httptools."""
        if not self._parser.should_upgrade():
            self.unended_bytes = 0
            self.is_body_due = False
            self.body_left = 0
