"""The link keeps the server's order of pushes and replies, and says when it is over."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path

import hiredis
import pytest

from tests.harness.backend import Backend
from tests.harness.waiting import until
from tests.redis.open_link import OpenLink
from tests.servers import binaries
from tests.servers.proxy import Proxy
from tests.servers.standalone import Options, Server
from tests.servers.tls import Certificates
from tidegate.model.errors import RedisUnavailable


async def test_pushes_and_replies_come_in_the_servers_order(
    any_server: Server, either: Backend
) -> None:
    async with OpenLink(any_server) as link:
        link.link.subscribe("SSUBSCRIBE", b"c")
        expected: list[object] = []
        for number in range(100):
            link.send("ECHO", number)
            await link.barrier()
            await either.client.execute_command("SPUBLISH", "c", number)
            expected += [b"%d" % number, [b"smessage", b"c", b"%d" % number]]
        await link.barrier()
    assert link.seen == expected


async def test_its_own_messages_stay_beside_the_reply(any_server: Server) -> None:
    """In front of it on Redis 7.0, behind it on Valkey 9: nothing may depend on which."""
    publish = "return redis.call('SPUBLISH', KEYS[1], ARGV[1])"
    async with OpenLink(any_server) as link:
        link.link.subscribe("SSUBSCRIBE", b"c")
        for number in range(100):
            link.send("EVAL", publish, 1, "c", number)
        await link.barrier()
        await link.barrier()
    pairs = [link.seen[at : at + 2] for at in range(0, 200, 2)]
    for number, pair in enumerate(pairs):
        message = [b"smessage", b"c", b"%d" % number]
        assert pair in ([message, 1], [1, message])


async def test_a_ring_comes_before_the_reply_to_what_is_sent_after_it(
    any_server: Server, either: Backend
) -> None:
    async with OpenLink(any_server) as link:
        await link.call("CLIENT", "TRACKING", "ON", "NOLOOP")
        await link.call("XLEN", "a")
        await either.client.xadd("a", {"n": 1})
        link.send("XLEN", "a")
        await link.barrier()
        assert link.seen == [[b"invalidate", [b"a"]], 1]


async def test_an_error_is_a_reply_like_any_other(any_server: Server) -> None:
    async with OpenLink(any_server) as link:
        link.send("NO-SUCH-COMMAND")
        link.send("ECHO", "still here")
        await link.barrier()
        assert isinstance(link.seen[0], hiredis.ReplyError)
        assert link.seen[1] == b"still here"
        with pytest.raises(hiredis.ReplyError):
            await link.call("INCR")


async def test_an_unsubscribe_shifts_no_reply(any_server: Server, either: Backend) -> None:
    async with OpenLink(any_server) as link:
        for _ in range(20):
            link.link.subscribe("SSUBSCRIBE", b"c")
            link.send("ECHO", "one")
            link.link.unsubscribe("SUNSUBSCRIBE", b"c")
            link.send("ECHO", "two")
        await link.barrier()
        assert link.seen == [b"one", b"two"] * 20


async def test_all_that_one_read_brings_is_one_turn(any_server: Server) -> None:
    async with OpenLink(any_server) as link:
        await link.barrier()
        before = link.turns.begun
        for number in range(500):
            link.send("ECHO", number)
        await link.barrier()
        assert len(link.seen) == 500
        assert link.turns.begun - before < 50
        assert link.turns.begun == link.turns.ended


async def test_a_lost_link_answers_everything_that_waits(any_server: Server) -> None:
    async with OpenLink(any_server) as link:
        link.send("BLPOP", "nothing", 0)
        waiting = asyncio.create_task(link.call("ECHO", "never"))
        await asyncio.sleep(0)
        async with any_server.client() as client:
            await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        async with asyncio.timeout(10):
            await link.lost.wait()
        with pytest.raises(RedisUnavailable):
            await waiting
        assert isinstance(link.seen[0], RedisUnavailable)
        with pytest.raises(RedisUnavailable):
            await link.call("PING")
        link.send("PING")  # dropped without a word


async def test_bytes_that_are_no_protocol_end_the_link(redis_server: Server) -> None:
    await said_by_the_server(redis_server, b"HTTP/1.1 400 Bad Request\r\n")


async def test_a_reply_that_nobody_asked_for_ends_the_link(redis_server: Server) -> None:
    """Every later reply would go to the wrong one."""
    await said_by_the_server(redis_server, b"+OK\r\n")


async def said_by_the_server(server: Server, data: bytes) -> None:
    """Put bytes into the stream from the server, and wait for the end of the link."""
    proxy = Proxy((server.host, server.port))
    async with proxy, OpenLink(server, url=f"redis://{proxy.address}/0") as link:
        await link.barrier()
        for lane in proxy.down.lanes:
            lane.feed(data)
        async with asyncio.timeout(10):
            await link.lost.wait()


async def test_large_replies_arrive_whole(any_server: Server, either: Backend) -> None:
    text = b"x" * 5_000_000
    await either.client.set("large", text)
    async with OpenLink(any_server) as link:
        assert await link.call("GET", "large") == text


# --- logging in


async def test_the_greeting_tells_version_and_role(any_server: Server) -> None:
    async with OpenLink(any_server) as link:
        assert link.greeting[b"proto"] == 3
        assert link.greeting[b"role"] == b"master"
        assert link.greeting[b"version"]


async def test_user_and_password_from_the_url_or_from_settings(
    any_server: Server, either: Backend
) -> None:
    secret = "p@ss/w:rd%?# ä"
    await either.client.execute_command("ACL", "SETUSER", "gate", "on", f">{secret}", "~*", "+@all")
    async with OpenLink(any_server, username="gate", password=secret) as link:
        assert await link.call("ACL", "WHOAMI") == b"gate"
    quoted = "p%40ss%2Fw%3Ard%25%3F%23%20%C3%A4"
    url = f"redis://gate:{quoted}@{any_server.address}/0"
    async with OpenLink(any_server, url=url) as link:
        assert await link.call("ACL", "WHOAMI") == b"gate"
    with pytest.raises(hiredis.ReplyError, match="WRONGPASS"):
        async with OpenLink(any_server, username="gate", password="wrong"):
            pass


async def test_a_reply_that_came_while_the_loop_stood_still_is_not_overdue(
    any_server: Server,
) -> None:
    """uvloop's timers come before what can be read."""
    async with OpenLink(any_server) as link:
        await link.barrier()
        link.send("ECHO", "a")
        await asyncio.sleep(0)  # it leaves
        time.sleep(0.3)  # noqa: ASYNC251  # that is what it is about
        assert not link.link.is_overdue(0.1)
        await until(lambda: link.seen == [b"a"])
        assert not link.link.is_overdue(0.1)


