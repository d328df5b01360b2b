"""State and pages over HTTP: what a poller sees, and that it misses nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.harness.backend import PREFIX, Backend
from tests.harness.examples import examples
from tests.harness.plain_http import plain_client
from tests.harness.replica import Replica
from tests.harness.viewer import Json
from tests.harness.waiting import until
from tests.servers.standalone import Server


@pytest.fixture
async def replica(redis_server: Server) -> AsyncIterator[Replica]:
    async with Replica(redis_server.url) as replica:
        yield replica


@pytest.fixture(params=["cold", "followed"])
async def place(
    replica: Replica, backend: Backend, request: pytest.FixtureRequest
) -> AsyncIterator[Replica]:
    """Every answer must be the same whether or not somebody watches the operation."""
    if request.param == "cold":
        yield replica
        return
    async with replica.watch("42", history="none"):
        await until(lambda: replica.viewers == 1)
        yield replica


def base(replica: Replica) -> str:
    return f"http://127.0.0.1:{replica.settings.server.port}"


@asynccontextmanager
async def http(replica: Replica) -> AsyncIterator[httpx.AsyncClient]:
    async with plain_client(base(replica)) as client:
        yield client


async def page(
    client: httpx.AsyncClient, operation: str = "42", **query: Any
) -> tuple[Json, list[str]]:
    """A page and the ids in it."""
    response = await client.get(f"/operations/{operation}/events", params=query)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    body: Json = response.json()
    assert body["operation"] == operation
    return body, [event["id"] for event in body["events"]]


async def current(replica: Replica, last: str) -> None:
    """A follower has seen this entry, if there is one."""
    channel = replica.channel("42")
    if channel is not None:
        await until(lambda: str(channel.topic.last) == last)


def problem(response: httpx.Response, status: int, code: str) -> Json:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert "no-store" in response.headers["cache-control"]
    body: Json = response.json()
    assert (body["status"], body["code"], body["type"]) == (status, code, "about:blank")
    assert body["title"]
    return body


# --- pages


async def test_pages_from_the_beginning_to_the_end(place: Replica, backend: Backend) -> None:
    ids = await backend.publish_many("42", 250)
    await current(place, ids[-1])
    async with http(place) as client:
        seen: list[str] = []
        after = ""
        for size, more in ((100, True), (100, True), (50, False), (0, False)):
            body, found = await page(client, after=after)
            assert (len(found), body["more"]) == (size, more)
            assert body["gap"] is None
            assert (body["status"], body["finished"]) == ("running", False)
            seen += found
            after = body["cursor"]
        assert seen == ids
        assert after == ids[-1]


async def test_a_limit_is_kept(place: Replica, backend: Backend) -> None:
    ids = await backend.publish_many("42", 10)
    await current(place, ids[-1])
    async with http(place) as client:
        body, found = await page(client, after=ids[1], limit=3)
        assert found == ids[2:5]
        assert (body["cursor"], body["more"]) == (ids[4], True)
        body, found = await page(client, after=ids[1], limit=8)
        assert found == ids[2:]
        assert (body["cursor"], body["more"]) == (ids[9], False)


async def test_events_are_the_frames_of_a_socket(place: Replica, backend: Backend) -> None:
    await backend.publish("42", n=1)
    await backend.add("42", {"message": '{"type":"log","data":{"a":1.50}}'})
    await backend.add("42", {"message": "no json"})
    last = await backend.add("42", {"plain": "text", "type": "x\u2028y"})
    await current(place, last)
    async with place.watch("42") as viewer, http(place) as client:
        await viewer.state()
        frames = await viewer.entries(4)
        body, _ = await page(client)
        assert body["events"] == frames


async def test_a_trimmed_log_is_a_gap_for_who_had_a_cursor(
    place: Replica, backend: Backend
) -> None:
    ids = await backend.publish_many("42", 600)
    await backend.trim("42", 3)
    await current(place, ids[-1])
    async with http(place) as client:
        body, found = await page(client, after=ids[2])
        assert body["gap"] == {"after": ids[2], "before": ids[597], "reason": "trimmed"}
        assert found == ids[597:]
        body, found = await page(client, after=ids[2], limit=1)
        assert body["gap"] == {"after": ids[2], "before": ids[597], "reason": "trimmed"}
        assert (found, body["more"]) == (ids[597:598], True)
        body, found = await page(client, after=body["cursor"])
        assert (found, body["gap"]) == (ids[598:], None)


async def test_without_a_cursor_a_trimmed_log_is_no_gap(replica: Replica, backend: Backend) -> None:
    ids = await backend.publish_many("42", 10)
    await backend.trim("42", 3)
    async with http(replica) as client:
        body, found = await page(client)
        assert (found, body["gap"]) == (ids[7:], None)
        body, _ = await page(client, after="0-0")
        assert body["gap"] == {"after": "0-0", "before": ids[7], "reason": "trimmed"}


async def test_a_recreated_or_unknown_log_is_a_gap(place: Replica, backend: Backend) -> None:
    old = await backend.publish_many("42", 3)
    await current(place, old[-1])
    await backend.delete("42")
    new = await backend.publish_many("42", 2)
    await current(place, new[-1])
    async with http(place) as client:
        body, found = await page(client, after=old[-1])
        assert body["gap"] == {"after": old[-1], "before": new[0], "reason": "recreated"}
        assert found == new
        beyond = f"{int(new[-1].split('-')[0]) + 1000}-0"
        body, found = await page(client, after=beyond)
        assert body["gap"] == {"after": beyond, "before": new[0], "reason": "unknown_cursor"}
        assert (found, body["cursor"]) == (new, new[-1])


async def test_the_end_is_said(place: Replica, backend: Backend) -> None:
    ids = [*await backend.publish_many("42", 3), await backend.finish("42", "failed")]
    await current(place, ids[-1])
    async with http(place) as client:
        body, found = await page(client)
        assert found == ids
        assert (body["status"], body["finished"]) == ("failed", True)
        body, found = await page(client, after=ids[-1], wait=30)  # nothing to wait for
        assert (found, body["finished"], body["more"]) == ([], True, False)


async def test_who_stops_at_the_end_has_everything(replica: Replica, backend: Backend) -> None:
    """Ask until finished and not more, while entries pour in: nothing is missing."""
    async with http(replica) as client:
        ids = await backend.publish_many("42", 1)

        async def publish() -> None:
            for start in range(0, 400, 20):
                ids.extend(await backend.publish_many("42", 20, start=start))
            ids.append(await backend.finish("42"))

        publishing = asyncio.create_task(publish())
        seen: list[str] = []
        after = ""
        while True:
            body, found = await page(client, after=after, limit=7, wait=5)
            assert body["gap"] is None
            seen += found
            after = body["cursor"]
            if body["finished"] and not body["more"]:
                break
        await publishing
        assert seen == ids
    await until(lambda: replica.viewers == 0)


# --- waiting


async def test_a_long_poll_answers_when_something_comes(place: Replica, backend: Backend) -> None:
    ids = await backend.publish_many("42", 2)
    await current(place, ids[-1])
    async with http(place) as client:
        before = place.viewers
        for _ in range(3):
            waiting = asyncio.create_task(page(client, after=ids[-1], wait=30))
            await until(lambda: place.viewers == before + 1)
            new = await backend.publish("42")
            body, found = await waiting
            assert found == [new]
            assert body["cursor"] == new
            ids.append(new)
            await until(lambda: place.viewers == before)
        assert len(place.runtime._limiter) == before


async def test_a_long_poll_over_time_is_an_empty_page(place: Replica, backend: Backend) -> None:
    ids = await backend.publish_many("42", 2)
    await current(place, ids[-1])
    async with http(place) as client:
        body, found = await page(client, after=ids[-1], wait=0.2)
        assert (found, body["cursor"], body["more"]) == ([], ids[-1], False)


async def test_a_long_poll_waits_for_the_operation_to_begin(
    replica: Replica, backend: Backend
) -> None:
    async with http(replica) as client:
        waiting = asyncio.create_task(page(client, wait=30))
        await until(lambda: replica.viewers == 1)
        entry = await backend.publish("42")
        body, found = await waiting
        assert found == [entry]
        assert body["gap"] is None
        response = await client.get("/operations/other/events", params={"wait": 0.2})
        problem(response, 404, "no_stream")


async def test_a_long_poll_hears_of_a_gap(redis_server: Server, backend: Backend) -> None:
    ids = await backend.publish_many("42", 2)
    topic = {"expired_grace_s": 60}  # it is back in time, on a busy machine too
    async with Replica(redis_server.url, topic=topic) as replica, http(replica) as client:
        waiting = asyncio.create_task(page(client, after=ids[-1], wait=30))
        await until(lambda: replica.viewers == 1)
        await backend.delete("42")
        new = await backend.publish_many("42", 2)
        body, found = await waiting
        assert body["gap"] == {"after": ids[-1], "before": new[0], "reason": "recreated"}
        assert found[0] == new[0]


async def test_a_stream_that_expires_meanwhile_is_410(replica: Replica, backend: Backend) -> None:
    ids = await backend.publish_many("42", 2)
    async with http(replica) as client:
        path = "/operations/42/events"
        waiting = asyncio.create_task(client.get(path, params={"after": ids[-1], "wait": 30}))
        await until(lambda: replica.viewers == 1)
        await backend.delete("42")
        problem(await waiting, 410, "expired")


async def test_a_client_that_goes_leaves_nothing(replica: Replica, backend: Backend) -> None:
    await backend.publish("42")
    async with http(replica) as client:
        waiting = [
            asyncio.create_task(client.get(f"/operations/op-{n}/events", params={"wait": 60}))
            for n in range(10)
        ]
        await until(lambda: replica.viewers == 10)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    await until(lambda: replica.viewers == 0)
    await until(lambda: len(replica.runtime._limiter) == 0)


async def test_a_drain_answers_who_waits(redis_server: Server, backend: Backend) -> None:
    drain = {"delay_s": 0, "window_s": 0.1}
    server = {"shutdown_timeout_s": 10}  # or what is not answered by then is cut off
    async with Replica(redis_server.url, drain=drain, server=server) as replica:
        ids = await backend.publish_many("42", 1)
        async with http(replica) as client:
            waiting = asyncio.create_task(page(client, after=ids[-1], wait=60))
            await until(lambda: replica.viewers == 1)
            stopping = asyncio.create_task(replica.stop())
            body, found = await waiting
            assert (found, body["cursor"]) == ([], ids[-1])
            await stopping


async def test_who_waits_has_a_place_and_one_more_connection_has_none(
    redis_server: Server, backend: Backend
) -> None:
    async with (
        Replica(redis_server.url, replica={"max_connections": 1}) as replica,
        http(replica) as client,
    ):
        ids = await backend.publish_many("42", 1)
        query: dict[str, str | int] = {"after": ids[-1], "wait": 60}
        waiting = asyncio.create_task(client.get("/operations/42/events", params=query))
        await until(lambda: replica.viewers == 1)
        response = await client.get("/operations/42/events", params=query)
        body = problem(response, 503, "connections")
        assert body["retry"] is True
        assert "retry-after" in response.headers
        await backend.publish("42")
        assert (await waiting).status_code == 200
        await page(client)  # over the connection of the one that waited


# --- state


async def test_the_state_and_its_tag(place: Replica, backend: Backend) -> None:
    ids = await backend.publish_many("42", 3)
    await current(place, ids[-1])
    async with http(place) as client:
        first = await client.get("/operations/42")
        first_ms, last_ms = (int(one.partition("-")[0]) for one in (ids[0], ids[-1]))
        assert first.json() == {
            "operation": "42",
            "status": "running",
            "finished": False,
            "cursor": ids[-1],
            "data": {"status": "running", "started_ms": first_ms, "updated_ms": last_ms},
        }
        assert first.headers["cache-control"] == "private, no-cache"
        assert first.headers["vary"] == "authorization, cookie"
        tag = first.headers["etag"]
        for given_tags in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            same = await client.get("/operations/42", headers={"If-None-Match": given_tags})
            assert (same.status_code, same.content) == (304, b"")
            assert same.headers["etag"] == tag
            assert same.headers["cache-control"] == "private, no-cache"
        end = await backend.finish("42")
        await current(place, end)
        second = await client.get("/operations/42", headers={"If-None-Match": tag})
        assert second.status_code == 200
        assert second.headers["etag"] != tag
        assert second.json()["status"] == "completed"
        assert second.json()["finished"] is True


async def test_the_state_is_that_of_a_socket(replica: Replica, backend: Backend) -> None:
    """Also when the status was set longer ago than is looked back."""
    await backend.publish("old", status="packing")
    await backend.publish_many("old", 300)
    await backend.publish("new", status="packing")
    await backend.publish_many("new", 50)
    async with http(replica) as client:
        cold: Json = {}
        for operation in ("old", "new"):
            cold = (await client.get(f"/operations/{operation}")).json()
            async with replica.watch(operation, history="none") as viewer:
                state = await viewer.state()
                assert cold["status"] == state["data"]["status"]
                warm = (await client.get(f"/operations/{operation}")).json()
                assert warm == cold
        assert cold["status"] == "packing"


async def test_a_poller_draws_a_full_bar(place: Replica, backend: Backend) -> None:
    await backend.publish("42", "operation_started", title="Import", unit="files")
    await current(place, await backend.publish("42", "append", text="ab", current=1, total=4))
    async with http(place) as client:
        data = (await client.get("/operations/42")).json()["data"]
        bar = {"title": "Import", "unit": "files", "text": "ab", "progress": 0.25, "total": 4}
        assert bar.items() <= data.items()
        tag = (await client.get("/operations/42")).headers["etag"]
        await current(place, await backend.publish("42", "append", text="c", current=1))
        changed = await client.get("/operations/42", headers={"If-None-Match": tag})
        assert (changed.status_code, changed.json()["data"]["text"]) == (200, "abc")


async def test_large_entries_do_not_hide_the_newest_status(
    replica: Replica, backend: Backend
) -> None:
    """The newest entries do not fit into one page of the log."""
    await backend.publish_many("42", 20, pad=200_000)
    end = await backend.finish("42")
    async with http(replica) as client:
        body = (await client.get("/operations/42")).json()
        assert (body["status"], body["cursor"]) == ("completed", end)


async def test_nothing_is_made_by_asking(replica: Replica, backend: Backend) -> None:
    await backend.publish("42")
    async with http(replica) as client:
        await client.get("/operations/42")
        await page(client)
        await client.get("/operations/nobody")
    assert await backend.groups("42") == []
    assert not await backend.exists("nobody")
    assert replica.hub.channels == {}


# --- refusals


async def test_refusals_are_problems(replica: Replica, backend: Backend) -> None:
    await backend.client.set(PREFIX + "text", "no stream")
    async with http(replica) as client:
        for path, status, code in (
            ("/operations/nobody", 404, "no_stream"),
            ("/operations/nobody/events", 404, "no_stream"),
            ("/operations/text", 404, "not_a_stream"),
            ("/operations/text/events", 404, "not_a_stream"),
            ("/operations/text/events?wait=1", 404, "not_a_stream"),
            ("/operations/*", 400, "bad_request"),
            ("/operations/*/events", 400, "bad_request"),
            ("/operations/42/events?after=x", 400, "bad_request"),
            ("/operations/42/events?limit=0", 400, "bad_request"),
            ("/operations/42/events?limit=501", 400, "bad_request"),
            ("/operations/42/events?limit=x", 400, "bad_request"),
            ("/operations/42/events?wait=-1", 400, "bad_request"),
            ("/operations/42/events?wait=61", 400, "bad_request"),
            ("/operations/42/events?wait=nan", 400, "bad_request"),
            ("/operations/42/events?wait=inf", 400, "bad_request"),
            ("/nowhere", 404, "no_such_page"),
        ):
            problem(await client.get(path), status, code)
        response = await client.put("/operations/42")
        problem(response, 405, "method_not_allowed")
        assert "GET" in response.headers["allow"]


async def test_redis_away_is_503(redis_server: Server, backend: Backend) -> None:
    quick = {"reply_timeout_s": 0.3, "heartbeat_s": 0.2}
    async with Replica(redis_server.url, redis=quick) as replica, http(replica) as client:
        await backend.publish("42")
        redis_server.pause()
        try:
            for path in ("/operations/42", "/operations/42/events", "/operations/42/events?wait=1"):
                response = await client.get(path)
                assert problem(response, 503, "redis_unavailable")["retry"] is True
                assert int(response.headers["retry-after"]) > 0
        finally:
            redis_server.resume()


async def test_the_description(replica: Replica) -> None:
    async with http(replica) as client:
        document = (await client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    for path in (
        "/operations/{operation_id}",
        "/operations/{operation_id}/events",
        "/sse/operations/{operation_id}",
    ):
        answers = document["paths"][path]["get"]["responses"]
        assert {"200", "400", "401", "403", "404", "503"} <= answers.keys()
        assert "422" not in json.dumps(document["paths"][path]["get"])


hostile = st.text(max_size=30) | st.sampled_from(
    ["0-0", "1-1", "9" * 20, "9" * 21 + "-0", "-1", "٣-٤", "1-", "1e3", "0x10", "nan", "", "\x00"]
)


@settings(
    max_examples=examples(200),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.dictionaries(st.sampled_from(["after", "limit", "x"]), hostile), st.data())
async def test_any_query_gets_a_page_or_a_problem(
    replica: Replica, query: dict[str, str], data: Any
) -> None:
    operation = data.draw(st.sampled_from(["42"]) | hostile.map(lambda t: quote(t, safe="")))
    async with http(replica) as client:
        response = await client.get(f"/operations/{operation or '_'}/events", params=query)
        assert response.status_code in (400, 404)
        assert response.headers["content-type"] == "application/problem+json"
