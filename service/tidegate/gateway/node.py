"""What a replica and an embedded gateway share: the parts that follow streams, count connections
and receive messages of other replicas, and their tasks.

`running` owns all tasks. Redis is connected in the background, with exponential backoff and jitter,
so that the start never fails and every loss is recovered without a restart. `leave` releases what
others need not wait for; `close` comes afterwards.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog

from tidegate import __version__
from tidegate.core.slots import Victim
from tidegate.core.survey import OperationSurveyRequest, ReportedFigures, SurveyRequest
from tidegate.gateway.fanout import Fanout
from tidegate.gateway.hub import Hub
from tidegate.gateway.inventory import Inventory
from tidegate.gateway.reporter import ReplicaReporter
from tidegate.gateway.surveys import Surveys
from tidegate.model.errors import RedisUnavailable
from tidegate.model.ids import OperationId
from tidegate.model.settings import Settings
from tidegate.redis import control
from tidegate.redis.address import parse_address
from tidegate.redis.appending import Appender, Retention
from tidegate.redis.cancelling import RedisCanceller
from tidegate.redis.control import Control
from tidegate.redis.feed import RedisFeed
from tidegate.redis.log import RedisLog
from tidegate.redis.pods import LeaseFigures, Pods
from tidegate.redis.slots import RedisSlots
from tidegate.redis.topology import Topology

if TYPE_CHECKING:
    from tidegate.telemetry.entry_spans import EntrySpans

log = structlog.get_logger(__name__)

#: Work that goes on until it is cancelled, and its name.
Standing = tuple[Coroutine[Any, Any, None], str]


class GatewayNode:
    """One process' part of a gateway. Not to be run again."""

    def __init__(
        self,
        settings: Settings,
        *,
        figures: Callable[[], LeaseFigures],
        on_over_limit: Callable[[str, tuple[str, ...]], None],
        on_message: Callable[[control.Message], None],
        on_message_gap: Callable[[], None] = lambda: None,
        on_task: Callable[[asyncio.Task[None]], None] = lambda _: None,
        describe: Callable[[], ReportedFigures] | None = None,
        retention: Retention | None = None,
        tracer: EntrySpans | None = None,
    ) -> None:
        """`figures`: what the operator is told. `on_over_limit`: these connections of this user are
        too many. `on_message`: what is told to all replicas, and is not about an operation;
        `on_message_gap`: some of it may have been missed. `on_task`: a task was made. `describe`:
        this replica, for a survey; by default what is known here.
        """
        self.settings = settings
        self.topology = Topology(parse_address(settings.redis), settings.redis)
        self.log = RedisLog(self.topology, settings)
        fanout = Fanout(asyncio.get_running_loop())
        self.feed = RedisFeed(self.topology, self.log, settings, fanout)
        self.hub = Hub(settings, self.feed, self.log, self.spawn, fanout.wake, tracer=tracer)
        self.pods = Pods(self.topology, settings, figures=figures)
        self.slots = RedisSlots(self.topology, self.pods, settings, on_over_limit)
        self.control = Control(
            self.topology, settings, self._told, on_gap=on_message_gap, on_reply=self._replied
        )
        self.inventory = Inventory(self.hub, self.slots)
        self._figures = figures
        self.surveys = Surveys(
            settings.server.pod,
            control=self.control,
            pods=self.pods,
            reporter=ReplicaReporter(
                self.inventory, hub=self.hub, feed=self.feed, figures=describe or self._describe
            ),
            spawn=self.spawn,
        )
        self.appender = Appender(
            self.topology, settings.redis, settings.dispatch, retention or Retention()
        )
        self.canceller = RedisCanceller(self.topology, self.log, settings)
        self._on_message = on_message
        self._on_task = on_task
        self._tasks = asyncio.TaskGroup()
        self._takes_work = True
        self._started = time.monotonic()

    # -- tasks ------------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self, *more: Standing) -> AsyncIterator[asyncio.TaskGroup]:
        """Keep everything going, and `more`; when it is left that ends, and all else is waited
        for.
        """
        async with self._tasks as tasks:
            standing = [
                self._start(work, name)
                for work, name in (
                    (self.feed.run(), "feed"),
                    (self.pods.run(), "lease"),
                    (self.slots.run(), "slots"),
                    (self.control.run(), "control"),
                    *more,
                )
            ]
            yield tasks
            for task in standing:
                task.cancel()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None] | None:
        """Work for one viewer: what goes wrong with it must not end the others. None: too late."""
        if not self._takes_work:
            work.close()
            return None
        return self._start(_supervise(work, name), name)

    def take_no_more(self) -> None:
        """From now on nothing is spawned."""
        self._takes_work = False

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._tasks.create_task(work, name=name)
        self._on_task(task)
        return task

    # -- the end ----------------------------------------------------------------------------------

    async def leave(self) -> None:
        """Give up what others need not wait for: slots, lease, consumers. Redis may be away by
        now.
        """
        try:
            async with asyncio.timeout(self.settings.redis.reply_timeout_s):
                await self.slots.leave()
                await self.pods.leave()
                await self.feed.leave()
        except (RedisUnavailable, TimeoutError) as error:
            log.warning("failed to release leases on shutdown", error=str(error))

    async def close(self) -> None:
        """Close the connections to Redis."""
        await self.appender.close()
        await self.topology.close()

    # -- other replicas ---------------------------------------------------------------------------

    def say_replaced(self, victims: tuple[Victim, ...]) -> None:
        """These lost their slots to a newer connection; some of them may be elsewhere."""
        connections = tuple(victim.connection for victim in victims)
        _ = self.spawn(self.control.say_replaced(connections), "replaced")

    def _told(self, message: control.Message) -> None:
        match message:
            case control.DisconnectOperation(operation, reason):
                self.hub.disconnect(OperationId(operation), reason)
            case SurveyRequest() | OperationSurveyRequest():
                self.surveys.heard(message)
            case _:
                self._on_message(message)

    def _replied(self, payload: bytes) -> None:
        self.surveys.replied(payload)

    def _describe(self) -> ReportedFigures:
        totals = self.hub.counters
        return ReportedFigures(
            version=__version__,
            uptime_s=time.monotonic() - self._started,
            connections=self._figures().connections,
            entries=totals.entries,
            deliveries=totals.deliveries,
            gaps=totals.gaps.total(),
            redis_connected=self.feed.is_connected,
        )


async def _supervise(work: Coroutine[Any, Any, None], name: str) -> None:
    try:
        await work
    except Exception:
        log.exception("background task failed", task=name)