async def test_a_reply_that_does_not_come_is_overdue(any_server: Server) -> None:
    async with OpenLink(any_server) as link:
        await link.barrier()
        await asyncio.sleep(0.2)
        assert not link.link.is_overdue(0.1), "none is owed"
        link.send("BLPOP", "nothing", 0)
        await until(lambda: link.link.is_overdue(0.1))


async def test_a_password_without_a_user_is_the_default_users() -> None:
    async with Server(binaries.embedded(), Options(password="s:3cret@")) as server:
        async with OpenLink(server) as link:
            assert await link.call("ACL", "WHOAMI") == b"default"
        with pytest.raises(hiredis.ReplyError, match="NOAUTH"):
            async with OpenLink(server, url=f"redis://{server.address}/0") as link:
                await link.call("PING")


async def test_the_database_is_selected(any_server: Server) -> None:
    async with OpenLink(any_server, url=f"redis://{any_server.address}/7") as link:
        await link.call("SET", "here", "1")
        info = await link.call("INFO", "keyspace")
        assert b"db7:keys=1" in info


async def test_a_unix_socket() -> None:
    server = Server(binaries.embedded(), Options(unix_socket=True))
    async with server, OpenLink(server, url=server.unix_url) as link:
        assert await link.call("PING") == b"PONG"


@pytest.mark.real("tls-server")
async def test_tls_with_the_right_authority_only(
    certificates: Certificates, tmp_path: Path
) -> None:
    stranger = Certificates(tmp_path / "stranger")
    async with Server(binaries.require("tls-server"), Options(tls=certificates)) as server:
        async with OpenLink(server, tls_ca_file=certificates.ca_file) as link:
            assert await link.call("PING") == b"PONG"
        with pytest.raises(ssl.SSLCertVerificationError):
            async with OpenLink(server, tls_ca_file=stranger.ca_file):
                pass
        with pytest.raises((ConnectionError, RedisUnavailable)):
            async with OpenLink(server, url=f"redis://{server.address}/0"):
                pass
