"""Appends to streams through `publish.lua`: entries, cap, TTL and dispatch in one atomic step.

All or nothing: a batch is in the stream as a whole or not at all. Nothing is ever tried again here:
a write whose reply was lost may have happened, which `WriteUncertain` says; every other error means
that nothing was written. An idempotency key makes trying again safe, and is kept in a key of the
stream's own cluster slot, bounded in number and time.

All publishers dispatch as one consumer, `publisher`: a name per process would leave a consumer
behind on each stream for each process that ever wrote to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tidegate.core.records import PUBLISHER
from tidegate.core.writes import ANY, Appended, IdempotencyKey, Outcome
from tidegate.model.entries import TerminalRules
from tidegate.model.ids import OperationId
from tidegate.model.settings import DispatchSettings, RedisSettings
from tidegate.redis import lua
from tidegate.redis.address import Deployment, client_options, parse_address
from tidegate.redis.cancelling import end_words
from tidegate.redis.concurrency import ConcurrencyLimiter
from tidegate.redis.errors import CLIENT_ERRORS, translate, translate_write
from tidegate.redis.names import Names, cancel_key, same_slot
from tidegate.redis.publishing import open_client
from tidegate.redis.topology import Topology

CONSUMER = PUBLISHER.decode()
#: Idempotency keys kept for each operation; about 100 bytes each.
ONCE_MAX = 1_000
ONCE_TTL_S = 86_400
END_WORDS = end_words(TerminalRules())


class Retention(NamedTuple):
    """How much of a stream is kept; set with each append. 0: no bound."""

    cap: int = 1_000
    ttl_s: int = 86_400


class OnceBounds(NamedTuple):
    """Where the idempotency keys of a stream are kept, how many, and for how long."""

    name: str = "once"
    kept: int = ONCE_MAX
    ttl_s: int = ONCE_TTL_S


#: Of callers' own keys.
CALLERS = OnceBounds()

#: Of a feed: it is read as a list of the newest operations, for longer than each of them.
FEED_CAP = 200
FEED_TTL_S = 604_800


def of_a_feed(retention: Retention) -> Retention:
    """How much of a feed is kept by who keeps so much of an operation."""
    ttl_s = max(retention.ttl_s, FEED_TTL_S) if retention.ttl_s else 0
    return Retention(FEED_CAP, ttl_s)


class _ScriptCall:
    """The arguments of the script, for both clients."""

    def __init__(
        self,
        names: Names,
        redis_settings: RedisSettings,
        dispatch: DispatchSettings,
        retention: Retention,
    ) -> None:
        self._names = names
        self._prefix = redis_settings.key_prefix
        self._retention = retention
        self._dispatch = (
            redis_settings.group,
            CONSUMER,
            dispatch.max_entries,
            dispatch.max_bytes,
            dispatch.max_entry_bytes,
        )

    def key(self, operation: OperationId) -> str:
        return self._prefix + operation

    def arguments(
        self,
        operation: OperationId,
        texts: Sequence[str | bytes],
        once: IdempotencyKey | None,
        newest: str,
        remove: bool,
        ends: bool = False,
        lists: bool = False,
        bounds: OnceBounds | None = None,
    ) -> tuple[list[str], tuple[Any, ...]]:
        """Keys and arguments; without `bounds` the keys are a caller's."""
        key = self.key(operation)
        bounds = bounds or CALLERS
        keys = [key]
        tail: tuple[Any, ...] = ("", "", 0, 0)
        if once is not None:
            beside = same_slot(key)
            keys += [f"{beside}:{bounds.name}", f"{beside}:{bounds.name}-order"]
            tail = (once.field, once.digest, bounds.kept, bounds.ttl_s)
        last = 1 if remove else 2 if ends and cancel_key(key) else 0
        if last:
            keys.append(cancel_key(key) or key)
        retention = of_a_feed(self._retention) if lists else self._retention
        return keys, (
            *(*self._dispatch, *retention, newest, last),
            *(*tail, self._names.relay(key.encode()), *texts),
        )

    def asked(self, operation: OperationId) -> tuple[tuple[str, str], tuple[str, str]] | None:
        """Keys and arguments of a look for who asks to cancel it; None: nobody can."""
        key = self.key(operation)
        beside = cancel_key(key)
        return None if beside is None else ((key, beside), END_WORDS)


def _outcome(reply: list[bytes | str]) -> Appended:
    outcome, *ids = (part.decode() if isinstance(part, bytes) else part for part in reply)
    return Appended(Outcome(outcome), tuple(ids))


