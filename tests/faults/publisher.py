"""A backend of one operation: plain `XADD`s with numbered entries, and the truth about them.

When the reply to an `XADD` is lost the entry may be in the stream or not, so the truth is the
stream itself, read at the end; the ids that were acknowledged must all be in it, or the server has
lost what it promised to keep and the run says nothing about the gateway. A number is used for one
attempt only, so that two entries are never the same.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
from redis.exceptions import RedisError

from tests.faults.judge import Written
from tidegate.model.ids import StreamId, stream_id

PREFIX = "operation-progress:"
RETRY_S = 0.05
FINISH_TIMEOUT_S = 30.0
TEXT = "x" * 120
TERMINAL = "operation_completed"


class Publisher:
    """Writes to one operation's stream.

    `client` is a redis-py client, of a server or a cluster, that does not retry by itself.
    """

    def __init__(self, client: Any, operation: str, *, first_number: int = 1) -> None:
        self.operation = operation
        self.key = PREFIX + operation
        self.acked: dict[StreamId, Written] = {}
        self.uncertain = 0
        self.finished = False
        self._client = client
        self._number = first_number - 1

    @property
    def last(self) -> int:
        """The number of the newest entry that was acknowledged."""
        return max(entry.number for entry in self.acked.values())

    async def write(self, kind: str = "progress", *, maxlen: int | None = None) -> StreamId | None:
        """One entry; None when nobody knows whether it was written."""
        written = self._next(kind)
        try:
            raw = await self._client.xadd(
                self.key, {"message": _message(written)}, maxlen=maxlen, approximate=False
            )
        except (RedisError, OSError, TimeoutError):
            self.uncertain += 1
            return None
        return self._acknowledged(raw, written)

    async def write_many(self, count: int, *, maxlen: int | None = None) -> bool:
        """So many entries in one go; False when nobody knows which were written."""
        batch = [self._next("progress" if n % 4 else "log") for n in range(count)]
        try:
            async with self._client.pipeline(transaction=False) as pipe:
                for written in batch:
                    message = {"message": _message(written)}
                    pipe.xadd(self.key, message, maxlen=maxlen, approximate=False)
                for raw, written in zip(await pipe.execute(), batch, strict=True):
                    self._acknowledged(raw, written)
        except (RedisError, OSError, TimeoutError):
            self.uncertain += count
            return False
        return True

    async def write_at(self, entry_id: str) -> None:
        """One entry with an id of our choice."""
        written = self._next("progress")
        raw = await self._client.xadd(self.key, {"message": _message(written)}, id=entry_id)
        self._acknowledged(raw, written)

    def queue_at(self, pipe: Any, entry_id: str) -> None:
        """One entry with an id of our choice, as a part of a transaction."""
        written = self._next("progress")
        pipe.xadd(self.key, {"message": _message(written)}, id=entry_id)
        self._acknowledged(entry_id.encode(), written)

    async def write_surely(self, kind: str = "progress", *, maxlen: int | None = None) -> StreamId:
        """Entries until one is acknowledged."""
        async with asyncio.timeout(FINISH_TIMEOUT_S):
            while True:
                entry_id = await self.write(kind, maxlen=maxlen)
                if entry_id is not None:
                    return entry_id
                await asyncio.sleep(RETRY_S)

    async def finish(self) -> None:
        """The terminal entry, which must get there."""
        await self.write_surely(TERMINAL)
        self.finished = True

    async def log(self) -> list[Written]:
        """The stream as it is. Raises AssertionError when an acknowledged entry is not in it."""
        found = [_written(raw_id, fields) for raw_id, fields in await self._client.xrange(self.key)]
        gone = self.acked.keys() - {entry.id for entry in found}
        assert not gone, (
            f"{self.key}: the server lost {sorted(gone)[:5]}, which it had acknowledged"
        )
        return found

    async def log_with(self, *, required: bool) -> list[Written]:
        """The stream, and the acknowledged entries that are not in it (any more) besides.

        `required`: they were trimmed, so a viewer has a right to them or to a gap. Else a failover
        lost them.
        """
        found = [_written(raw_id, fields) for raw_id, fields in await self._client.xrange(self.key)]
        entries = {entry.id: entry for entry in found}
        for entry in self.acked.values():
            entries.setdefault(entry.id, entry._replace(required=required))
        return [entries[entry_id] for entry_id in sorted(entries)]

    def _next(self, kind: str) -> Written:
        self._number += 1
        return Written(StreamId(0, 0), self._number, kind, terminal=kind == TERMINAL)

    def _acknowledged(self, raw_id: bytes, written: Written) -> StreamId:
        entry_id = stream_id(raw_id)
        self.acked[entry_id] = written._replace(id=entry_id)
        return entry_id


def _message(written: Written) -> bytes:
    return orjson.dumps(
        {
            "timestamp": time.time(),
            "type": written.type,
            "data": {"n": written.number, "text": TEXT},
        }
    )


def _written(raw_id: bytes, fields: dict[bytes, bytes]) -> Written:
    message = orjson.loads(fields[b"message"])
    kind = message["type"]
    return Written(stream_id(raw_id), message["data"]["n"], kind, terminal=kind == TERMINAL)
