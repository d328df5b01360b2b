"""A viewer that offers it is asked whether it has an entry; nobody else is, and lies are counted.

Part of the sender contract: what takes `sender` runs over the direct and the plain ASGI sender.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from websockets.asyncio.client import connect

from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers.standalone import Server
from tidegate.client.viewer import Viewer as PythonViewer
from tidegate.model.ids import OperationId

OFTEN = {"acks_per_s": 1000}


def url(replica: Replica) -> str:
    return f"{replica.url('42')}?acks=1"


async def asked(socket: Any) -> str:
    """The id in the next frame, which is a request."""
    frame = json.loads(await socket.recv())
    assert (frame["type"], frame["operation"]) == ("ack_request", "42"), frame
    return str(frame["data"]["id"])


async def test_an_answer_is_measured_once(
    redis_server: Server, backend: Backend, sender: str
) -> None:
    async with (
        Replica(redis_server.url, sender=sender, metrics=OFTEN) as replica,
        connect(url(replica)) as socket,
    ):
        await socket.recv()
        entry_id = await backend.publish("42")
        assert json.loads(await socket.recv())["id"] == entry_id
        assert await asked(socket) == entry_id, "behind its entry"
        await asyncio.sleep(0.2)  # what a person's screen takes
        for _ in range(2):
            await socket.send(json.dumps({"type": "ack", "id": entry_id}))
        counts = replica.hub.acks.counts
        await until(lambda: counts["answered"] + counts["unasked"] == 2)
        assert dict(counts) == {"asked": 1, "answered": 1, "unasked": 1}
        latency = replica.hub.acks.latency.histogram
        assert latency.count == 1
        clock = replica.feed.clock(OperationId("42"))
        assert clock is not None
        # The server's clock is known as well as its answer was quick.
        assert 0.2 - clock.error_s(time.monotonic()) <= latency.sum < 10


async def test_who_did_not_offer_it_is_never_asked(redis_server: Server, backend: Backend) -> None:
    async with Replica(redis_server.url, metrics=OFTEN) as replica:
        async with replica.watch("42") as viewer, replica.watch("42", acks=0) as other:
            await viewer.state()
            await other.state()
            ids = await backend.publish_many("42", 50)
            assert await viewer.ids(50) == await other.ids(50) == ids
            await viewer.say(json.dumps({"type": "ack", "id": ids[0]}))
            assert (await viewer.until(type="error"))["data"]["code"] == "unknown_message"
            await other.ping()
        assert not replica.hub.acks.counts


async def test_an_event_stream_has_no_way_back_and_is_not_asked(
    redis_server: Server, backend: Backend
) -> None:
    async with Replica(redis_server.url, metrics=OFTEN) as replica:
        port = replica.settings.server.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /sse/operations/42?acks=1 HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await reader.readuntil(b"current_state")
        entry_id = await backend.publish("42")
        await reader.readuntil(f'{{"id":"{entry_id}"'.encode())
        writer.close()
        await writer.wait_closed()
        assert not replica.hub.acks.counts


HOSTILE = [
    "{}",
    '{"id":5}',
    '{"id":null}',
    '{"id":""}',
    '{"id":"x"}',
    '{"id":"1-1-1"}',
    '{"id":"99999999999999999999999-0"}',
    json.dumps({"id": "1" * 60_000}),
    '{"id":"1-1","operation":7}',
    '{"id":["1-1"]}',
]


@pytest.mark.parametrize("path", ["/ws/operations/42?acks=1", "/ws"])
async def test_what_is_no_answer_is_told_and_harms_nobody(
    redis_server: Server, backend: Backend, path: str
) -> None:
    async with Replica(redis_server.url, metrics=OFTEN) as replica:
        base = f"ws://127.0.0.1:{replica.settings.server.port}"
        async with connect(base + path) as socket:
            if path == "/ws":
                await socket.send('{"type":"watch","operation":"42","acks":true}')
            assert json.loads(await socket.recv())["type"] == "current_state"
            for body in HOSTILE:
                await socket.send(json.dumps({"type": "ack", **json.loads(body)}))
                answer = json.loads(await socket.recv())
                assert answer["data"]["code"] == "bad_message", body[:80]
            entry_id = await backend.publish("42")
            assert json.loads(await socket.recv())["id"] == entry_id
            assert await asked(socket) == entry_id
        assert replica.hub.acks.latency.histogram.count == 0


async def test_an_offer_that_cannot_be_read_is_refused(redis_server: Server) -> None:
    async with Replica(redis_server.url) as replica:
        for offer in ("2", "yes", "", "1x", "01"):
            async with connect(f"{replica.url('42')}?acks={offer}") as socket:
                data = json.loads(await socket.recv())["data"]
                assert data["code"] == "bad_request", offer
                assert "acks" in data["message"]


async def test_on_a_socket_with_several_the_answer_names_its_operation(
    redis_server: Server, backend: Backend
) -> None:
    async with (
        Replica(redis_server.url, metrics=OFTEN) as replica,
        connect(f"ws://127.0.0.1:{replica.settings.server.port}/ws") as socket,
    ):
        await socket.send('{"type":"watch","operation":"42","acks":true}')
        await socket.send('{"type":"watch","operation":"43"}')
        for _ in range(2):
            assert json.loads(await socket.recv())["type"] == "current_state"
        other = await backend.publish("43")
        assert json.loads(await socket.recv())["id"] == other
        entry_id = await backend.publish("42")
        assert json.loads(await socket.recv())["id"] == entry_id
        assert await asked(socket) == entry_id
        for operation in ("43", "44", None):
            lie = {"type": "ack", "operation": operation, "id": entry_id}
            await socket.send(json.dumps(lie))
        await socket.send(json.dumps({"type": "ack", "operation": "42", "id": entry_id}))
        counts = replica.hub.acks.counts
        await until(lambda: counts["answered"] == 1)
        assert dict(counts) == {"asked": 1, "unasked": 3, "answered": 1}


async def test_the_python_viewer_answers_and_shows_nothing_of_it(
    redis_server: Server, backend: Backend
) -> None:
    async with Replica(redis_server.url, metrics=OFTEN) as replica:
        base = f"ws://127.0.0.1:{replica.settings.server.port}"
        seen: list[str] = []
        counts = replica.hub.acks.counts
        async with PythonViewer("42", base) as viewer:
            async for frame in viewer:
                seen.append(frame.type)
                if seen in (["current_state"], ["current_state", "progress"]):
                    await backend.publish("42")
                elif frame.type == "progress":
                    await until(lambda: counts["answered"] >= 1)
                    await backend.finish("42")
        assert set(seen) == {"current_state", "progress", "operation_completed"}
