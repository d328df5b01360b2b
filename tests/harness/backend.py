"""What a backend does in these tests: plain `XADD`, and the harm that befalls streams.

Nothing here uses Tidegate; that a stream written like this reaches viewers is the point.
"""

from __future__ import annotations

import json
from typing import Any

import redis.asyncio

PREFIX = "operation-progress:"
GROUP = "tidegate"


class Backend:
    """Writes streams with a redis-py client."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client = client

    async def publish(
        self, operation: str, type_: str = "progress", *, entry_id: str = "*", **data: Any
    ) -> str:
        """One entry in the usual form; its id."""
        text = json.dumps({"timestamp": "2026-11-23T00:00:00Z", "type": type_, "data": data})
        return await self.add(operation, {"message": text}, entry_id=entry_id)

    async def publish_many(
        self, operation: str, count: int, *, start: int = 0, pad: int = 0, type_: str = "progress"
    ) -> list[str]:
        """`count` numbered entries in one pipeline; their ids."""
        async with self.client.pipeline(transaction=False) as pipe:
            for n in range(start, start + count):
                text = json.dumps({"type": type_, "data": {"n": n, "pad": "x" * pad}})
                _ = pipe.xadd(PREFIX + operation, {"message": text})
            return [_text(entry_id) for entry_id in await pipe.execute()]

    async def finish(self, operation: str, status: str = "completed") -> str:
        return await self.publish(operation, f"operation_{status}", status=status)

    async def add(self, operation: str, fields: dict[Any, Any], *, entry_id: str = "*") -> str:
        return _text(await self.client.xadd(PREFIX + operation, fields, id=entry_id))

    async def delete(self, operation: str) -> None:
        """As an expiry does. Waits for the server's next millisecond: a stream made anew within
        the same one begins below the old one's end, which is another case.
        """
        await self.client.delete(PREFIX + operation)
        gone = await self._now_ms()
        while await self._now_ms() <= gone:
            pass

    async def _now_ms(self) -> int:
        seconds, micros = await self.client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def trim(self, operation: str, keep: int) -> None:
        await self.client.xtrim(PREFIX + operation, maxlen=keep, approximate=False)

    async def exists(self, operation: str) -> bool:
        return bool(await self.client.exists(PREFIX + operation))

    async def groups(self, operation: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self.client.xinfo_groups(PREFIX + operation)
        return [{_text(k): v for k, v in group.items()} for group in found]

    async def consumers(self, operation: str) -> list[str]:
        found = await self.client.xinfo_consumers(PREFIX + operation, GROUP)
        return sorted(_text(row["name"]) for row in found)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
