"""Follows operations wherever their streams live: implements the `Feed` port over one `Primary` per
server.

Routes each operation to the primary that has its key, and moves it when the topology changes. A
move is a detach and an attach like after a lost link, so nothing is missed. Operations whose
primary is not known yet wait here.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any, NamedTuple

import structlog

from tidegate.core.arming import ArmingRules
from tidegate.core.backoff import Backoff
from tidegate.core.clock import ServerClock
from tidegate.core.histogram import Histogram
from tidegate.core.latency import EntryLatency
from tidegate.core.ports import Cork, StreamListener
from tidegate.model.errors import RedisUnavailable, TidegateError
from tidegate.model.ids import OperationId, StreamId
from tidegate.model.settings import Settings
from tidegate.redis import lua
from tidegate.redis.address import Deployment, Node
from tidegate.redis.batches import end_if_cancelled
from tidegate.redis.errors import in_words
from tidegate.redis.link import pack
from tidegate.redis.log import RedisLog
from tidegate.redis.primary import Primary, PrimaryStats
from tidegate.redis.subscription import StreamSubscription
from tidegate.redis.topology import Topology

log = structlog.get_logger(__name__)

#: Between two looks at the topology when nothing has asked for one.
REFRESH_S = 5.0
#: Between two looks that were asked for.
REFRESH_MIN_S = 0.1


class Following(NamedTuple):
    """One stream: where it lives, and this replica's part in dispatching it."""

    node: str | None
    attached: bool
    role: str
    in_flight: bool
    retry_s: float


