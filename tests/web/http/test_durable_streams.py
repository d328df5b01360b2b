"""An operation as a durable stream: what the protocol asks of a server that is read."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.backend import Backend
from tests.harness.plain_http import plain_client
from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers.standalone import Server
from tidegate.model.errors import InvalidInput
from tidegate.model.ids import HALF_MAX, StreamId
from tidegate.web.http.durable_protocol import (
    CURSOR_START_S,
    Live,
    next_cursor,
    offset_of,
    read_query,
)

SECRET = "k" * 32
POSITIONS = st.builds(StreamId, st.integers(0, HALF_MAX), st.integers(0, HALF_MAX))


# --- offsets and queries


@given(POSITIONS, POSITIONS)
def test_offsets_are_read_back_and_compare_as_positions_do(one: StreamId, other: StreamId) -> None:
    assert read_query([("offset", offset_of(one))]).after == one
    assert (offset_of(one) < offset_of(other)) is (one < other)


@pytest.mark.parametrize(
    "query",
    [
        [("offset", "")],
        [("offset", "0,1")],
        [("offset", "0 1")],
        [("offset", "1795413516350-0")],
        [("offset", "9" * 20 + "_" + "0" * 20)],
        [("offset", "٣" * 20 + "_" + "0" * 20)],
        [("offset", "-1"), ("offset", "-1")],
        [("live", "sse")],
        [("live", "long-poll")],
        [("offset", "-1"), ("live", "socket")],
        [("offset", "-1"), ("live", "sse"), ("live", "sse")],
    ],
)
def test_what_the_protocol_does_not_have_is_refused(query: list[tuple[str, str]]) -> None:
    with pytest.raises(InvalidInput):
        read_query(query)


@given(
    st.lists(st.tuples(st.sampled_from(["offset", "live", "cursor", "x"]), st.text()), max_size=4)
)
def test_any_query_is_read_or_refused(query: list[tuple[str, str]]) -> None:
    try:
        found = read_query(query)
    except InvalidInput:
        return
    assert found.live in Live
    assert found.cursor is None or found.cursor >= 0


def test_a_cursor_never_comes_back() -> None:
    now_s = CURSOR_START_S + 1_000.0
    assert next_cursor(None, now_s) == "50"
    assert next_cursor(49, now_s) == "50"
    for given_ in (50, 51, 999_999_999_999_999):
        assert int(next_cursor(given_, now_s)) > given_


# --- on a replica


@pytest.fixture
async def replica(redis_server: Server) -> AsyncIterator[Replica]:
    async with Replica(redis_server.url) as replica:
        yield replica


@pytest.fixture
async def client(replica: Replica) -> AsyncIterator[httpx.AsyncClient]:
    async with plain_client(base_url(replica)) as client:
        yield client


def base_url(replica: Replica) -> str:
    return f"http://127.0.0.1:{replica.settings.server.port}"


async def read(client: httpx.AsyncClient, **query: str) -> httpx.Response:
    return await client.get("/streams/42", params=query)


def ids_of(response: httpx.Response) -> list[str]:
    return [message["id"] for message in response.json()]


async def tokens(backend: Backend, count: int) -> list[str]:
    return [await backend.publish("42", "append", text=f"{n} ") for n in range(count)]


async def test_it_is_read_from_the_beginning_and_on(
    client: httpx.AsyncClient, backend: Backend
) -> None:
    ids = await tokens(backend, 3)
    first = await read(client)
    assert (first.status_code, first.headers["content-type"]) == (200, "application/json")
    assert first.json()[0] == {
        "id": ids[0],
        "operation": "42",
        "timestamp": "2026-11-23T00:00:00Z",
        "type": "append",
        "data": {"text": "0 "},
    }
    assert ids_of(first) == ids, "each on its own: a message does not change when more comes"
    assert first.headers["stream-up-to-date"] == "true"
    assert "stream-closed" not in first.headers
    assert (await read(client, offset="-1")).content == first.content
    offset = first.headers["stream-next-offset"]
    empty = await read(client, offset=offset)
    assert (empty.json(), empty.headers["stream-next-offset"]) == ([], offset)
    last = await backend.finish("42")
    rest = await read(client, offset=offset)
    assert ids_of(rest) == [last]
    assert rest.headers["stream-closed"] == "true"
    assert rest.headers["stream-next-offset"] > offset


async def test_a_long_stream_comes_in_parts(client: httpx.AsyncClient, backend: Backend) -> None:
    ids = await backend.publish_many("42", 1_100)
    await backend.finish("42")
    seen: list[str] = []
    offset = "-1"
    for _ in range(3):
        response = await read(client, offset=offset)
        seen += ids_of(response)
        offset = response.headers["stream-next-offset"]
        more = len(seen) < len(ids)
        assert ("stream-up-to-date" not in response.headers) is more
        assert ("stream-closed" not in response.headers) is more
    assert seen[:-1] == ids


async def test_what_has_not_changed_is_not_sent_again(
    client: httpx.AsyncClient, backend: Backend
) -> None:
    await backend.publish("42")
    tag = (await read(client)).headers["etag"]
    same = await client.get("/streams/42", headers={"If-None-Match": tag})
    assert (same.status_code, same.content) == (304, b"")
    await backend.publish("42")
    other = await client.get("/streams/42", headers={"If-None-Match": tag})
    assert other.status_code == 200
    assert other.headers["etag"] != tag


async def test_the_tail_is_told_without_messages(
    client: httpx.AsyncClient, backend: Backend
) -> None:
    for path in ("/streams/42", "/streams/42?offset=now"):
        assert (await client.head(path)).status_code == 404
    await tokens(backend, 2)
    offset = (await read(client)).headers["stream-next-offset"]
    head = await client.head("/streams/42")
    now = await read(client, offset="now")
    assert (head.content, now.json()) == (b"", [])
    for response in (head, now):
        assert response.status_code == 200
        assert response.headers["stream-next-offset"] == offset
        assert response.headers["content-type"] == "application/json"
        assert response.headers["cache-control"] == "no-store"


async def test_a_long_poll_waits_for_what_comes(
    client: httpx.AsyncClient, backend: Backend, replica: Replica
) -> None:
    await tokens(backend, 2)
    here = await read(client, offset="-1", live="long-poll")
    assert len(here.json()) == 2
    assert re.fullmatch("[0-9]+", here.headers["stream-cursor"])
    for offset in (here.headers["stream-next-offset"], "now"):
        waiting = asyncio.create_task(read(client, offset=offset, live="long-poll"))
        await until(lambda: replica.viewers == 1)
        new = await backend.publish("42", "append", text="new")
        response = await waiting
        assert ids_of(response)[-1:] == [new]
        await until(lambda: replica.viewers == 0)


async def test_a_long_poll_over_time_or_at_the_end_has_no_content(
    client: httpx.AsyncClient,
    backend: Backend,
    replica: Replica,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert (await read(client, offset="-1", live="long-poll")).status_code == 404
    monkeypatch.setattr("tidegate.web.http.durable_streams.LONG_POLL_S", 0.2)
    await tokens(backend, 1)
    response = await read(client, offset="now", live="long-poll")
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["stream-up-to-date"] == "true"
    assert response.headers["stream-cursor"]
    await backend.finish("42")
    channel = replica.channel("42")
    assert channel is not None
    await until(lambda: channel.topic.finished)
    monkeypatch.setattr("tidegate.web.http.durable_streams.LONG_POLL_S", 3600.0)
    end = await read(client, offset="now", live="long-poll")
    assert (end.status_code, end.headers["stream-closed"]) == (204, "true")


async def events(client: httpx.AsyncClient, **query: str) -> AsyncIterator[tuple[str, Any]]:
    """The server-sent events of a stream, to its end."""
    params = {"live": "sse", **query}
    async with client.stream("GET", "/streams/42", params=params) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"
        assert "no-cache" in response.headers["cache-control"]
        kind = ""
        async for line in response.aiter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data:"):
                yield kind, json.loads(line.removeprefix("data:"))


async def test_events_come_live_and_end_with_the_operation(
    client: httpx.AsyncClient, backend: Backend, replica: Replica
) -> None:
    ids = await tokens(backend, 2)
    found = events(client, offset="-1")
    kind, messages = await anext(found)
    assert (kind, [message["id"] for message in messages]) == ("data", ids)
    kind, control = await anext(found)
    assert kind == "control"
    assert control["upToDate"] is True
    assert "streamClosed" not in control
    offsets = [control["streamNextOffset"]]
    await until(lambda: replica.viewers == 1)
    for number in range(3):
        text = "a\r\nb\u2028" * number
        new = await backend.publish("42", "append", text=text)
        kind, messages = await anext(found)
        assert [(message["id"], message["data"]) for message in messages] == [(new, {"text": text})]
        _, control = await anext(found)
        offsets.append(control["streamNextOffset"])
    last = await backend.finish("42")
    rest = [event async for event in found]
    assert [message["id"] for kind, told in rest if kind == "data" for message in told] == [last]
    assert rest[-1][1]["streamClosed"] is True
    assert "streamCursor" not in rest[-1][1]
    assert all(one < other for one, other in itertools.pairwise(offsets))
    await until(lambda: replica.viewers == 0)


async def test_events_go_on_from_an_offset(client: httpx.AsyncClient, backend: Backend) -> None:
    ids = await backend.publish_many("42", 1_200)
    await backend.finish("42")
    first = await read(client)
    offset = first.headers["stream-next-offset"]
    seen = [
        message["id"]
        async for kind, told in events(client, offset=offset)
        if kind == "data"
        for message in told
    ]
    assert ids_of(first) + seen[:-1] == ids


async def test_events_end_after_a_time_and_when_the_replica_goes(
    redis_server: Server, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tokens(backend, 1)
    drain = {"delay_s": 0, "window_s": 0.1}
    server = {"shutdown_timeout_s": 10}  # or what is not answered by then is cut off
    async with (
        Replica(redis_server.url, drain=drain, server=server) as replica,
        plain_client(base_url(replica)) as client,
    ):
        found = events(client, offset="now")
        await anext(found)
        await until(lambda: replica.viewers == 1)
        stopping = asyncio.create_task(replica.stop())
        assert [event async for event in found if event[0] == "data"] == []
        await stopping
    monkeypatch.setattr("tidegate.web.http.durable_streams.EVENTS_S", 0.2)
    async with Replica(redis_server.url) as replica, plain_client(base_url(replica)) as client:
        told = [event async for event in events(client, offset="now")]
        assert [kind for kind, _ in told] == ["control"]


async def test_what_may_be_missing_is_gone(client: httpx.AsyncClient, backend: Backend) -> None:
    await tokens(backend, 5)
    offset = (await read(client)).headers["stream-next-offset"]
    await tokens(backend, 5)
    await backend.trim("42", 2)
    for live in ({}, {"live": "long-poll"}, {"live": "sse"}):
        response = await read(client, offset=offset, **live)
        assert (response.status_code, response.json()["code"]) == (410, "gap")
    assert len((await read(client, offset="-1")).json()) == 2


async def test_writing_is_refused(client: httpx.AsyncClient, backend: Backend) -> None:
    await backend.publish("42")
    for method in ("PUT", "POST", "DELETE", "PATCH"):
        response = await client.request(method, "/streams/42", content=b"[1]")
        assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")
        assert response.headers["content-type"] == "application/problem+json"
    assert len((await read(client)).json()) == 1


async def test_who_may_read_is_asked_as_everywhere(redis_server: Server, backend: Backend) -> None:
    await backend.publish("42")
    token = jwt.encode({"sub": "ann", "exp": 4_000_000_000, "operations": ["43"]}, SECRET)
    async with (
        Replica(
            redis_server.url,
            server={"auth": "jwt"},
            auth={"secret": SECRET},
            source={"kind": "claims"},
        ) as replica,
        plain_client(base_url(replica)) as client,
    ):
        for live in ({}, {"live": "long-poll"}, {"live": "sse"}):
            query = {"offset": "-1", **live}
            assert (await read(client, **query)).status_code == 401
            client.headers["Authorization"] = f"Bearer {token}"
            assert (await read(client, **query)).status_code == 403
            head = await client.head("/streams/42")
            assert head.status_code == 403
            del client.headers["Authorization"]
