"""uvicorn's server, which waits for events wherever uvicorn sleeps: a stop takes no fixed time.

uvicorn 0.54 looks every 0.1 s whether it should end, then sleeps 0.1 s for its connections and
looks every 0.1 s whether they have closed: 0.2 s for each of the two servers of a replica.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import structlog
import uvicorn
from starlette.types import ASGIApp

from tidegate.model.settings import Settings
from tidegate.runtime.listening import BACKLOG
from tidegate.web.http.shutdown_guard import ShutdownGuard

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: How often the `Date` header of answers is made anew.
DATE_S = 1.0
#: What cancelled requests have to write their last answer.
CANCEL_S = 1.0


class _ServerMembers(set[T]):
    """A set that tells when it has become empty. uvicorn's protocols leave it both ways."""

    def __init__(self, on_empty: Callable[[], None]) -> None:
        super().__init__()
        self._on_empty = on_empty

    def discard(self, member: object) -> None:
        super().discard(member)
        if not self:
            self._on_empty()

    def remove(self, member: T) -> None:
        super().remove(member)
        if not self:
            self._on_empty()


class Server(uvicorn.Server):
    """Serves until `stop`; leaves the process's signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = asyncio.Event()
        #: Set when connections are accepted.
        self.listening = asyncio.Event()
        self._changed = asyncio.Event()
        self.server_state.connections = _ServerMembers(self._changed.set)
        self.server_state.tasks = _ServerMembers(self._changed.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        await super().startup(sockets)
        self.listening.set()

    def stop(self) -> None:
        """Accept nothing more, let requests finish for the configured time, and end."""
        self.should_exit = True
        self._stopping.set()

    async def main_loop(self) -> None:
        """Until `stop`; the tick is what makes the `Date` header."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DATE_S):
                    await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the listeners and idle connections; cancel what is at work when time is over."""
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                await self._until_quiet()
        except TimeoutError:
            log.warning(
                "shutdown timed out",
                connections=len(self.server_state.connections),
                requests=len(self.server_state.tasks),
            )
            if cancelled := list(self.server_state.tasks):
                for task in cancelled:
                    task.cancel()
                await asyncio.wait(cancelled, timeout=CANCEL_S)

    async def _until_quiet(self) -> None:
        state = self.server_state
        while state.connections or state.tasks:
            self._changed.clear()
            await self._changed.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Whoever made it handles signals."""
        yield


def make_server(app: ASGIApp, settings: Settings, **options: Any) -> Server:
    """Of one port; `options` are uvicorn's."""
    keep_alive_s: Any = settings.replica.keep_alive_s  # `int`, but any number will do
    config = uvicorn.Config(
        ShutdownGuard(app),
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # `ClientAddress` does it, where it is asked for
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=keep_alive_s,
        timeout_graceful_shutdown=max(1, round(settings.server.shutdown_timeout_s)),
        **options,
    )
    return Server(config)
