"""One connection to one primary, for the time that the sweep is there.

Commands go in pipelines, bounded, so that other clients wait for a millisecond at the most. Nothing
is sent twice except what the server refused with NOSCRIPT. Whatever keeps a command from its answer
is `RedisUnavailable`, and the connection is then of no use any more; what the server says about one
key only is an error in that key's place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    MovedError,
    NoPermissionError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from tidegate.model.errors import RedisUnavailable
from tidegate.model.settings import RedisSettings
from tidegate.redis import lua
from tidegate.redis.address import Address, Node, client_options
from tidegate.redis.errors import CLIENT_ERRORS, in_words, translate
from tidegate.redis.lua import Argument, Command, Script

#: Commands or scripts of one pipeline: half a millisecond of Redis.
BATCH = 50
#: A SCAN costs Redis as much as so many commands for each key that it passes (measured: 0.4 to 0.7
#: us for a key, 1.2 to 1.7 for a command).
SCAN_KEY_COST = 1 / 3
#: The key's slot is, or will be, elsewhere: someone else's turn.
MOVED = (MovedError, AskError, TryAgainError)


class Call(NamedTuple):
    """A script for one key."""

    script: Script
    key: bytes
    args: tuple[Argument, ...]


class ServerIdentity(NamedTuple):
    """Which process answers, and how it is. `run_id` is new after each start, so a SCAN cursor of
    another one is worth nothing: the order of keys depends on it.
    """

    run_id: str
    is_primary: bool
    keys: int
    memory: dict[str, object]


class PrimaryClient:
    """Opened by its first command; `close` when done."""

    def __init__(self, node: Node, address: Address, settings: RedisSettings) -> None:
        self.node = node
        self.commands = 0
        options = client_options(address, settings)
        if node.path is not None:
            options["unix_socket_path"] = node.path
        else:
            options |= {"host": node.host, "port": node.port}
        self._client = Redis(
            db=address.db,
            retry=Retry(NoBackoff(), 0),
            max_connections=1,
            protocol=2,  # rows come flat, as scripts give them
            encoding_errors="surrogateescape",  # names of any bytes go back as they came
            **options,
        )
        self._client.set_response_callback("XREVRANGE", _as_written)

    async def identity(self) -> ServerIdentity:
        """Raises RedisUnavailable."""
        info = await self._one("INFO")
        keys = await self._one("DBSIZE")
        role = str(info.get("role", "master"))
        return ServerIdentity(
            str(info.get("run_id", "")), role in ("master", "primary"), keys, info
        )

    async def now_ms(self) -> int:
        """The server's time. Raises RedisUnavailable."""
        seconds, micros = await self._one("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    async def scan(
        self, cursor: int, pattern: bytes, kind: str, count: int
    ) -> tuple[int, list[bytes]]:
        """One SCAN: the next cursor, 0 at the end, and keys. Raises RedisUnavailable."""
        reply = await self._one("SCAN", cursor, "MATCH", pattern, "COUNT", count, "TYPE", kind)
        return int(reply[0]), list(reply[1])

    async def values(self, keys: Sequence[bytes]) -> list[Any]:
        """The values of hashes; an error where a key holds something else by now."""
        return await self.together([("HVALS", key) for key in keys])

    async def run(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts in one pipeline; see `together`."""
        sent = [lua.call(c.script, c.key, *c.args) for c in calls]
        return await lua.run_together(self.together, sent, [c.script for c in calls])

    async def close(self) -> None:
        """Any number of times."""
        await self._client.aclose()

    async def _one(self, *command: Argument) -> Any:
        self.commands += 1
        try:
            return await self._client.execute_command(*command)
        except CLIENT_ERRORS as error:
            raise self._lost(error) from None

    async def together(self, commands: Sequence[Command]) -> list[Any]:
        """Commands in one pipeline; an error instead of each reply that is one.

        Raises:
            RedisUnavailable: as a whole; some or all may have been executed.
        """
        if not commands:
            return []
        self.commands += len(commands)
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        try:
            replies: list[Any] = await pipeline.execute(raise_on_error=False)
        except CLIENT_ERRORS as error:
            raise self._lost(error) from None
        for reply in replies:
            if isinstance(reply, ReadOnlyError | NoPermissionError):
                raise self._lost(reply)
        return replies

    def _lost(self, error: BaseException) -> RedisUnavailable:
        text = f"{self.node}: {translate(error)}"
        if isinstance(error, NoPermissionError):
            text += "; the login of the sweep needs the commands that docs/operator.md lists"
        return RedisUnavailable(text, f"{self.node}: {in_words(error)}")


def _as_written(response: Any, **_: Any) -> Any:
    """redis-py would make a dict of an entry's fields, and lose those that come twice."""
    return response


def is_error(reply: Any) -> bool:
    """Whether a reply of `run` or `values` is an error."""
    return isinstance(reply, ResponseError)
