"""Who may have the demo backend start an operation, and what it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.backend import PREFIX, Backend
from tests.harness.plain_http import plain_client
from tests.harness.replica import Replica
from tests.servers.standalone import Server
from tests.web.access.test_admission import AUTH
from tidegate.web.demo.requests import REQUESTS, Wanted, read_request
from tidegate.web.demo.start import BURST

START = "/demo/operations"


@pytest.fixture
async def demo(redis_server: Server) -> AsyncIterator[httpx.AsyncClient]:
    given: dict[str, Any] = {"demo": True, "demo_replicas": ["http://127.0.0.1:9999"]}
    async with Replica(redis_server.url, server=given) as replica:
        own = f"http://127.0.0.1:{replica.settings.server.port}"
        async with plain_client(own, headers={"origin": own}) as client:
            yield client


async def requests(backend: Backend) -> list[Wanted | None]:
    entries: Any = await backend.client.xrange(PREFIX + REQUESTS)
    return [read_request(fields[b"message"].decode()) for _, fields in entries]


async def test_a_request_is_an_entry_with_a_new_id(
    demo: httpx.AsyncClient, backend: Backend
) -> None:
    answers = [
        await demo.post(START),
        await demo.post(START, params={"kind": "text", "seconds": 60}),
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    ids = [answer.json()["operation"] for answer in answers]
    assert len(set(ids)) == 2
    assert await requests(backend) == [Wanted(ids[0], "stages", 20), Wanted(ids[1], "text", 60)]
    # Nothing is written to them by the gateway.
    assert await backend.client.keys(PREFIX + "demo-*") == [(PREFIX + REQUESTS).encode()]


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://127.0.0.1:1", "file://", "", None],
)
async def test_no_other_page_may_ask(
    demo: httpx.AsyncClient, backend: Backend, origin: str | None
) -> None:
    del demo.headers["origin"]
    headers = {} if origin is None else {"origin": origin}
    answer = await demo.post(START, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "origin")
    assert await requests(backend) == []


async def test_a_page_of_another_replica_may_ask(demo: httpx.AsyncClient) -> None:
    answer = await demo.post(START, headers={"origin": "http://127.0.0.1:9999"})
    assert answer.status_code == 201


async def test_another_host_is_refused(demo: httpx.AsyncClient) -> None:
    headers = {"origin": "http://evil.example", "host": "evil.example"}
    assert (await demo.post(START, headers=headers)).json()["code"] == "host"


@pytest.mark.parametrize(
    "query", [{"kind": "sleep"}, {"seconds": 0}, {"seconds": 100_000}, {"seconds": "x"}]
)
async def test_what_there_is_not_is_refused(
    demo: httpx.AsyncClient, backend: Backend, query: dict[str, str]
) -> None:
    answer = await demo.post(START, params=query)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert await requests(backend) == []


async def test_not_too_often(demo: httpx.AsyncClient, backend: Backend) -> None:
    # More than come back while this runs, on a slow machine too.
    statuses = [(await demo.post(START)).status_code for _ in range(BURST + 30)]
    assert set(statuses[:BURST]) == {201}
    assert 429 in statuses
    assert len(await requests(backend)) == statuses.count(201)


async def test_where_people_sign_in_nobody_may(redis_server: Server) -> None:
    signed_in: dict[str, Any] = {"demo": True, "auth": "jwt"}
    async with Replica(
        redis_server.url, server=signed_in, auth=AUTH, source={"kind": "none"}
    ) as replica:
        own = f"http://127.0.0.1:{replica.settings.server.port}"
        async with plain_client(own, headers={"origin": own}) as client:
            assert (await client.post(START)).status_code in (404, 405)


@given(st.one_of(st.text(), st.from_regex(r'\{"type":"operation_requested","data":.*\}')))
def test_a_backend_takes_no_other_entry(text: str) -> None:
    assert read_request(text) is None


@pytest.mark.parametrize(
    "data",
    [
        '{"operation":"hello","kind":"text","seconds":5}',
        '{"operation":"demo-abcd\\n","kind":"text","seconds":5}',
        '{"operation":"demo-abcd","kind":"shell","seconds":5}',
        '{"operation":"demo-abcd","kind":"text","seconds":1e9}',
        '{"operation":"demo-abcd","kind":"text","seconds":"5"}',
        '{"operation":"demo-abcd","kind":"text"}',
        "[]",
    ],
)
def test_a_backend_takes_no_other_request(data: str) -> None:
    assert read_request(f'{{"type":"operation_requested","data":{data}}}') is None
