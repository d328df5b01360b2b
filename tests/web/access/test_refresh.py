"""What a `refresh` may cost, and that it ends with its connection."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import jwt
from websockets.asyncio.client import connect

from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers.standalone import Server
from tests.web.access.test_admission import SECRET, guarded, token, watch
from tests.web.auth.http_server import HttpServer, Reply, Request
from tests.web.ws.test_multiplex import ManyViewer

YES = Reply(body=b"{}")
WATCHES = 20


def replica_with(redis: Server, source: HttpServer) -> Replica:
    """Asks the source each time: nothing is kept."""
    asked = {"kind": "http", "url": source.url, "cache_s": 0}
    return guarded(redis, source=asked)


def many(replica: Replica, text: str) -> Any:
    """A multiplexed socket with this token."""
    url = f"ws://127.0.0.1:{replica.settings.server.port}/ws"
    headers = {"Authorization": f"Bearer {text}"}
    return connect(url, additional_headers=headers, compression=None)


async def watch_some(viewer: ManyViewer) -> None:
    for number in range(WATCHES):
        await viewer.watch(f"job-{number}")
    while len(viewer._open) < WATCHES:
        await viewer.next()


def is_renewing() -> bool:
    return any(task.get_name() == "refresh" for task in asyncio.all_tasks())


async def test_the_same_good_token_again_and_again_asked_about_every_watch(
    redis_server: Server,
) -> None:
    held = token("u")
    claims = jwt.decode(held, SECRET, algorithms=["HS256"])
    signed_again = jwt.encode(claims, SECRET, headers={"kid": "x"})
    assert signed_again != held
    async with (
        HttpServer(YES) as source,
        replica_with(redis_server, source) as replica,
        many(replica, held) as socket,
    ):
        viewer = ManyViewer(socket)
        await watch_some(viewer)
        assert len(source.requests) == WATCHES
        for text in (held, signed_again, held):
            await viewer.say(type="refresh", token=text)
            await viewer.until(type="refreshed")
        await until(lambda: not is_renewing(), "it is over")
        assert len(source.requests) == WATCHES
        await viewer.say(type="refresh", token=token("u", role="new"))
        await viewer.until(type="refreshed")
        await until(lambda: len(source.requests) == 2 * WATCHES, "what is new is asked about")


async def test_a_refresh_outlived_its_socket(redis_server: Server) -> None:
    go = asyncio.Event()
    go.set()

    async def answer(request: Request) -> Reply:
        await go.wait()
        return YES

    async with HttpServer(answer) as source, replica_with(redis_server, source) as replica:
        async with many(replica, token("u")) as socket:
            viewer = ManyViewer(socket)
            await watch_some(viewer)
            go.clear()
            await viewer.say(type="refresh", token=token("u", role="new"))
            await viewer.until(type="refreshed")
            await until(lambda: len(source.requests) == WATCHES + 1, "the first is asked about")
            socket.transport.abort()
        await until(lambda: len(replica.runtime._limiter) == 0, "the socket is gone")
        await until(lambda: not is_renewing(), "its refresh is gone, too")
        go.set()
        async with watch(replica, "job-0", token("u")) as other:  # and so time has passed
            await other.state()
        paths = [request.path for request in source.requests]
        assert len(paths) == WATCHES + 2


async def test_refreshes_of_one_connection_ran_beside_each_other(redis_server: Server) -> None:
    now: Counter[str] = Counter()
    most = 0
    is_slow = False

    async def answer(request: Request) -> Reply:
        nonlocal most
        now["asked"] += 1
        most = max(most, now["asked"])
        if is_slow:
            await asyncio.sleep(0.001)
        now["asked"] -= 1
        return YES

    async with (
        HttpServer(answer) as source,
        replica_with(redis_server, source) as replica,
        many(replica, token("u")) as socket,
    ):
        viewer = ManyViewer(socket)
        await watch_some(viewer)
        is_slow, most = True, 0
        texts = [token("u", role=f"role-{number}") for number in range(6)]
        for text in texts:
            await viewer.say(type="refresh", token=text)
        last = f"Bearer {texts[-1]}"
        await until(
            lambda: (
                sum(request.headers["authorization"] == last for request in source.requests)
                == WATCHES
            ),
            "the newest token is asked about in the end",
        )
        assert most == 1


async def test_a_refresh_cost_no_more_than_a_ping(redis_server: Server) -> None:
    async with (
        guarded(redis_server) as replica,
        watch(replica, "42", token("u")) as viewer,
    ):
        await viewer.state()
        texts = [json.dumps({"type": "refresh", "token": token("u", n=n)}) for n in range(10)]
        for text in texts:
            await viewer.say(text)
        frames, close = await viewer.rest()
        assert frames[-1]["data"]["code"] == "too_many_messages"
        assert close.code == 4400


async def test_one_refresh_is_never_too_many(redis_server: Server) -> None:
    async with (
        guarded(redis_server, viewer={"messages_per_s": 1}) as replica,
        watch(replica, "42", token("u")) as viewer,
    ):
        await viewer.state()
        await viewer.say(json.dumps({"type": "refresh", "token": token("u", role="new")}))
        await viewer.until(type="refreshed")
