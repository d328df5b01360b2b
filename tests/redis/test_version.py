"""Old servers are refused by name. Their answers are texts here: no old server can be had."""

from __future__ import annotations

from typing import Any, cast

import hiredis
import pytest

from tests.redis.open_link import OpenLink
from tests.servers.standalone import Server
from tidegate.model.errors import RedisUnsupported
from tidegate.redis.link import Link
from tidegate.redis.version import check_version


class Answer:
    """Stands in for a link to a server that cannot be had any more."""

    def __init__(self, info: str | Exception) -> None:
        self._info = info

    async def call(self, *_: object) -> bytes:
        if isinstance(self._info, Exception):
            raise self._info
        return self._info.encode()


async def check(info: str | Exception, version: bytes = b"7.2.4") -> str:
    greeting: dict[bytes, Any] = {b"version": version}
    return await check_version(cast("Link", Answer(info)), greeting)


@pytest.mark.parametrize(
    ("info", "version"),
    [
        ("redis_version:6.2.14", b"6.2.14"),
        ("redis_version:5.0.7", b"5.0.7"),
        ("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:7.1.0", b"7.2.4"),
        ("", b"6.2.6"),
    ],
)
async def test_too_old_is_told_with_what_is_needed(info: str, version: bytes) -> None:
    with pytest.raises(RedisUnsupported, match=r"too old: Redis 7\.0 or Valkey 7\.2"):
        await check(info, version)


@pytest.mark.parametrize(
    ("info", "version", "expected"),
    [
        ("redis_version:7.0.15", b"7.0.15", "redis 7.0.15"),
        ("redis_version:8.2.1", b"8.2.1", "redis 8.2.1"),
        ("redis_version:10.0.0", b"10.0.0", "redis 10.0.0"),
        ("redis_version:7.2.4\r\nvalkey_version:7.2.5", b"7.2.4", "valkey 7.2.5"),
        ("redis_version:7.2.4\r\nvalkey_version:9.1.2", b"7.2.4", "valkey 9.1.2"),
        ("", b"7.0.0", "redis 7.0.0"),
    ],
)
async def test_new_enough(info: str, version: bytes, expected: str) -> None:
    assert await check(info, version) == expected


async def test_without_leave_to_look_the_greeting_has_to_do() -> None:
    denied = hiredis.ReplyError("NOPERM this user has no permissions to run INFO")
    assert await check(denied, b"7.2.4") == "redis 7.2.4"
    with pytest.raises(RedisUnsupported):
        await check(denied, b"6.0.0")


async def test_real_servers_tell_their_real_names(any_server: Server) -> None:
    async with OpenLink(any_server) as link:
        binary = any_server.binary
        expected = f"{binary.family} {binary.version}"
        assert await check_version(link.link, link.greeting) == expected
