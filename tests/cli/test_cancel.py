"""`tidegate cancel`: through a replica and in Redis, and where there is nothing to cancel."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.command import end, invoke, run, start
from tests.harness.backend import PREFIX, Backend
from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers.ports import free_port, is_free
from tests.servers.standalone import Server
from tests.web.access.test_admission import guarded, token

KEY = f"{{{PREFIX}42}}:cancel"


def url_of(replica: Replica, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{replica.settings.server.port}"


async def test_through_a_replica(redis_server: Server) -> None:
    async with redis_server.client() as client, Replica(redis_server.url) as replica:
        backend = Backend(client)
        await backend.publish("42")
        dead = f"http://127.0.0.1:{free_port()}"
        for scheme in ("http", "ws"):
            done = await run("cancel", "42", "--url", dead, "--url", url_of(replica, scheme))
            assert done.code == 0, done
            assert done.out.strip().encode() == await client.get(KEY)
        await backend.finish("42")
        done = await run("cancel", "42", "--url", url_of(replica))
        assert (done.code, done.out) == (2, "")
        assert "answered 409: the operation has ended already" in done.err
        done = await run("cancel", "43", "--url", url_of(replica))
        assert done.code == 2
        done = await run("cancel", "42", "--url", dead)
        assert done.code == 1
        assert dead in done.err


async def test_with_a_token(redis_server: Server) -> None:
    async with redis_server.client() as client, guarded(redis_server) as replica:
        await Backend(client).publish("42")
        there = ("cancel", "42", "--url", url_of(replica))
        assert (await run(*there)).code == 2
        bob = await run(*there, "--token", token("bob"))
        assert bob.code == 2
        assert "answered 403" in bob.err
        ann = token("ann", cancel_operations=["42"])
        assert (await run(*there, TIDEGATE_TOKEN=ann)).code == 0


async def test_a_request_outlives_a_replica_that_is_killed(redis_server: Server) -> None:
    """Whoever asks another one, because the answer was lost, has asked once."""
    port, admin = free_port(), free_port()
    async with redis_server.client() as client, Replica(redis_server.url, pod="two") as two:
        await Backend(client).publish("42")
        async with two.watch("42") as viewer:
            await viewer.state()
            serve = ("serve", "--auth", "none", "--pod", "one", "--redis", redis_server.url)
            ports = ("--port", str(port), "--admin-port", str(admin))
            one = await start(*serve, *ports)
            await until(lambda: not is_free(port))
            there = ("cancel", "42", "--url", f"http://127.0.0.1:{port}")
            first = await run(*there)
            assert first.code == 0, first
            await end(one)
            again = await run(*there, "--url", url_of(two))
            assert (again.code, again.out) == (0, first.out)
            asked = await viewer.until(type="cancel_requested")
            assert asked["id"] == first.out.strip()
        assert await client.xlen(PREFIX + "42") == 2


async def test_in_redis(redis_server: Server) -> None:
    async with redis_server.client() as client:
        backend = Backend(client)
        there: Any = ("--redis", redis_server.url)
        missing = await invoke("cancel", "42", *there)
        assert (missing.code, missing.out) == (2, "")
        await backend.publish("42")
        for _ in range(2):
            done = await invoke("cancel", "42", *there)
            assert done.code == 0, done
            assert done.out.strip().encode() == await client.get(KEY)
        assert await client.xlen(PREFIX + "42") == 2
        await backend.finish("42", "cancelled")
        assert (await invoke("cancel", "42", *there)).code == 2
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    assert (await invoke("cancel", "42", "--redis", nowhere)).code == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a b",), "operation_id: must be"),
        (("42", "--url", "ftp://x"), "no http:// or https:// address"),
        (("42", "--url", "http://"), "no http:// or https:// address"),
        (("42", "--url", "http://x", "--redis", "redis://x"), "not both"),
        (("42", "--redis", "http://x"), "redis.url"),
    ],
)
async def test_what_makes_no_sense(arguments: tuple[str, ...], said: str) -> None:
    done = await invoke("cancel", *arguments)
    assert done.code == 2
    assert said in done.err
