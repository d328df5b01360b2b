"""The parts of a replica without its ports: what runs behind the manager between `startup` and
`shutdown`.

One task owns all others. Redis is looked for in the background with exponential backoff and jitter
from the first moment on, so that `start` never fails and every loss heals without a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

import structlog

from tidegate.core.slots import Victim
from tidegate.gateway.fanout import Fanout
from tidegate.gateway.hub import Hub
from tidegate.model import close_codes
from tidegate.model.close_codes import CloseCode
from tidegate.model.errors import RedisUnavailable
from tidegate.model.ids import OperationId
from tidegate.model.settings import Settings
from tidegate.redis import control
from tidegate.redis.address import parse_address
from tidegate.redis.appending import Appender
from tidegate.redis.control import Control
from tidegate.redis.feed import RedisFeed
from tidegate.redis.log import RedisLog
from tidegate.redis.pods import Figures, Pods
from tidegate.redis.slots import RedisSlots
from tidegate.redis.topology import Topology

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
        self.settings = settings
        self._on_lost = on_lost
        self._topology = Topology(parse_address(settings.redis), settings.redis)
        history = RedisLog(self._topology, settings)
        fanout = Fanout(asyncio.get_running_loop())
        self._feed = RedisFeed(self._topology, history, settings, fanout)
        self.appender = Appender(self._topology, settings.redis, settings.dispatch)
        self.hub = Hub(settings, self._feed, history, self.spawn, fanout.wake)
        pods = Pods(self._topology, settings, figures=lambda: Figures(connections=count()))
        self._pods = pods
        self.slots = RedisSlots(self._topology, pods, settings, self._over_limit)
        self._control = Control(self._topology, settings, self._told)
        self._stop = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._running = asyncio.create_task(self._run(), name="tidegate")
        self._begun = asyncio.Event()

    @property
    def is_running(self) -> bool:
        """Whether it works in this event loop; False after `stop`, or when it went wrong inside."""
        return self._running.get_loop() is asyncio.get_running_loop() and not self._running.done()

    @property
    def is_connected(self) -> bool:
        """Whether Redis is there: of a cluster, any part of it."""
        return any(link.connected for link in self._feed.stats())

    async def begun(self) -> None:
        """Until `spawn` may be called; a moment."""
        await self._begun.wait()

    async def connected(self, patience_s: float) -> bool:
        """Wait for Redis, but not longer than this."""
        try:
            async with asyncio.timeout(patience_s):
                while not self._feed.is_connected and self.is_running:  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_EVERY_S)
        except TimeoutError:
            return False
        return self._feed.is_connected

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None] | None:
        """Work for one viewer: what goes wrong with it must not end the others. None: too late."""
        if self._stop.is_set():
            work.close()
            return None
        return self._tasks.create_task(self._supervise(work, name), name=name)

    async def stop(self) -> None:
        """Give up the streams, wait for the viewers' last frames, close the connections."""
        self._stop.set()
        try:
            async with asyncio.timeout(self.settings.server.shutdown_timeout_s):
                await self._running
        except TimeoutError:  # `_running` was cancelled by it
            log.warning("viewers were still being sent to at shutdown")
        except Exception:
            log.exception("the engine ended with an error")
        await self.appender.close()
        await self._topology.close()

    async def _run(self) -> None:
        async with self._tasks as tasks:
            standing = [
                tasks.create_task(work, name=name)
                for work, name in (
                    (self._feed.run(), "feed"),
                    (self._pods.run(), "lease"),
                    (self.slots.run(), "slots"),
                    (self._control.run(), "control"),
                )
            ]
            self._begun.set()
            await self._stop.wait()
            await self._give_up()
            for task in standing:
                task.cancel()

    async def _give_up(self) -> None:
        """What others need not wait for: slots, lease, consumers."""
        try:
            async with asyncio.timeout(self.settings.redis.reply_timeout_s):
                await self.slots.leave()
                await self._pods.leave()
                await self._feed.leave()
        except (RedisUnavailable, TimeoutError) as error:
            log.warning("left without saying goodbye to redis", error=str(error))

    # -- who has to go ----------------------------------------------------------------------------

    def replaced(self, victims: tuple[Victim, ...]) -> None:
        """These lost their slots to a newer connection; some of them may be elsewhere."""
        connections = tuple(victim.connection for victim in victims)
        self._lost(close_codes.REPLACED, "replaced", connections)
        self.spawn(self._control.say_replaced(connections), "replaced")

    def _over_limit(self, _user: str, connections: tuple[str, ...]) -> None:
        self._lost(close_codes.CONNECTION_LIMIT, "connection_limit", connections)

    def _told(self, message: control.Message) -> None:
        match message:
            case control.DisconnectUser(user, reason) | control.Revoke(user=user, reason=reason):
                self._on_lost(Lost(close_codes.FORBIDDEN, reason or "disconnected", user=user))
            case control.DisconnectOperation(operation, reason):
                self.hub.disconnect(OperationId(operation), reason)
            case control.ReplacedConnections(connections):
                self._lost(close_codes.REPLACED, "replaced", connections)
            case control.Rebalance():
                pass  # the application's balancer is its own affair

    def _lost(self, code: CloseCode, reason: str, connections: Iterable[str]) -> None:
        self._on_lost(Lost(code, reason, connections=frozenset(connections)))

    async def _supervise(self, work: Coroutine[Any, Any, None], name: str) -> None:
        try:
            await work
        except Exception:
            log.exception("a task failed", task=name)
