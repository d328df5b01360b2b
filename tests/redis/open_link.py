"""A bare link in a test, with everything that arrives on it in one list, in the server's order."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

from tests.servers.standalone import Server
from tidegate.model.settings import RedisSettings, RedisUrl
from tidegate.redis.address import parse_address
from tidegate.redis.link import Link, connect, pack


class _Turns:
    """Counts what the fan-out is told."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0

    def begin(self) -> None:
        self.begun += 1

    def end(self) -> None:
        self.ended += 1


class OpenLink:
    """Use as an async context manager. `seen` has pushes, and replies of what `send` sent."""

    def __init__(self, server: Server, *, pace_s: float = 0.0, **redis: Any) -> None:
        settings = RedisSettings(url=RedisUrl(redis.pop("url", server.url)), **redis)
        self.address = parse_address(settings)
        self._pace_s = pace_s
        self.seen: list[Any] = []
        self.turns = _Turns()
        self.lost = asyncio.Event()
        self.link: Link
        self.greeting: dict[bytes, Any]

    async def __aenter__(self) -> Self:
        self.link, self.greeting = await connect(
            self.address.nodes[0],
            self.address,
            self.seen.append,
            self.lost.set,
            self.turns,
            pace_s=self._pace_s,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.link.abort()

    def send(self, *args: str | bytes | int) -> None:
        """The reply goes to `seen`."""
        self.link.send(pack(*args), self.seen.append)

    async def call(self, *args: str | bytes | int) -> Any:
        return await self.link.call(*args)

    async def barrier(self) -> None:
        """All that the server sent so far is in `seen`."""
        async with asyncio.timeout(10):
            await self.call("PING")
