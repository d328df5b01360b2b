"""Is the server new enough? Sharded pub/sub, script flags and exact stream counters came with Redis
7.0.

Valkey tells an old `redis_version` for compatibility, so its own version is asked for first.
"""

from __future__ import annotations

from typing import Any

import hiredis

from tidegate.model.errors import RedisUnsupported
from tidegate.redis.link import Link

OLDEST_REDIS = (7, 0)
OLDEST_VALKEY = (7, 2)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


async def check_version(link: Link, greeting: dict[bytes, Any]) -> str:
    """The server's name and version.

    Raises:
        RedisUnsupported: too old.
    """
    name, version = "redis", greeting.get(b"version", b"").decode()
    try:
        info = (await link.call("INFO", "server")).decode()
    except (hiredis.ReplyError, AttributeError):
        info = ""  # not allowed to look: the greeting has to do
    for line in info.splitlines():
        if line.startswith("valkey_version:"):
            name, version = "valkey", line.partition(":")[2]
    oldest = OLDEST_VALKEY if name == "valkey" else OLDEST_REDIS
    if version and _numbers(version) < oldest:
        raise RedisUnsupported(
            f"{name} {version} is too old: Redis 7.0 or Valkey 7.2 and later are needed"
        )
    return f"{name} {version}"
