"""The data of the debug endpoints: one operation, and the tasks of the event loop. Implements
`web.admin.debug.Inspector`.

Only the start times of tasks are kept for it; everything else is collected on request, and bounded.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

from tidegate.gateway.channel import Channel
from tidegate.gateway.hub import Hub
from tidegate.gateway.inventory import Inventory
from tidegate.model.errors import RedisUnavailable
from tidegate.model.ids import OperationId
from tidegate.model.operation_order import OperationOrder
from tidegate.model.settings import TopicSettings
from tidegate.redis.feed import RedisFeed
from tidegate.redis.log import RedisLog

#: Names counted, and awaits followed into a task.
NAMES_MAX = 50
DEPTH_MAX = 64
_NUMBER = re.compile(r"[-_ ]?\d+$")


class ReplicaInspector:
    """Reads the parts and changes nothing of them."""

    def __init__(
        self,
        limits: TopicSettings,
        *,
        hub: Hub,
        inventory: Inventory,
        feed: RedisFeed,
        log: RedisLog,
        state: Callable[[], dict[str, Any]],
    ) -> None:
        self._limits = limits
        self._hub = hub
        self._inventory = inventory
        self._feed = feed
        self._log = log
        self.state = state
        self._made: WeakKeyDictionary[asyncio.Task[Any], float] = WeakKeyDictionary()

    def made(self, task: asyncio.Task[Any]) -> None:
        """Remember when this task began."""
        self._made[task] = time.monotonic()

    # -- operations ------------------------------------------------------------------------------

    async def operations(self, most: int, order: OperationOrder) -> dict[str, Any]:
        """See `web.admin.debug.Inspector`. In small steps, so that viewers do not notice it."""
        found, _ = await self._inventory.operations(most, order)
        return {
            "count": found.total,
            "omitted": found.total - len(found.first),
            "operations": [_row(channel) for channel in found.first],
        }

    # -- one operation ----------------------------------------------------------------------------

    async def operation(self, operation: OperationId) -> dict[str, Any] | None:
        """See `web.admin.debug.Inspector`."""
        channel = self._hub.channels.get(operation)
        body: dict[str, Any] = {"operation": operation, "followed": channel is not None}
        try:
            exists = await self._of_stream(operation, body, channel)
        except RedisUnavailable as error:
            if channel is None:
                raise
            body["redis"] = {"error": str(error)}
            exists = True
        if channel is None:
            return body if exists else None
        return {**body, **self._of_channel(operation, channel)}

    async def _of_stream(
        self, operation: OperationId, body: dict[str, Any], channel: Channel | None
    ) -> bool:
        info, _ = await self._log.locate(operation, 0)
        if not info.exists:
            body["stream"] = body["group"] = None
            return False
        group = await self._log.group(operation)
        body["stream"] = {
            "first": str(info.first),
            "last": str(info.last),
            "length": info.length,
            "entries_added": info.added,
        }
        body["group"] = None if group is None else group._asdict()
        if channel is not None:
            cursor = channel.topic.last
            behind: dict[str, int | None] = {"entries": 0, "more": False, "ms": 0}
            if cursor < info.last:
                page = await self._log.after(operation, cursor)
                ms = info.last.ms - cursor.ms if cursor.ms else None
                behind = {"entries": len(page.entries), "more": page.more, "ms": ms}
            body["lag"] = behind
        return True

    def _of_channel(self, operation: OperationId, channel: Channel) -> dict[str, Any]:
        topic, stats, ring = channel.topic, channel.stats(), channel.topic.ring.stats()
        following = self._feed.following(operation)
        return {
            "topic": {
                "state": topic.state.value,
                "status": topic.status,
                "finished": topic.finished,
                "vanished": topic.vanished,
                "cursor": str(topic.last),
                "epoch": topic.epoch,
                "gaps": topic.gaps,
                "stale_since": channel.stale_since,
            },
            "viewers": {
                "live": stats.live,
                "lagging": stats.lagging,
                "catching_up": stats.catching_up,
                "ahead": len(channel.ahead),
                "waiting": channel.waiting,
            },
            "outbox_items": stats.outbox,
            "ring": {
                "frames": ring.frames,
                "bytes": ring.size_bytes,
                "max_frames": self._limits.ring_entries,
                "max_bytes": self._limits.ring_bytes,
                "floor": None if topic.ring.floor is None else str(topic.ring.floor),
            },
            "dispatch": None if following is None else following._asdict(),
        }

    # -- tasks ------------------------------------------------------------------------------------

    def tasks(self, most: int) -> dict[str, Any]:
        """See `web.admin.debug.Inspector`: the oldest first, then those whose age is unknown."""
        now = time.monotonic()
        tasks = asyncio.all_tasks()
        by_age = sorted(tasks, key=lambda task: (self._made.get(task, now), task.get_name()))
        names = Counter(_NUMBER.sub("", task.get_name()) or "unnamed" for task in tasks)
        return {
            "count": len(tasks),
            "by_name": dict(names.most_common(NAMES_MAX)),
            "omitted": max(0, len(tasks) - most),
            "tasks": [self._of_task(task, now) for task in by_age[:most]],
        }

    def _of_task(self, task: asyncio.Task[Any], now: float) -> dict[str, Any]:
        made = self._made.get(task)
        where, waits_for = _top(task.get_coro())
        return {
            "name": task.get_name()[:200],
            "coroutine": getattr(task.get_coro(), "__qualname__", "")[:200],
            "age_s": None if made is None else round(now - made, 3),
            "at": where,
            "waits_for": waits_for,
        }


def _top(awaitable: object) -> tuple[str, str]:
    """Where the innermost coroutine stands, and the kind of thing that it awaits.

    A suspended task's own stack ends at its outermost coroutine, so the awaits are followed.
    """
    where = ""
    for _ in range(DEPTH_MAX):
        frame = _attribute(awaitable, "frame")
        if not isinstance(frame, FrameType):
            break
        name = frame.f_globals.get("__name__", "?")
        where = f"{name}:{frame.f_lineno} {frame.f_code.co_name}"
        awaitable = _attribute(awaitable, "await") or _attribute(awaitable, "yieldfrom")
    # A future is awaited through an iterator of its own.
    return where, "" if awaitable is None else type(awaitable).__name__.removesuffix("Iter")


def _attribute(awaitable: object, name: str) -> object:
    """Of a coroutine, a generator or an asynchronous generator."""
    for prefix in ("cr_", "gi_", "ag_"):
        found: object = getattr(awaitable, prefix + name, None)
        if found is not None:
            return found
    return None


def _row(channel: Channel) -> dict[str, Any]:
    """One operation in a list of many: what costs nothing to tell."""
    topic, stats = channel.topic, channel.stats()
    return {
        "operation": topic.operation,
        "status": topic.status,
        "finished": topic.finished,
        "cursor": str(topic.last),
        "entries": channel.taken,
        "live": stats.live,
        "lagging": stats.lagging,
        "catching_up": stats.catching_up,
        "outbox_items": stats.outbox,
    }
