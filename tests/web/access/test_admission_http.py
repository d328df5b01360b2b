"""Tokens, slots and expiry for event streams and requests: the same rules, in HTTP's words."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from tests.harness.backend import Backend
from tests.harness.plain_http import plain_client
from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers.standalone import Server
from tests.web.access.test_admission import ends_soon, guarded, token
from tests.web.sse.test_sse import EventReader, url

PATHS = (
    "/operations/42",
    "/operations/42/events",
    "/operations/42/events?wait=30",
    "/sse/operations/42",
)


def client_of(replica: Replica, text: str | None) -> httpx.AsyncClient:
    headers = {} if text is None else {"Authorization": f"Bearer {text}"}
    port = replica.settings.server.port
    return plain_client(f"http://127.0.0.1:{port}", headers=headers)


async def test_without_a_good_token_it_is_401(redis_server: Server, backend: Backend) -> None:
    await backend.publish("42")
    async with guarded(redis_server) as replica:
        for text in (None, "not.a.token", token("u", ttl_s=-10)):
            async with client_of(replica, text) as client:
                for path in PATHS:
                    response = await client.get(path)
                    assert response.status_code == 401, (path, text)
                    assert response.headers["content-type"] == "application/problem+json"
                    assert response.headers["www-authenticate"] == "Bearer"
                    assert text is None or text not in response.text
        async with client_of(replica, token("u")) as client:
            for path in PATHS:
                evil = await client.get(path, headers={"Origin": "http://evil.example"})
                assert (evil.status_code, evil.json()["code"]) == (403, "origin"), path
        assert replica.viewers == 0
        assert len(replica.runtime._limiter) == 0


async def test_who_stays_takes_a_slot_and_who_asks_does_not(
    redis_server: Server, backend: Backend
) -> None:
    await backend.publish("42")
    limit = {"limit": 1}
    async with (
        guarded(redis_server, slots=limit) as replica,
        client_of(replica, token("u")) as client,
        client.stream("GET", url(replica, "42")) as response,
    ):
        events = EventReader(response)
        cursor = (await events.next()).id
        for path in ("/sse/operations/42", "/operations/42/events?wait=30"):
            refused = await client.get(path)
            assert refused.status_code == 429
            assert refused.json()["code"] == "connection_limit"
            assert int(refused.headers["retry-after"]) > 0
        for path in ("/operations/42", f"/operations/42/events?after={cursor}"):
            assert (await client.get(path)).status_code == 200
        await response.aclose()
        await until(lambda: len(replica.runtime._limiter) == 0)
        entry = await backend.publish("42")
        query = {"after": cursor, "wait": "30"}
        page: dict[str, Any] = (await client.get("/operations/42/events", params=query)).json()
        assert page["cursor"] == entry


async def test_an_expired_token_ends_a_stream_and_a_wait(
    redis_server: Server, backend: Backend
) -> None:
    ids = await backend.publish_many("42", 1)
    async with guarded(redis_server) as replica, client_of(replica, token("u", 50.0)) as client:
        query = {"after": ids[-1], "wait": "30"}
        waiting = asyncio.create_task(client.get("/operations/42/events", params=query))
        async with client.stream("GET", url(replica, "42")) as response:
            await until(lambda: replica.viewers == 2, "both wait for what comes")
            ends_soon(replica, "u")
            found = await EventReader(response).rest()
        assert [event.data["type"] for event in found][-2:] == ["error", "end"]
        assert found[-2].data["data"]["code"] == "token_expired"
        assert found[-1].data["data"] == {"code": 4401, "name": "unauthenticated"}
        refused = await waiting
        assert (refused.status_code, refused.json()["code"]) == (401, "token_expired")


async def test_an_operation_that_only_its_source_knows_has_a_state(
    redis_server: Server, backend: Backend
) -> None:
    fields: dict[Any, Any] = {"users": "*", "status": "queued", "state": '{"title":"x"}'}
    await backend.client.hset("operation:42", mapping=fields)
    source = {"kind": "redis", "redis_prefix": "operation:"}
    async with guarded(redis_server, source=source) as replica:  # noqa: SIM117
        async with client_of(replica, token("u")) as client:
            response = await client.get("/operations/42")
            assert response.status_code == 200
            body = response.json()
            assert (body["status"], body["finished"], body["cursor"]) == ("queued", False, "0-0")
            assert body["data"]["title"] == "x"
            unknown = await client.get("/operations/43")
            assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
