"""Nothing of a closed connection stays, and nothing of a request that is answered."""

from __future__ import annotations

import gc

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers.standalone import Server
from tests.web.server.wire import connected, request
from tidegate.web.server.exchange import Exchange
from tidegate.web.server.http_protocol import HttpProtocol
from tidegate.web.server.unchunked import Unchunked
from tidegate.web.ws.public_http import PublicHttp

KINDS = (HttpProtocol, Exchange, HttpToolsProtocol, Unchunked)


def protocols() -> list[object]:
    """What there is of connections and requests."""
    return [thing for thing in gc.get_objects() if isinstance(thing, KINDS)]


async def test_a_connection_that_waits_for_a_request_keeps_nothing_of_the_last(
    redis_server: Server, backend: Backend
) -> None:
    await backend.publish("42")
    async with (
        Replica(redis_server.url) as replica,
        connected(replica.settings.server.port) as wire,
    ):
        gc.collect()
        gc.disable()
        try:
            await wire.send(request("GET", "/operations/42", body=b"x" * 100))
            await wire.answer()
            await until(lambda: [type(one) for one in protocols()] == [PublicHttp])
        finally:
            gc.enable()


WAYS = ["answered", "in the pipe", "streamed", "no request", "upgraded", "refused"]
WAYS += ["HTTP/1.0", "half a body", "half a head"]


@pytest.mark.parametrize("way", WAYS)
async def test_nothing_of_a_closed_connection_waits_for_the_collector(
    redis_server: Server, backend: Backend, way: str
) -> None:
    (last,) = await backend.publish_many("42", 1)
    async with Replica(redis_server.url) as replica:
        gc.collect()
        gc.disable()
        try:
            if way == "upgraded":
                async with replica.watch("42") as viewer:
                    await viewer.state()
                    assert not protocols()
                return
            async with connected(replica.settings.server.port) as wire:
                if way == "answered":
                    await wire.send(request("GET", "/operations/42") * 3)
                    for _ in range(3):
                        await wire.answer()
                elif way == "in the pipe":
                    poll = request("GET", f"/operations/42/events?after={last}&wait=60")
                    await wire.send(poll * 3)
                    await until(lambda: replica.viewers == 1)
                elif way == "streamed":
                    await wire.send(request("GET", f"/sse/operations/42?last_event_id={last}"))
                    await until(lambda: replica.viewers == 1)
                    await backend.publish("42", "log")
                    (stream,) = replica.runtime._limiter._inside
                    await until(lambda: stream._write_chunk is not None)  # type: ignore[attr-defined]
                    await backend.publish("42", "log")
                    del stream
                elif way == "HTTP/1.0":
                    await wire.send(request("GET", "/operations/42", version="1.0"))
                    await wire.answer()
                elif way == "half a body":
                    await wire.send(request("POST", "/operations/42/events", body=b"{}")[:-1])
                    await until(lambda: bool(protocols()))
                elif way == "half a head":
                    await wire.send(request("GET", "/operations/42")[:-1])
                    await until(lambda: bool(protocols()))
                elif way == "refused":
                    await wire.send(b"no request\r\n\r\n")
                    await wire.answer()
            await until(lambda: replica.runtime._public_port.open == 0)
            await until(lambda: replica.viewers == 0)
            await until(lambda: not protocols(), "a cycle keeps it")
        finally:
            gc.enable()
