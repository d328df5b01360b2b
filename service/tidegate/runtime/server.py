"""The server of one port: accepts connections, and ends them within the configured time.

It waits for events where uvicorn's own sleeps: a stop takes no fixed time.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any, TypeVar

import structlog
from starlette.types import ASGIApp

from tidegate.model.settings import Settings
from tidegate.runtime.listening import BACKLOG
from tidegate.web.http.shutdown_guard import ShutdownGuard
from tidegate.web.server.answering import Answering
from tidegate.web.server.http_protocol import Bind

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: How often the `Date` header of answers is made anew.
DATE_S = 1.0
#: What cancelled requests have to write their last answer.
CANCEL_S = 1.0


class _Members(set[T]):
    """A set that tells when it has become empty."""

    def __init__(self, on_empty: Callable[[], None]) -> None:
        super().__init__()
        self._on_empty = on_empty

    def discard(self, member: object) -> None:
        super().discard(member)
        if not self:
            self._on_empty()


class Server:
    """Accepts connections of one port until `stop`."""

    def __init__(self, app: ASGIApp, settings: Settings, bind: Bind) -> None:
        """`bind` makes what makes a protocol for each connection."""
        self._stopping = asyncio.Event()
        #: Set when connections are accepted.
        self.listening = asyncio.Event()
        self._changed = asyncio.Event()
        #: Open ones, each with `shutdown`.
        self.connections: set[Any] = _Members(self._changed.set)
        #: Of requests that are at work.
        self.tasks: set[asyncio.Task[None]] = _Members(self._changed.set)
        self._answering = Answering(ShutdownGuard(app), self.tasks)
        self._make = bind(self._answering, self.connections)
        self._patience_s = max(1, round(settings.server.shutdown_timeout_s))

    def stop(self) -> None:
        """Accept nothing more, let requests finish for the configured time, and end."""
        self._stopping.set()

    async def serve(self, listener: socket.socket) -> None:
        """Serve on a bound socket until `stop`; then close it, and end all connections."""
        self._answering.set_date()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._make, sock=listener, backlog=BACKLOG)
        try:
            self.listening.set()
            while not self._stopping.is_set():
                self._answering.set_date()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(DATE_S):
                        await self._stopping.wait()
        finally:
            server.close()
            listener.close()
        await self._end()

    async def _end(self) -> None:
        """Close idle connections; cancel what is at work when time is over."""
        for connection in list(self.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(self._patience_s):
                await self._until_quiet()
        except TimeoutError:
            log.warning(
                "shutdown timed out", connections=len(self.connections), requests=len(self.tasks)
            )
            if cancelled := list(self.tasks):
                for task in cancelled:
                    task.cancel()
                await asyncio.wait(cancelled, timeout=CANCEL_S)

    async def _until_quiet(self) -> None:
        while self.connections or self.tasks:
            self._changed.clear()
            await self._changed.wait()
