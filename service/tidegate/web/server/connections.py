"""The connections of a server, of any protocol."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol


class ConnectionRegistry(Protocol):
    """The open connections of a server, which ends them at shutdown."""

    def add(self, connection: Any, /) -> None:
        """Register an open connection."""

    def discard(self, connection: Any, /) -> None:
        """Remove a connection; nothing happens if it is not registered."""


def descriptor(transport: asyncio.Transport) -> int:
    """The file descriptor of the transport's socket; -1 without a socket."""
    sock: Any = transport.get_extra_info("socket")
    return -1 if sock is None else int(sock.fileno())
