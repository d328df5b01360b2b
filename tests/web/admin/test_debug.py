"""The look inside on the admin port: who gets it, and what it says of an operation and of tasks."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import httpx
import pytest

from tests.harness.backend import Backend
from tests.harness.plain_http import plain_client
from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers.proxy import Proxy
from tests.servers.standalone import Server
from tidegate.web.auth.host import is_loopback

TOKEN = "admin-token-of-a-test"
PAGES = ("/debug/state", "/debug/operations", "/debug/operations/42", "/debug/tasks")
OPEN = ("/healthz", "/readyz", "/metrics")


async def ask(
    replica: Replica, path: str, *, address: str = "127.0.0.1", **headers: str
) -> httpx.Response:
    port = replica.settings.server.admin_port
    async with plain_client(f"http://{address}:{port}") as client:
        return await client.get(path, headers={k.replace("_", "-"): v for k, v in headers.items()})


# -- who gets it -----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_without_a_token_loopback_may_look(
    redis_server: Server, backend: Backend, host: str
) -> None:
    if host == "::1" and not _has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    await backend.publish("42")
    async with Replica(redis_server.url, server={"admin_host": host}) as replica:
        address = f"[{host}]" if ":" in host else host
        for path in (*PAGES, *OPEN):
            assert (await ask(replica, path, address=address)).status_code == 200


NOT_HERE = (
    "evil.example",
    "evil.example:9090",
    "127.0.0.1.evil.example",
    "10.0.0.7",
    "",
    "[::2]:1",
)


async def test_a_name_that_somebody_else_made_resolve_here_may_not(redis_server: Server) -> None:
    async with Replica(redis_server.url) as replica:
        for host in NOT_HERE:
            for path in PAGES:
                answer = await ask(replica, path, host=host)
                assert answer.status_code == 403, (host, path)
                assert "server.admin_token" in answer.json()["detail"]
            assert (await ask(replica, "/healthz", host=host)).status_code == 200, host


async def test_without_a_token_nobody_may_look_where_others_reach_it(redis_server: Server) -> None:
    """As in a pod: probes and Prometheus come from elsewhere."""
    async with Replica(redis_server.url, server={"admin_host": "0.0.0.0"}) as replica:
        for path in PAGES:
            answer = await ask(replica, path)
            assert answer.status_code == 403
            assert "server.admin_token" in answer.json()["detail"]
        for path in OPEN:
            assert (await ask(replica, path)).status_code == 200


@pytest.mark.parametrize("admin_host", ["127.0.0.1", "0.0.0.0"])
async def test_with_a_token_only_who_has_it(
    redis_server: Server, backend: Backend, admin_host: str
) -> None:
    await backend.publish("42")
    server = {"admin_host": admin_host, "admin_token": TOKEN}
    async with Replica(redis_server.url, server=server) as replica:
        wrong = ["", "Bearer", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"]
        for path in PAGES:
            for given in (*wrong, f"Basic {TOKEN}", f"Bearer  {TOKEN}"):
                answer = await ask(replica, path, authorization=given)
                assert answer.status_code == 401, given
                assert answer.headers["www-authenticate"] == "Bearer"
                assert TOKEN not in answer.text
            given = f"Bearer {TOKEN}"
            answer = await ask(replica, path, authorization=given, host="tidegate.example")
            assert answer.status_code == 200
        for path in OPEN:
            assert (await ask(replica, path)).status_code == 200


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("LOCALHOST.", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.1.2.3", False),
        ("0.0.0.0", False),
        ("::", False),
        ("10.1.2.3", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.nip.io", False),
        ("2130706433", False),
        ("", False),
    ],
)
def test_what_is_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


# -- an operation ----------------------------------------------------------------------------------


async def _settled(replica: Replica) -> None:
    """The call that brought the last entry is answered; the relay comes before its answer."""
    (primary,) = replica.feed._primaries.values()
    (watch,) = primary.dispatcher.watches.values()
    await until(lambda: not watch.arming.in_flight, "answered")


async def test_an_operation_that_is_watched(redis_server: Server, backend: Backend) -> None:
    ids = await backend.publish_many("42", 3)
    async with Replica(redis_server.url, pod="a") as replica, replica.watch("42") as viewer:
        await viewer.state()
        await viewer.entries(3)
        ids.append(await backend.publish("42"))
        await viewer.entries(1)
        await until(lambda: replica.hub.stats().live == 1)
        await _settled(replica)
        seen = (await ask(replica, "/debug/operations/42")).json()
    assert seen["operation"] == "42"
    assert seen["followed"] is True
    assert (
        seen["topic"].items()
        >= {
            "state": "live",
            "status": "running",
            "finished": False,
            "cursor": ids[-1],
            "stale_since": None,
        }.items()
    )
    assert seen["viewers"] == {
        "live": 1,
        "lagging": 0,
        "catching_up": 0,
        "ahead": 0,
        "waiting": 0,
    }
    assert seen["lag"] == {"entries": 0, "more": False, "ms": 0}
    assert seen["stream"].items() >= {"first": ids[0], "last": ids[-1], "length": 4}.items()
    assert seen["group"] == {"last_delivered": ids[-1], "lag": 0, "pending": 0, "consumers": 1}
    assert seen["ring"]["frames"] == 4
    assert 0 < seen["ring"]["bytes"] < seen["ring"]["max_bytes"]
    assert (
        seen["dispatch"].items()
        >= {
            "attached": True,
            "role": "leading",
            "in_flight": False,
        }.items()
    )


async def test_viewers_by_what_they_do(redis_server: Server, backend: Backend) -> None:
    viewer_settings = {"high_water_bytes": 2_048, "low_water_bytes": 512}
    async with (
        Replica(redis_server.url, viewer=viewer_settings) as replica,
        replica.watch("42") as viewer,
    ):
        await viewer.state()
        with await replica.raw("42", receive_buffer=4_096):
            await until(lambda: replica.hub.stats().live == 2)
            ids = await backend.publish_many("42", 300, pad=2_000)
            await viewer.until_id(ids[-1])
            await until(lambda: replica.hub.stats()[1:4] == (1, 1, 0), "one live, one lagging")
            seen = (await ask(replica, "/debug/operations/42")).json()
    assert seen["viewers"].items() >= {"live": 1, "lagging": 1}.items()


async def test_how_far_behind_a_replica_is(redis_server: Server, backend: Backend) -> None:
    """Its link hangs, and its other connection to Redis tells what it does not have."""
    async with (
        Proxy((redis_server.host, redis_server.port)) as proxy,
        Replica(f"redis://{proxy.address}/0") as replica,
        replica.watch("42") as viewer,
    ):
        await viewer.state()
        first = await backend.publish("42")
        await viewer.entries(1)
        await _settled(replica)  # else a call on its way could bring the next ones
        (primary,) = replica.feed._primaries.values()
        dispatcher = primary.dispatcher
        link, dispatcher.link = dispatcher.link, None  # deaf: rings and relays come to nothing
        assert link is not None
        link.on_push = lambda _: None
        last = (await backend.publish_many("42", 7))[-1]
        seen = (await ask(replica, "/debug/operations/42")).json()
        dispatcher.link, link.on_push = link, dispatcher.pushed
    assert seen["topic"]["cursor"] == first
    assert seen["stream"]["last"] == last
    ms = int(last.split("-")[0]) - int(first.split("-")[0])
    assert seen["lag"] == {"entries": 7, "more": False, "ms": ms}
    assert seen["group"]["last_delivered"] == first
    assert seen["group"]["lag"] == 7


async def test_an_operation_that_nobody_watches_here(
    redis_server: Server, backend: Backend
) -> None:
    entry_id = await backend.publish("42")
    async with Replica(redis_server.url) as replica:
        seen = (await ask(replica, "/debug/operations/42")).json()
        assert seen["followed"] is False
        assert seen["stream"]["last"] == entry_id
        assert seen["group"] is None
        assert "viewers" not in seen
        # Looking changes nothing.
        assert replica.hub.stats().operations == 0
        assert await backend.groups("42") == []
        assert (await ask(replica, "/debug/operations/43")).status_code == 404


async def test_an_operation_without_a_stream_yet(redis_server: Server) -> None:
    async with Replica(redis_server.url) as replica, replica.watch("42") as viewer:
        await viewer.state()
        seen = (await ask(replica, "/debug/operations/42")).json()
    assert (seen["followed"], seen["stream"], seen["group"]) == (True, None, None)
    assert seen["topic"]["status"] == "unknown"


HOSTILE = {
    "/debug/operations/" + "x" * 129: 400,
    "/debug/operations/%7Btidegate%7D:pods": 400,
    "/debug/operations/a%20b": 400,
    "/debug/operations/%00": 400,
    "/debug/operations/*": 400,
    "/debug/operations/..%2f..%2fetc": 404,  # another path
    "/debug/operations/%ff%fe": 400,
    "/debug/operations/": 404,
    "/debug/tasks?limit=0": 422,
    "/debug/tasks?limit=1001": 422,
    "/debug/tasks?limit=x": 422,
}


async def test_hostile_paths(redis_server: Server) -> None:
    async with Replica(redis_server.url) as replica:
        for path, status in HOSTILE.items():
            assert (await ask(replica, path)).status_code == status, path
            assert replica.hub.stats().operations == 0, path


async def test_a_key_that_is_no_stream(redis_server: Server, backend: Backend) -> None:
    await backend.client.set("operation-progress:42", "text")
    async with Replica(redis_server.url) as replica:
        answer = await ask(replica, "/debug/operations/42")
    assert answer.status_code == 409
    assert "no stream" in answer.json()["detail"]


async def test_while_redis_is_away(redis_server: Server, backend: Backend) -> None:
    """What is known here is told all the same."""
    await backend.publish("42")
    async with (
        Proxy((redis_server.host, redis_server.port)) as proxy,
        Replica(f"redis://{proxy.address}/0", redis={"connect_timeout_s": 0.3}) as replica,
        replica.watch("42") as viewer,
    ):
        await viewer.state()
        await viewer.entries(1)
        await proxy.refuse()
        proxy.cut()
        await viewer.until(type="stale")
        answer = await ask(replica, "/debug/operations/42")
        assert answer.status_code == 200
        seen: dict[str, Any] = answer.json()
        assert seen["redis"]["error"]
        assert seen["viewers"]["live"] == 1
        assert seen["topic"]["stale_since"]
        unknown = await ask(replica, "/debug/operations/43")
        assert unknown.status_code == 503
        assert unknown.headers["retry-after"] == "2"
        await proxy.accept()


# -- tasks -----------------------------------------------------------------------------------------


async def test_tasks_with_names_ages_and_where_they_stand(redis_server: Server) -> None:
    async with Replica(redis_server.url) as replica:
        await asyncio.sleep(0.05)  # so that there is an age
        seen = (await ask(replica, "/debug/tasks?limit=1000")).json()
    by_name = {task["name"]: task for task in seen["tasks"]}
    assert {"feed", "lease", "slots", "control", "public", "admin"} <= by_name.keys()
    assert by_name["feed"]["coroutine"] == "RedisFeed.run"
    assert 0.05 <= by_name["feed"]["age_s"] < 60
    assert by_name["feed"]["at"].startswith(("tidegate.redis.", "asyncio."))
    assert by_name["feed"]["waits_for"]
    assert seen["count"] == len(seen["tasks"])
    assert seen["omitted"] == 0
    ages = [task["age_s"] for task in seen["tasks"] if task["age_s"] is not None]
    assert ages == sorted(ages, reverse=True)


async def test_many_tasks_are_counted_and_not_all_listed(redis_server: Server) -> None:
    forever = asyncio.Event()

    async def inner() -> None:
        await forever.wait()

    async def outer() -> None:
        await inner()

    async with Replica(redis_server.url) as replica:
        tasks = [asyncio.create_task(outer(), name=f"sse-send-{n}") for n in range(500)]
        try:
            await asyncio.sleep(0)
            few = (await ask(replica, "/debug/tasks?limit=5")).json()
            usual = (await ask(replica, "/debug/tasks")).json()
            most = (await ask(replica, "/debug/tasks?limit=1000")).json()
        finally:
            forever.set()
            await asyncio.gather(*tasks)
    assert len(few["tasks"]) == 5
    assert few["omitted"] == few["count"] - 5
    assert len(usual["tasks"]) == 100
    assert few["by_name"]["sse-send"] == 500
    one = next(task for task in most["tasks"] if task["name"] == "sse-send-7")
    assert one["age_s"] is None
    assert one["at"].startswith("asyncio.locks:")  # below `outer` and `inner`
    assert one["at"].endswith(" wait")
    assert one["waits_for"] == "Future"


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True
