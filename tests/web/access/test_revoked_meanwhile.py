"""The right to an answer may end while the answer is looked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers.standalone import Server
from tests.web.access.test_admission import guarded, token, watch
from tests.web.access.test_admission_http import PATHS, client_of
from tests.web.access.test_revocation import close_of, revoke
from tests.web.auth.http_server import HttpServer, Reply, Request

YES = Reply(body=b'{"status": "running"}')


class SlowSource:
    """Answers when told to."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    async def answer(self, request: Request) -> Reply:
        self.asked.set()
        await self.go.wait()
        return YES


@asynccontextmanager
async def asking(redis: Server) -> AsyncIterator[tuple[Replica, SlowSource]]:
    slow = SlowSource()
    async with HttpServer(slow.answer) as server:
        try:
            async with guarded(redis, source={"kind": "http", "url": server.url}) as replica:
                yield replica, slow
        finally:
            slow.go.set()


async def take_back(replica: Replica) -> None:
    before = len(replica.runtime._admission.revocations)
    assert (await revoke(replica, token_id="lost")).json() == {"replicas": 1}
    await until(lambda: len(replica.runtime._admission.revocations) > before, "it is known here")


@pytest.mark.parametrize("path", PATHS)
async def test_a_token_revoked_while_the_source_was_asked_got_data(
    redis_server: Server, backend: Backend, path: str
) -> None:
    await backend.publish("42")
    async with (
        asking(redis_server) as (replica, slow),
        client_of(replica, token("u", jti="lost")) as client,
    ):
        request = asyncio.create_task(client.get(path))
        await slow.asked.wait()
        await take_back(replica)
        slow.go.set()
        answer = await request
        assert (answer.status_code, answer.json()["code"]) == (401, "token_revoked")


async def test_a_socket_whose_token_was_revoked_meanwhile_gets_nothing(
    redis_server: Server, backend: Backend
) -> None:
    await backend.publish("42")
    async with (
        asking(redis_server) as (replica, slow),
        watch(replica, "42", token("u", jti="lost")) as viewer,
    ):
        await slow.asked.wait()
        await take_back(replica)
        slow.go.set()
        assert await close_of(viewer) == ("token_revoked", 4401)
        assert [frame["type"] for frame in viewer.frames] == ["error"]


async def test_a_wait_of_a_user_who_was_disconnected_meanwhile_got_data(
    redis_server: Server, backend: Backend
) -> None:
    await backend.publish("42")
    async with (
        asking(redis_server) as (replica, slow),
        client_of(replica, token("u")) as client,
    ):
        request = asyncio.create_task(client.get("/operations/42/events?wait=30"))
        await slow.asked.wait()
        assert len(replica.runtime._admission) == 1
        await revoke(replica)
        await until(lambda: all(bell.closed for bell in _waiters(replica)), "it has heard of it")
        slow.go.set()
        answer = await request
        assert answer.status_code == 403


async def _reading_is_held(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, name: str
) -> tuple[asyncio.Event, asyncio.Event]:
    reader = replica.hub.reader
    read: Callable[..., Awaitable[object]] = getattr(reader, name)
    asked, go = asyncio.Event(), asyncio.Event()

    async def slow(*args: object, **options: object) -> object:
        asked.set()
        await go.wait()
        return await read(*args, **options)

    monkeypatch.setattr(reader, name, slow)
    return asked, go


@pytest.mark.parametrize(
    ("path", "name"),
    [("/operations/42", "state"), ("/operations/42/events", "page")],
)
async def test_a_token_revoked_while_the_stream_was_read_got_data(
    redis_server: Server,
    backend: Backend,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    name: str,
) -> None:
    await backend.publish("42")
    async with (
        guarded(redis_server) as replica,
        client_of(replica, token("u", jti="lost")) as client,
    ):
        asked, go = await _reading_is_held(replica, monkeypatch, name)
        request: asyncio.Task[httpx.Response] = asyncio.create_task(client.get(path))
        await asked.wait()
        await take_back(replica)
        go.set()
        answer = await request
        assert (answer.status_code, answer.json()["code"]) == (401, "token_revoked")


def _waiters(replica: Replica) -> list[Any]:
    return list(replica.runtime._limiter._inside)