class RedisFeed:
    """All primaries of a deployment. `run` until cancelled."""

    def __init__(self, topology: Topology, log: RedisLog, settings: Settings, turn: Cork) -> None:
        self._topology = topology
        self._log = log
        #: Has turns of its own, so that viewers who read do not hold up the streams.
        self._pages = RedisLog(topology, settings)
        self._turn = turn
        self._detours: dict[OperationId, asyncio.Task[None]] = {}
        self._settings = settings
        self._primaries: dict[Node, Primary] = {}
        self._tasks: dict[Node, asyncio.Task[None]] = {}
        self._watches: dict[OperationId, StreamSubscription] = {}
        self._homes: dict[OperationId, Primary] = {}
        self._look = asyncio.Event()
        self._prefix = settings.redis.key_prefix.encode()
        self._names = topology.names
        limits = settings.dispatch
        #: From the time in an entry's id to its relay message, over all primaries.
        self.dispatch_lag = EntryLatency()
        self._rules = ArmingRules(limits.follow_after, limits.follow_arm_s, limits.follow_grace_s)
        self._dispatch_args: tuple[Any, ...] = (
            settings.redis.group,
            settings.server.pod,
            limits.max_entries,
            limits.max_bytes,
            limits.max_entry_bytes,
        )

    # -- Feed --------------------------------------------------------------------------------------

    def watch(self, operation: OperationId, listener: StreamListener) -> None:
        key = self._prefix + operation.encode()
        channel = self._names.relay(key)
        packed = pack("EVALSHA", lua.DISPATCH.sha, 1, key, *self._dispatch_args, channel)
        watch = StreamSubscription(operation, key, listener, self._rules, packed, channel=channel)
        self._watches[operation] = watch
        self._place(watch)

    def unwatch(self, operation: OperationId) -> None:
        watch = self._watches.pop(operation, None)
        home = self._homes.pop(operation, None)
        if watch is not None and home is not None:
            home.remove(watch, leave=True)

    def read(self, operation: OperationId, after: StreamId) -> None:
        home = self._homes.get(operation)
        if home is not None:
            home.read(self._watches[operation], after)

    def clock(self, operation: OperationId) -> ServerClock | None:
        home = self._homes.get(operation)
        return None if home is None else home.clock

    # -- life cycle --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the primaries known and connected."""
        async with asyncio.TaskGroup() as tasks:
            redis = self._settings.redis
            backoff = Backoff(redis.backoff_min_s, redis.backoff_max_s)
            while True:
                self._look.clear()
                try:
                    await self._topology.refresh()
                    self._arrange(tasks)
                    backoff.reset()
                    wait = REFRESH_S
                except RedisUnavailable as error:
                    log.warning("Redis topology lookup failed", error=error.detail)
                    wait = backoff.next_s()
                end_if_cancelled()
                await asyncio.sleep(min(REFRESH_MIN_S, wait))
                try:
                    async with asyncio.timeout(wait):
                        await self._look.wait()
                except TimeoutError:
                    pass

    async def leave(self) -> None:
        """Give up every stream: this replica's consumers are removed. Ends when Redis has them."""
        for operation in tuple(self._watches):
            self.unwatch(operation)
        for primary in self._primaries.values():
            await primary.settled()

    @property
    def is_connected(self) -> bool:
        """Whether every primary that is known is connected."""
        return bool(self._primaries) and all(p.is_connected for p in self._primaries.values())

    @property
    def away_s(self) -> float:
        """For how long some primary has not been connected; infinite before the first time."""
        return max((primary.away_s for primary in self._primaries.values()), default=math.inf)

    @property
    def undispatched(self) -> int:
        """How many entries are known to wait for a dispatch."""
        return sum(primary.undispatched for primary in self._primaries.values())

    @property
    def is_partly_connected(self) -> bool:
        """Whether any primary is connected."""
        return any(primary.is_connected for primary in self._primaries.values())

    def stats(self) -> list[PrimaryStats]:
        """One record for each primary. It iterates over all streams."""
        return [primary.stats() for primary in self._primaries.values()]

    def round_trips(self) -> dict[str, Histogram]:
        """Round trips in seconds, by primary."""
        return {str(node): primary.round_trip for node, primary in self._primaries.items()}

    def following(self, operation: OperationId) -> Following | None:
        """How this stream is followed, for people; None when it is not."""
        watch = self._watches.get(operation)
        if watch is None:
            return None
        home = self._homes.get(operation)
        return Following(
            None if home is None else str(home.node),
            watch.attached,
            watch.arming.role.value,
            watch.arming.in_flight,
            watch.retry_s,
        )

    # -- routing -----------------------------------------------------------------------------------

    def _place(self, watch: StreamSubscription) -> None:
        node = self._topology.node_for(watch.key)
        home = None if node is None else self._primaries.get(node)
        if home is not None:
            self._homes[watch.operation] = home
            home.add(watch)

    def _arrange(self, tasks: asyncio.TaskGroup) -> None:
        """Start and stop primaries, and move the operations whose home has changed."""
        wanted = self._topology.primaries()
        away_since = asyncio.get_running_loop().time() - self.away_s
        for node in wanted - self._primaries.keys():
            primary = Primary(
                node,
                self._topology.address,
                self._settings,
                on_misplaced=self._look.set,
                on_asked=lambda watch: self._detour(tasks, watch),
                turn=self._turn,
                log=self._pages,
                away_since=away_since,
                dispatch_lag=self.dispatch_lag if self._settings.metrics.enabled else None,
            )
            self._primaries[node] = primary
            self._tasks[node] = tasks.create_task(primary.run(), name=f"redis {node}")
        for operation, watch in self._watches.items():
            target = self._topology.node_for(watch.key)
            home = self._homes.get(operation)
            if home is None:
                self._place(watch)
            elif target is not None and home.node != target:
                log.info("stream moved", operation=operation, to=str(target))
                home.remove(watch, leave=False)
                watch.listener.on_detached()
                self._place(watch)
        for node in self._primaries.keys() - wanted:
            log.info("primary removed", node=str(node))
            del self._primaries[node]
            self._tasks.pop(node).cancel()

    def _detour(self, tasks: asyncio.TaskGroup, watch: StreamSubscription) -> None:
        """A key that has gone ahead of its slot is followed through the cluster client."""
        operation = watch.operation
        if operation in self._watches and operation not in self._detours:
            reading = tasks.create_task(self._read_ahead(watch), name="slot migration")
            self._detours[operation] = reading
            reading.add_done_callback(lambda _: self._detours.pop(operation, None))

    async def _read_ahead(self, watch: StreamSubscription) -> None:
        after = watch.listener.resume_after
        try:
            if after is None:
                page = await self._log.newest(
                    watch.operation, self._settings.viewer.history_entries + 1
                )
            else:
                page = await self._log.after(watch.operation, after)
        except TidegateError as error:
            log.warning("slot migration", operation=watch.operation, error=in_words(error))
            return
        if self._watches.get(watch.operation) is watch and after == watch.listener.resume_after:
            watch.listener.on_page(page)

    @property
    def deployment(self) -> Deployment:
        """How many servers, and who says which one to talk to."""
        return self._topology.address.deployment
