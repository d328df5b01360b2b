"""What a server knows of its connections, whatever they speak."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol


class ConnectionRegistry(Protocol):
    """The connections of a server, which is told to end them."""

    def add(self, connection: Any, /) -> None:
        """This one is open."""

    def discard(self, connection: Any, /) -> None:
        """It is not."""


def descriptor(transport: asyncio.Transport) -> int:
    """Of its socket; -1 where there is none."""
    sock: Any = transport.get_extra_info("socket")
    return -1 if sock is None else int(sock.fileno())
