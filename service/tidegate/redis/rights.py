"""Whether the login has the rights in Redis that this replica needs; tried at the start and
periodically.

An ACL that is too restrictive shows late and in strange ways: a limit that counts nothing, a
revocation that nobody receives. So each command is tried on an unused key, in the part of the key
space in which it is needed; what the server refuses is reported in the log, in `/readyz` and in a
metric. A replica that had all rights at its start stays ready if one is removed later: taking all
replicas out of service at once would be worse than what is missing.

Nothing is left behind: a key that a command creates is deleted, or expires within a second.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgpack  # type: ignore[import-untyped]
import structlog

from tidegate.core.backoff import Backoff
from tidegate.model.errors import RedisForbidden, RedisUnavailable
from tidegate.model.settings import Settings
from tidegate.redis import lua
from tidegate.redis.batches import Batches, end_if_cancelled
from tidegate.redis.names import cancel_key, same_slot
from tidegate.redis.topology import Topology

log = structlog.get_logger(__name__)

#: An administrator who has mended the ACL sees it within this time.
TRY_AGAIN_S = 30.0

Command = tuple[str | bytes | int, ...]


#: What the metric tells apart.
AREAS = ("streams", "idempotency", "cancelling", "leases", "revocations", "slots", "source")


class RefusedCommand(NamedTuple):
    """Commands that the login may not run, for what (one of `AREAS`) and on which keys."""

    area: str
    where: str
    commands: tuple[str, ...]

    def __str__(self) -> str:
        return f"{', '.join(self.commands)} on {self.where}"


class _Area(NamedTuple):
    """What is needed on the keys that begin so; `commands` gets a key that nobody has."""

    name: str
    prefix: bytes
    commands: Callable[[bytes], Iterator[Command]]


class Rights:
    """`run` tries again and again, until cancelled."""

    def __init__(self, topology: Topology, settings: Settings, batches: Batches) -> None:
        """`batches`: of whoever has commands under way, so that no connection comes of it."""
        self._settings = settings
        self._batches = batches
        self._areas = tuple(_areas(topology, settings))
        #: What was refused the last time.
        self.refused: tuple[RefusedCommand, ...] = ()
        #: Whether nothing was refused at some time since the start.
        self.once_complete = False
        self._last_error: str | None = None

    async def run(self) -> None:
        """Wait, first for the others to start, try, and say what has changed."""
        redis = self._settings.redis
        backoff = Backoff(redis.backoff_min_s, redis.backoff_max_s)
        wait_s = backoff.next_s()
        while True:
            await asyncio.sleep(wait_s)
            wait_s = TRY_AGAIN_S * random.uniform(0.8, 1.2)
            try:
                self._tried(await self.try_now())
                backoff.reset()
            except RedisUnavailable as error:
                if str(error) != self._last_error:
                    log.warning("Redis permissions could not be checked", reason=str(error))
                self._last_error = str(error)
                wait_s = backoff.next_s()
            end_if_cancelled()

    @property
    def fault(self) -> str | None:
        """What `/readyz` says of it; None while nothing is known to be refused."""
        return f"Redis refuses {'; '.join(map(str, self.refused))}" if self.refused else None

    def _tried(self, refused: tuple[RefusedCommand, ...]) -> None:
        if refused and refused != self.refused:
            log.error(
                "Redis refuses commands that this replica needs; extend the ACL of its user",
                refused=[str(one) for one in refused],
            )
        elif self.refused and not refused:
            log.info("Redis allows all commands that this replica needs")
        self.refused = refused
        self.once_complete = self.once_complete or not refused

    async def try_now(self) -> tuple[RefusedCommand, ...]:
        """What is refused, in one pass. Raises RedisUnavailable."""
        found = []
        for area in self._areas:
            key = area.prefix + b"rights-" + secrets.token_hex(8).encode()
            where = f"{area.prefix.decode(errors='replace')}*"
            # Redis' own MessagePack is from before the type for bytes.
            packed = [msgpack.packb(one, use_bin_type=False) for one in area.commands(key)]
            try:
                names = await self._batches.script(lua.RIGHTS, key, *packed)
            except RedisUnavailable as error:
                # Of the script itself, or of its key.
                if not isinstance(error, RedisForbidden):
                    raise
                found.append(RefusedCommand(area.name, where, ("evalsha", "eval")))
                continue
            if names:
                refused = dict.fromkeys(name.decode() for name in names)
                found.append(RefusedCommand(area.name, where, tuple(refused)))
        return tuple(found)


def _areas(topology: Topology, settings: Settings) -> Iterator[_Area]:
    names, prefix = topology.names, settings.redis.key_prefix
    appends = settings.publish.token is not None
    # Unset, nobody has it until it is granted: a replica with the rights of an earlier version must
    # not be kept from being ready.
    cancels = settings.cancel.allow not in (None, "none")

    def stream(key: bytes) -> Iterator[Command]:
        yield from _reading(key)
        yield from _dispatching(key)
        # To a channel that nobody listens on.
        yield ("spublish", names.relay(key), b"")
        if appends:
            yield from _appending(key)
        elif cancels:
            yield from _asking_to_stop(key)

    def own(key: bytes) -> Iterator[Command]:
        yield from _leasing(key)
        # Beside the control channel, so that nobody hears it.
        yield ("spublish", names.control + b":rights", b"")

    def revoked(key: bytes) -> Iterator[Command]:
        yield ("zrange", key, 0, 1)
        if settings.server.admin_token is not None:
            yield from _revoking(key)

    yield _Area("streams", prefix.encode(), stream)
    if appends:
        beside, _, _ = same_slot(f"{prefix}#").partition("#")
        yield _Area("idempotency", beside.encode(), _remembering)
    if cancels and (beside_one := cancel_key(f"{prefix}#")) is not None:
        beside, _, _ = beside_one.partition("#")
        yield _Area("cancelling", beside.encode(), _remembering_stops)
    yield _Area("leases", names.figures_prefix.encode(), own)
    yield _Area("revocations", names.revoked, revoked)
    yield _Area("slots", names.slots_prefix, _counting)
    if settings.source.kind == "redis":
        yield _Area("source", settings.source.redis_prefix.encode(), _asking)


# What each part does with its keys; kept in step with the scripts by the test that runs a replica
# under exactly the documented ACL.


def _reading(key: bytes) -> Iterator[Command]:
    yield ("exists", key)
    yield ("xinfo", "stream", key)
    yield ("xrange", key, "-", "+", "count", 1)
    yield ("xrevrange", key, "+", "-", "count", 1)


def _dispatching(key: bytes) -> Iterator[Command]:
    yield ("xgroup", "create", key, "g", "$")  # none of these makes a stream
    yield ("xgroup", "createconsumer", key, "g", "c")
    yield ("xgroup", "delconsumer", key, "g", "c")
    yield ("xreadgroup", "group", "g", "c", "count", 1, "noack", "streams", key, ">")


def _appending(key: bytes) -> Iterator[Command]:
    yield ("xadd", key, "nomkstream", "*", "f", "v")
    yield ("expire", key, 1)
    yield ("unlink", key)


def _remembering(key: bytes) -> Iterator[Command]:
    """Idempotency keys."""
    yield ("hset", key, "f", "v")
    yield ("expire", key, 1)
    yield ("hget", key, "f")
    yield ("hdel", key, "f")
    yield ("lpush", key, "v")
    yield ("expire", key, 1)
    yield ("llen", key)
    yield ("rpop", key)


def _asking_to_stop(key: bytes) -> Iterator[Command]:
    yield ("xadd", key, "nomkstream", "*", "f", "v")


def _remembering_stops(key: bytes) -> Iterator[Command]:
    """The keys that say that someone asks to cancel an operation."""
    yield ("get", key)
    yield ("set", key, "v", "ex", 1)
    yield ("unlink", key)


def _leasing(key: bytes) -> Iterator[Command]:
    yield ("time",)
    yield ("zadd", key, 1, "m")
    yield ("pexpire", key, 1000)
    yield ("zrange", key, 0, -1, "withscores")
    yield ("zrem", key, "m")
    yield ("hset", key, "f", "v")
    yield ("pexpire", key, 1000)
    yield ("hmget", key, "f")
    yield ("unlink", key)


def _counting(key: bytes) -> Iterator[Command]:
    """Slots."""
    yield ("time",)
    yield ("hset", key, "f", "v")
    yield ("pexpire", key, 1000)
    yield ("hgetall", key)
    yield ("hdel", key, "f")


def _revoking(key: bytes) -> Iterator[Command]:
    yield ("time",)
    yield ("zadd", key, 1, "m")
    yield ("expireat", key, 1)
    yield ("zremrangebyscore", key, "-inf", 0)
    yield ("zscore", key, "m")
    yield ("zcard", key)
    yield ("zrevrange", key, 0, 0, "withscores")


def _asking(key: bytes) -> Iterator[Command]:
    """The operation source `redis`."""
    yield ("hmget", key, "owner")
