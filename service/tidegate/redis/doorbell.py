"""Which change notification (doorbell) a server allows, found by trying it on a new link.

    tracking   CLIENT TRACKING: the read in `dispatch` arms, the next write pushes `invalidate`
    keyspace   keyspace notifications are enabled: one channel per key
    poll       neither: every stream is read every `redis.poll_interval_s`

Trying is more reliable than asking: CONFIG is often forbidden, and a server may know a command
without allowing it.
"""

from __future__ import annotations

import asyncio
import enum
import secrets
from typing import Any

import hiredis

from tidegate.model.errors import RedisUnsupported
from tidegate.redis.link import Link

#: A server that has notifications on answers within a round trip; this is for a busy one.
KEYSPACE_PATIENCE_S = 0.5


class Doorbell(enum.Enum):
    """How growth of a stream is noticed."""

    TRACKING = "tracking"
    KEYSPACE = "keyspace"
    POLL = "poll"


def keyspace_channel(db: int, key: bytes) -> bytes:
    """The channel of a key's notifications."""
    return b"__keyspace@%d__:%b" % (db, key)


class Prober:
    """Tries the doorbells in order of preference; gets the link's pushes until it has chosen."""

    def __init__(self, db: int) -> None:
        self._db = db
        self._key = f"{{tidegate}}:probe:{secrets.token_hex(8)}".encode()
        self._heard = asyncio.Event()

    def on_push(self, push: list[Any]) -> None:
        """A push that arrived while probing."""
        if push[0] == b"message" and push[1] == keyspace_channel(self._db, self._key):
            self._heard.set()

    async def choose(self, link: Link, wanted: str) -> Doorbell:
        """The best doorbell that works, or the one that is wanted.

        Raises:
            RedisUnsupported: the wanted one does not work here.
        """
        if wanted in ("auto", "tracking"):
            try:
                await link.call("CLIENT", "TRACKING", "ON", "NOLOOP")
                return Doorbell.TRACKING
            except hiredis.ReplyError as error:
                if wanted == "tracking":
                    raise RedisUnsupported(
                        f"redis.doorbell is tracking, but the server refuses it: {error}"
                    ) from None
        if wanted in ("auto", "keyspace"):
            if await self._keyspace_works(link):
                return Doorbell.KEYSPACE
            if wanted == "keyspace":
                raise RedisUnsupported(
                    "redis.doorbell is keyspace, but no notification arrives; "
                    "set notify-keyspace-events to Ktg$ on the server, or redis.doorbell to auto"
                )
        return Doorbell.POLL

    async def _keyspace_works(self, link: Link) -> bool:
        channel = keyspace_channel(self._db, self._key)
        try:
            await link.subscribed("SUBSCRIBE", channel)
            await link.call("SET", self._key, "1", "PX", 1000)
            async with asyncio.timeout(KEYSPACE_PATIENCE_S):
                await self._heard.wait()
            return True
        except (hiredis.ReplyError, TimeoutError):
            return False
        finally:
            link.unsubscribe("UNSUBSCRIBE", channel)