class Appender:
    """Appends from an event loop: implements `core.writes.Writer`."""

    def __init__(
        self,
        topology: Topology,
        redis_settings: RedisSettings,
        dispatch: DispatchSettings,
        retention: Retention | None = None,
    ) -> None:
        self._call = _ScriptCall(topology.names, redis_settings, dispatch, retention or Retention())
        self._topology = topology
        self._turns = ConcurrencyLimiter(topology)
        self._own: RedisCluster | None = None
        self._finding = asyncio.Lock()
        if topology.address.deployment is Deployment.CLUSTER:
            # The reader's client tries again by itself, which would append twice.
            self._own = RedisCluster(
                startup_nodes=[ClusterNode(n.host, n.port) for n in topology.address.nodes],
                retry=Retry(NoBackoff(), 0),
                **client_options(topology.address, redis_settings),
            )

    async def append(
        self,
        operation: OperationId,
        texts: Sequence[str | bytes],
        *,
        once: IdempotencyKey | None = None,
        newest: str = ANY,
        remove: bool = False,
        ends: bool = False,
        lists: bool = False,
    ) -> Appended:
        """As the port has it."""
        arguments = self._call.arguments(operation, texts, once, newest, remove, ends, lists)
        try:
            client = await self._client()
            async with self._turns.at(self._call.key(operation)):
                return _outcome(await lua.run(client, lua.PUBLISH, *arguments))
        except CLIENT_ERRORS as error:
            raise translate_write(error, operation) from None

    async def remove(self, operation: OperationId) -> bool:
        """As the port has it."""
        try:
            client = await self._client()
            key = self._call.key(operation)
            async with self._turns.at(key):
                removed = bool(await client.unlink(key))
                if (beside := cancel_key(key)) is not None:
                    await client.unlink(beside)
                return removed
        except CLIENT_ERRORS as error:
            raise translate(error) from None

    async def cancel_requested(self, operation: OperationId) -> bool:
        """Whether someone asks to cancel it, and it has not ended since. Raises RedisUnavailable,
        StreamUnusable.
        """
        arguments = self._call.asked(operation)
        if arguments is None:
            return False
        try:
            client = await self._client()
            async with self._turns.at(self._call.key(operation)):
                return bool(await lua.run(client, lua.ASKED, *arguments))
        except CLIENT_ERRORS as error:
            raise translate(error, operation) from None

    async def _client(self) -> Any:
        if self._own is None:
            return self._topology.client
        # redis-py 8.1 breaks some of its connections when many first commands come at once.
        try:
            async with self._finding:
                _ = await self._own.initialize()
        except CLIENT_ERRORS as error:  # nothing was sent
            raise translate(error) from None
        return self._own

    async def close(self) -> None:
        """Close connections of its own; the topology's are the topology's."""
        if self._own is not None:
            await self._own.aclose()


class SyncAppender:
    """The same for programs without an event loop. Safe to use from several threads.

    Raises:
        RedisUnavailable: from the constructor too, where a Cluster is asked for its slots at once.
    """

    def __init__(
        self,
        redis_settings: RedisSettings,
        dispatch: DispatchSettings,
        retention: Retention | None = None,
    ) -> None:
        names = Names.of(parse_address(redis_settings), redis_settings)
        self._call = _ScriptCall(names, redis_settings, dispatch, retention or Retention())
        try:
            self._client: Any = open_client(redis_settings)
        except CLIENT_ERRORS as error:
            raise translate(error) from None

    def append(
        self,
        operation: OperationId,
        texts: Sequence[str | bytes],
        *,
        once: IdempotencyKey | None = None,
        newest: str = ANY,
        bounds: OnceBounds = CALLERS,
        ends: bool = False,
        lists: bool = False,
    ) -> Appended:
        """As `Appender.append`."""
        arguments = self._call.arguments(
            operation, texts, once, newest, remove=False, ends=ends, lists=lists, bounds=bounds
        )
        try:
            return _outcome(lua.run_blocking(self._client, lua.PUBLISH, *arguments))
        except CLIENT_ERRORS as error:
            raise translate_write(error, operation) from None

    def remove(self, operation: OperationId) -> bool:
        """As `Appender.remove`."""
        try:
            return bool(self._client.unlink(self._call.key(operation)))
        except CLIENT_ERRORS as error:
            raise translate(error) from None

    def cancel_requested(self, operation: OperationId) -> bool:
        """As `Appender.cancel_requested`."""
        arguments = self._call.asked(operation)
        if arguments is None:
            return False
        try:
            return bool(lua.run_blocking(self._client, lua.ASKED, *arguments))
        except CLIENT_ERRORS as error:
            raise translate(error, operation) from None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
