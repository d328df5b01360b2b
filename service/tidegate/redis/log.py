"""Reads a stream for one viewer that is further back than the ring: implements the `Log` port with
redis-py.

Bounded per page in entries and bytes. At each server one read at a time is on its way, and who has
read less goes first; a position far back is looked for in steps. So what is read is a page's time
of Redis between two commands of the others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from tidegate.core.records import Page, StreamInfo
from tidegate.model.ids import ZERO, OperationId, StreamId, stream_id
from tidegate.model.settings import Settings
from tidegate.redis import lua
from tidegate.redis.concurrency import ConcurrencyLimiter
from tidegate.redis.errors import CLIENT_ERRORS, translate
from tidegate.redis.replies import read_info, read_page
from tidegate.redis.topology import Topology

ALL = -1
#: A page is turned into frames in one go, for which everyone else waits: about a millisecond.
PAGE_MAX_BYTES = 49_152
NEWEST_MAX_BYTES = 262_144
#: Entries that are passed over in one step to a position, and their bytes: a millisecond of Redis.
STEP_ENTRIES = 1_000
STEP_MAX_BYTES = 1_048_576
#: Reads on their way to one server. With four, another viewer's p99 was 9 ms beside a burst of 200
#: long histories, with one 4 ms; the burst took 1.1 s instead of 0.9 s.
READS = 1


class GroupPosition(NamedTuple):
    """Where a consumer group stands (`XINFO GROUPS`).

    Attributes:
        lag: entries behind the stream's end; None where the server cannot tell.
    """

    last_delivered: str
    lag: int | None
    pending: int
    consumers: int


class RedisLog:
    """History, in turns."""

    def __init__(self, topology: Topology, settings: Settings) -> None:
        self._topology = topology
        self._turns = ConcurrencyLimiter(topology, READS, share=READS)
        self._prefix = settings.redis.key_prefix
        self._group = settings.redis.group
        self._pages = LogPages(topology, settings)

    async def after(self, operation: OperationId, after: StreamId) -> Page:
        """See `Pages`; in a turn of the operation's own."""
        async with self.turn(operation, operation) as pages:
            return await pages.after(operation, after)

    async def newest(self, operation: OperationId, count: int) -> Page:
        """See `LogPages`; in a turn of the operation's own."""
        async with self.turn(operation, operation) as pages:
            return await pages.newest(operation, count)

    async def locate(
        self, operation: OperationId, newest: int | None
    ) -> tuple[StreamInfo, StreamId]:
        """See `Pages`; in a turn of the operation's own."""
        async with self.turn(operation, operation) as pages:
            return await pages.locate(operation, newest)

    @asynccontextmanager
    async def turn(self, operation: OperationId, by: str) -> AsyncIterator[LogPages]:
        """See `Log`."""
        async with self._turns.at(self._prefix + operation, by):
            yield self._pages

    @property
    def pages(self) -> int:
        """Pages read."""
        return self._pages.count

    async def group(self, operation: OperationId) -> GroupPosition | None:
        """Where the shared group stands; None without a stream or a group."""
        client: Any = self._topology.client
        key = self._prefix + operation
        try:
            async with self._turns.at(key, key):
                groups = await client.xinfo_groups(key)
        except CLIENT_ERRORS as error:
            if isinstance(error, ResponseError) and "no such key" in str(error).lower():
                return None
            raise translate(error, operation) from None
        for group in groups:
            found = {_text(name): value for name, value in group.items()}
            if _text(found["name"]) == self._group:
                return GroupPosition(
                    _text(found["last-delivered-id"]),
                    found.get("lag"),
                    found["pending"],
                    found["consumers"],
                )
        return None


class LogPages:
    """The reads themselves, for who has a turn."""

    def __init__(self, topology: Topology, settings: Settings) -> None:
        self._topology = topology
        self._prefix = settings.redis.key_prefix
        self._limits = (
            settings.viewer.page_entries,
            min(settings.dispatch.max_bytes, PAGE_MAX_BYTES),
            settings.dispatch.max_entry_bytes,
        )
        newest_bytes = min(settings.dispatch.max_bytes, NEWEST_MAX_BYTES)
        self._newest_limits = (newest_bytes, settings.dispatch.max_entry_bytes)
        self.count = 0

    async def after(self, operation: OperationId, after: StreamId) -> Page:
        """A page of entries above `after`."""
        self.count += 1
        reply = await self._run(lua.READ, operation, str(after), *self._limits)
        return read_page(reply, after)

    async def newest(self, operation: OperationId, count: int) -> Page:
        """The newest entries, as many as a page holds."""
        self.count += 1
        reply = await self._run(lua.NEWEST, operation, count, *self._newest_limits)
        return read_page(reply, None)

    async def locate(
        self, operation: OperationId, newest: int | None
    ) -> tuple[StreamInfo, StreamId]:
        """The stream now, and the position just before its newest `newest` entries (None: all)."""
        left, below = ALL if newest is None else newest, "+"
        while True:
            limits = (left, below, STEP_ENTRIES, STEP_MAX_BYTES)
            raw_info, found, left, next_below = await self._run(lua.LOCATE, operation, *limits)
            if not next_below:
                break
            below = _text(next_below)
        info = read_info(raw_info)
        if found:
            return info, stream_id(found)
        return info, ZERO if info.added == info.length else info.first.before()

    async def _run(self, script: lua.Script, operation: OperationId, *args: str | int) -> Any:
        key = self._prefix + operation
        client: Any = self._topology.client
        try:
            return await lua.run(client, script, (key,), args)
        except CLIENT_ERRORS as error:
            raise translate(error, operation) from None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
