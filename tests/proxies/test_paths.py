"""Each proxy of docs/proxies in front of two replicas: what viewers need of the path to them.

TLS and the path prefix are in every test here: `https://localhost:<port>/progress`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import pytest
import pytest_asyncio
from websockets.asyncio.client import connect

from tests.harness.backend import Backend
from tests.harness.plain_http import plain_client
from tests.proxies.conftest import CANCELS, Gateway
from tests.proxies.programs import PROXIES, FrontProxy
from tidegate.cli.doctor_gateway import examine_gateway
from tidegate.client.watching import endpoint
from tidegate.model.findings import FindingLevel

pytestmark = [
    pytest.mark.xdist_group("proxies"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(120),
]

#: More than a browser opens to one host over HTTP/1.1, which is 6.
STREAMS = 8


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[pytest.param(one, marks=pytest.mark.real(one.program)) for one in PROXIES],
    ids=[one.program for one in PROXIES],
)
async def proxy(gateway: Gateway, request: pytest.FixtureRequest) -> AsyncIterator[FrontProxy]:
    kind: type[FrontProxy] = request.param
    async with kind(gateway.site) as proxy:
        yield proxy


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def backend(gateway: Gateway) -> AsyncIterator[Backend]:
    async with gateway.redis.client() as client:
        yield Backend(client)


async def events(answer: httpx.Response) -> AsyncIterator[dict[str, object]]:
    """The data of an event stream, one by one."""
    async for line in answer.aiter_lines():
        if line.startswith("data:"):
            yield json.loads(line[5:])


async def next_entry(stream: AsyncIterator[dict[str, object]]) -> object:
    async with asyncio.timeout(20):
        while True:
            event = await anext(stream)
            if "id" in event:
                return event["id"]


async def test_the_doctor_finds_nothing_wrong(
    proxy: FrontProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(proxy.site.certificates.ca_file))
    found = {one.check: one for one in await examine_gateway(proxy.url, None)}
    assert found.keys() == {"http", "websocket", "event stream"}
    assert found["http"].verdict is found["websocket"].verdict is FindingLevel.OK, found
    assert "compressed" not in found["event stream"].found
    assert found["event stream"].verdict is not FindingLevel.FAILED  # slow on a busy machine


async def test_a_socket(proxy: FrontProxy, backend: Backend) -> None:
    operation = f"socket-{proxy.program}"
    async with connect(
        endpoint(proxy.url, operation),
        subprotocols=["tidegate.v1"],  # type: ignore[list-item]  # a NewType of str
        ssl=proxy.tls,
    ) as socket:
        assert socket.subprotocol == "tidegate.v1"
        first = json.loads(await socket.recv())
        assert first["type"] == "current_state"
        for _ in range(3):
            written = await backend.publish(operation)
            async with asyncio.timeout(20):
                assert json.loads(await socket.recv())["id"] == written


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
async def test_an_event_stream_is_not_held_back(
    proxy: FrontProxy, backend: Backend, http2: bool
) -> None:
    """Each entry arrives before the next is written; small ones, that no buffer would let go."""
    operation = f"stream-{proxy.program}-{http2}"
    headers = {"Accept-Encoding": "gzip, br, zstd"}
    async with (
        proxy.client(http2=http2) as client,
        client.stream("GET", f"/sse/operations/{operation}", headers=headers) as answer,
    ):
        assert answer.status_code == 200
        assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        assert "content-encoding" not in answer.headers
        stream = events(answer)
        for _ in range(3):
            written = await backend.publish(operation)
            assert await next_entry(stream) == written


async def test_many_event_streams_over_one_connection(proxy: FrontProxy, backend: Backend) -> None:
    operations = [f"many-{proxy.program}-{number}" for number in range(STREAMS)]
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(proxy.client(http2=True))
        opened = [
            await stack.enter_async_context(client.stream("GET", f"/sse/operations/{operation}"))
            for operation in operations
        ]
        written = [await backend.publish(operation) for operation in operations]
        for answer, entry_id in zip(opened, written, strict=True):
            assert await next_entry(events(answer)) == entry_id
        ports = {
            answer.extensions["network_stream"].get_extra_info("client_addr") for answer in opened
        }
        assert len(ports) == 1


async def test_a_forged_address_is_not_the_clients(
    gateway: Gateway, proxy: FrontProxy, backend: Backend
) -> None:
    operation = f"cancel-{proxy.program}"
    await backend.publish(operation)
    path = f"/operations/{operation}/cancel"
    number = PROXIES.index(type(proxy)) + 1
    own, other = f"127.0.1.{number}", f"127.0.2.{number}"

    for replica in gateway.replicas:
        async with plain_client(f"http://{replica.host}:{replica.port}") as direct:
            # As a proxy would say it of a client with this address, until it has no request left.
            headers = {"X-Forwarded-For": own}
            asked = [(await direct.post(path, headers=headers)).status_code for _ in "123"]
            assert asked == [202] * CANCELS + [429]
    async with proxy.client(source=own) as client:
        assert (await client.post(path)).status_code == 429
        for forged in ("203.0.113.9", "127.0.0.1", f"{other}, 127.0.0.1", "127.0.0.1, 127.0.0.1"):
            answer = await client.post(path, headers={"X-Forwarded-For": forged})
            assert answer.status_code == 429, forged
    async with proxy.client(source=other) as client:
        assert (await client.post(path)).status_code == 202


async def test_what_is_refused_is_refused_by_the_gateway(proxy: FrontProxy) -> None:
    """Its answers and their headers come through, and nothing outside the prefix does."""
    async with proxy.client() as client:
        answer = await client.get("/operations/never")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "no_stream"
        outside = await client.get(f"https://localhost:{proxy.port}/operations/never")
        assert "no_stream" not in outside.text
