"""A gateway's node in the event loop of an application: what runs behind the manager between
`startup` and `shutdown`.

What is special to it: it runs in a task of its own from its making on, it has no ports, and who has
to go is told to the manager, whose sockets they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

import structlog

from tidegate.core.slots import Victim
from tidegate.gateway.hub import Hub
from tidegate.gateway.node import GatewayNode
from tidegate.model import close_codes
from tidegate.model.close_codes import CloseCode
from tidegate.model.settings import Settings
from tidegate.redis import control
from tidegate.redis.appending import Appender
from tidegate.redis.cancelling import RedisCanceller
from tidegate.redis.pods import LeaseFigures
from tidegate.redis.slots import RedisSlots

log = structlog.get_logger(__name__)

#: Nothing announces the first connection, so it is looked for.
LOOK_EVERY_S = 0.01


@dataclass(frozen=True, slots=True)
class Lost:
    """Connections that have to be closed, by user or by id, and why."""

    code: CloseCode
    reason: str
    user: str | None = None
    connections: frozenset[str] = frozenset()


class Engine:
    """Starts at once; `stop` ends it. Not to be started again."""

    def __init__(
        self, settings: Settings, on_lost: Callable[[Lost], None], count: Callable[[], int]
    ) -> None:
        self._on_lost = on_lost
        self._node = GatewayNode(
            settings,
            figures=lambda: LeaseFigures(connections=count()),
            on_over_limit=self._over_limit,
            on_message=self._told,
        )
        self._stop = asyncio.Event()
        self._running = asyncio.create_task(self._run(), name="tidegate")
        self._begun = asyncio.Event()

    @property
    def settings(self) -> Settings:
        return self._node.settings

    @property
    def hub(self) -> Hub:
        return self._node.hub

    @property
    def slots(self) -> RedisSlots:
        return self._node.slots

    @property
    def appender(self) -> Appender:
        return self._node.appender

    @property
    def canceller(self) -> RedisCanceller:
        return self._node.canceller

    @property
    def is_running(self) -> bool:
        """Whether it works in this event loop; False after `stop`, or when it went wrong inside."""
        return self._running.get_loop() is asyncio.get_running_loop() and not self._running.done()

    @property
    def is_connected(self) -> bool:
        """Whether Redis is there: of a cluster, any part of it."""
        return self._node.feed.is_partly_connected

    async def begun(self) -> None:
        """Until `spawn` may be called; a moment."""
        await self._begun.wait()

    async def connected(self, patience_s: float) -> bool:
        """Wait for Redis, but not longer than this."""
        try:
            async with asyncio.timeout(patience_s):
                while not self._node.feed.is_connected and self.is_running:  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_EVERY_S)
        except TimeoutError:
            return False
        return self._node.feed.is_connected

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None] | None:
        """Work for one viewer: what goes wrong with it must not end the others. None: too late."""
        return self._node.spawn(work, name)

    async def stop(self) -> None:
        """Give up the streams, wait for the viewers' last frames, close the connections."""
        self._node.take_no_more()
        self._stop.set()
        try:
            async with asyncio.timeout(self.settings.server.shutdown_timeout_s):
                await self._running
        except TimeoutError:  # `_running` was cancelled by it
            log.warning("shutdown timed out with pending writes")
        except Exception:
            log.exception("the gateway stopped with an error")
        await self._node.close()

    async def _run(self) -> None:
        async with self._node.running():
            self._begun.set()
            await self._stop.wait()
            await self._node.leave()

    # -- who has to go ----------------------------------------------------------------------------

    def replaced(self, victims: tuple[Victim, ...]) -> None:
        """These lost their slots to a newer connection; some of them may be elsewhere."""
        self._lost(close_codes.REPLACED, "replaced", (victim.connection for victim in victims))
        self._node.say_replaced(victims)

    def _over_limit(self, _user: str, connections: tuple[str, ...]) -> None:
        self._lost(close_codes.CONNECTION_LIMIT, "connection_limit", connections)

    def _told(self, message: control.Message) -> None:
        match message:
            case control.DisconnectUser(user, reason) | control.Revoke(user=user, reason=reason):
                self._on_lost(Lost(close_codes.FORBIDDEN, reason or "disconnected", user=user))
            case control.ReplacedConnections(connections):
                self._lost(close_codes.REPLACED, "replaced", connections)
            case control.Rebalance() | control.DisconnectOperation():
                pass  # the application's balancer is its own affair; the node closes operations

    def _lost(self, code: CloseCode, reason: str, connections: Iterable[str]) -> None:
        self._on_lost(Lost(code, reason, connections=frozenset(connections)))
