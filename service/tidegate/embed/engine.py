"""The parts of a replica without its ports: what runs behind the manager between `startup` and
`shutdown`.

One task owns all others. Redis is looked for in the background with exponential backoff and jitter
from the first moment on, so that `start` never fails and every loss heals without a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from tidegate.gateway.fanout import Fanout
from tidegate.gateway.hub import Hub
from tidegate.model.settings import Settings
from tidegate.redis.address import parse_address
from tidegate.redis.appending import Appender
from tidegate.redis.feed import RedisFeed
from tidegate.redis.log import RedisLog
from tidegate.redis.topology import Topology

log = structlog.get_logger(__name__)

#: Nothing announces the first connection, so it is looked for.
LOOK_EVERY_S = 0.01


class Engine:
    """Starts at once; `stop` ends it. Not to be started again."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._topology = Topology(parse_address(settings.redis), settings.redis)
        history = RedisLog(self._topology, settings)
        fanout = Fanout(asyncio.get_running_loop())
        self._feed = RedisFeed(self._topology, history, settings, fanout)
        self.appender = Appender(self._topology, settings.redis, settings.dispatch)
        self.hub = Hub(settings, self._feed, history, self.spawn, fanout)
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

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Work for one viewer: what goes wrong with it must not end the others."""
        if self._stop.is_set():
            work.close()
            return
        self._tasks.create_task(self._supervise(work, name), name=name)

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
            feed = tasks.create_task(self._feed.run(), name="feed")
            self._begun.set()
            await self._stop.wait()
            await self._feed.leave()
            feed.cancel()

    async def _supervise(self, work: Coroutine[Any, Any, None], name: str) -> None:
        try:
            await work
        except Exception:
            log.exception("a task failed", task=name)
