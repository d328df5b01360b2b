"""Where the requests of one connection begin and end.

It is fed piece by piece (`web.server.pieces`), so that it is never further than the bounds allow.
Nothing is answered here, and nothing of a body is kept.

    between requests --first byte--> head --empty line--> body --its end--> between requests

A head that asks for another protocol is read again (`web.server.upgrade`), and goes on without
that if it is not spoken here: the parser takes what is behind it for another protocol.
"""

from __future__ import annotations

import re
from typing import Any

import httptools

from tidegate.web.server.upgrade import Upgrade

#: The parser has checked that there is one at the most, and that it is a number.
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE)


class NotHttp(Exception):
    """The bytes are not an HTTP request."""


class Framing:
    """Parser of one connection; the attributes describe the newest request."""

    def __init__(self) -> None:
        self._parser = self._new_parser()
        #: Of a head that is not whole.
        self._pieces: list[bytes] = []
        #: A head that is whole, until it is taken.
        self._head: bytes | None = None
        self._target = b""
        #: The first byte of a head is here, the last one is not.
        self.is_in_head = False
        #: The head asks for another protocol; nothing is fed until that is answered or ignored.
        self.upgrade: Upgrade | None = None
        self.is_body_due = False
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
        """Parse the next bytes. Raises `NotHttp`."""
        self.unended_bytes += len(piece)
        if not self.is_body_due:
            self._pieces.append(piece)
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            self.upgrade = Upgrade(b"".join(self._pieces))
        except httptools.HttpParserError:
            raise NotHttp from None

    def take_head(self) -> bytes | None:
        """Return the complete head, once; None before."""
        head, self._head = self._head, None
        return head

    def ignore_upgrade(self, upgrade: Upgrade) -> None:
        """Parse the head again without the upgrade. Raises `NotHttp`."""
        self.upgrade = None
        self._pieces.clear()
        self._parser = self._new_parser()
        self.feed(upgrade.head_without())

    def let_go(self) -> None:
        """Break the reference cycle with the parser; `feed` must not be called any more."""
        nothing: Any = None
        self._parser = nothing
        self._pieces.clear()
        self.is_body_due = False

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    # -- the parser's callbacks -------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """See httptools."""
        self.is_in_head = True
        self._target = b""

    def on_url(self, url: bytes) -> None:
        """See httptools."""
        self._target += url

    def on_headers_complete(self) -> None:
        """See httptools. What is raised here makes it no request."""
        parser = self._parser
        if parser.should_upgrade():
            return
        head = b"".join(self._pieces)
        httptools.parse_url(self._target).path.decode("ascii")
        length = _LENGTH.search(head)
        self.version = parser.get_http_version()
        self.keeps_alive = self.version == "1.1" and parser.should_keep_alive()
        self.is_in_head = False
        self.is_body_due = True
        self.body_bytes = 0
        self.body_left = 0 if length is None else int(length[1])
        self.unended_bytes = 0
        self._head = head
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
