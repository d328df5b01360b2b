"""One request and its answer: the transport of the uvicorn protocol that answers it.

    HttpProtocol --head, body--> uvicorn's protocol --task--> the application
         ^                             |                          |
         +----- Exchange: write, close +------- is answered ------+

Invariant: when it is let go, neither of the two reaches the connection any more, and no cycle of
references is left.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from tidegate.web.server.unchunked import Unchunked


class Owner(Protocol):
    """The connection of an exchange."""

    transport: asyncio.Transport
    is_last: bool
    is_write_paused: bool

    def answered(self) -> None:
        """Called when the complete answer has been written."""

    def end(self) -> None:
        """Close the connection behind what was written."""

    def body_is_read(self) -> None:
        """The application reads the body, within bounds of its own."""

    def go_on(self) -> None:
        """Pass on more of the body."""


class Exchange(asyncio.Transport):
    """The transport of the uvicorn protocol that answers one request."""

    def __init__(self, owner: Owner, addresses: dict[str, object], version: str) -> None:
        """`addresses` are as `addresses_of` has them."""
        super().__init__(addresses)
        self._owner: Owner | None = owner
        self._inner: asyncio.Protocol | None = None
        self._unchunked = None if version == "1.1" else Unchunked()
        #: The answer has.
        self.has_begun = False
        #: Nothing more of the body is taken now.
        self.is_full = False

    # -- for the connection -----------------------------------------------------------------------

    def begin(self, inner: asyncio.Protocol, head: bytes) -> None:
        """Give the request head to the uvicorn protocol `inner`."""
        self._inner = inner
        inner.connection_made(self)
        if self._owner is not None and self._owner.is_write_paused:
            inner.pause_writing()
        inner.data_received(head)

    def feed(self, piece: bytes) -> None:
        """Pass on a piece of the body."""
        if self._inner is not None:
            self._inner.data_received(piece)

    def pause_writing(self) -> None:
        """As asyncio tells a protocol."""
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """As `pause_writing`."""
        if self._inner is not None:
            self._inner.resume_writing()

    def let_go(self) -> None:
        """Detach both sides: the request is answered, refused, or its client is gone."""
        self._owner = None
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.connection_lost(None)
        if self._unchunked is not None:
            self._unchunked.let_go()

    # -- for the application ----------------------------------------------------------------------

    @property
    def owner(self) -> Owner | None:
        """The connection, while this is not answered and it is not lost."""
        return self._owner

    @property
    def is_last(self) -> bool:
        """The connection ends behind the answer."""
        return self._owner is not None and self._owner.is_last

    def reads_body(self) -> None:
        """See `web.server.answering`."""
        if self._owner is not None:
            self._owner.body_is_read()

    def answered(self) -> None:
        """The answer is complete: detach, and tell the connection."""
        owner = self._owner
        if owner is not None:
            self.let_go()
            owner.answered()

    # -- for uvicorn ------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        """See asyncio."""
        if self._owner is None:
            return
        if self._unchunked is not None:
            data = self._unchunked.feed(data)
        self._owner.transport.write(data)

    def is_closing(self) -> bool:
        """See asyncio."""
        return self._owner is None or self._owner.transport.is_closing()

    def close(self) -> None:
        """See asyncio."""
        if self._owner is not None:
            self._owner.end()

    def pause_reading(self) -> None:
        """See asyncio."""
        self.is_full = True

    def resume_reading(self) -> None:
        """See asyncio."""
        self.is_full = False
        if self._owner is not None:
            self._owner.go_on()


def addresses_of(transport: asyncio.Transport) -> dict[str, object]:
    """`peername` and `sockname` as asyncio has them, without what IPv6 adds to them."""
    found: dict[str, object] = {}
    for name in ("peername", "sockname"):
        value = transport.get_extra_info(name)
        found[name] = value[:2] if isinstance(value, tuple) else value
    return found
