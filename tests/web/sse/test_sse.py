"""Server-sent events: the frames of a socket, positions as ids, and a browser that comes back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cli.browser import Browser
from tests.harness.backend import PREFIX, Backend
from tests.harness.examples import examples
from tests.harness.plain_http import plain_client
from tests.harness.replica import Replica
from tests.harness.viewer import TIMEOUT_S, Json, OrderCheck
from tests.harness.waiting import until
from tests.servers import binaries
from tests.servers.standalone import Server
from tests.web.ws.test_endings import Graces
from tidegate.gateway import hub
from tidegate.model.close_codes import FINISHED
from tidegate.web.sse.encoding import end_event


@pytest.fixture
async def replica(redis_server: Server) -> AsyncIterator[Replica]:
    quick = {"sse_heartbeat_s": 0.1, "sse_retry_s": 0.05}
    patient = {"ping_interval_s": 600}  # with one that takes nothing
    async with Replica(redis_server.url, viewer={**quick, **patient}) as replica:
        yield replica


class Event(NamedTuple):
    """As the HTML standard has it; `id` is the stream's last one, which an event may not repeat."""

    name: str
    data: Json
    id: str


class EventReader:
    """Parses the lines of one response, as a browser does, and checks the order of the entries."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.comments = 0
        self.retry_ms: list[int] = []
        self.last_id = ""
        self.frames: list[Json] = []
        self._order = OrderCheck()
        self._events = self._read()

    async def _read(self) -> AsyncIterator[Event]:
        name, data = "message", []
        async for line in self._lines():
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if line.startswith(":"):
                self.comments += 1
            elif field == "event":
                name = value
            elif field == "data":
                data.append(value)
            elif field == "id":
                self.last_id = value
            elif field == "retry":
                self.retry_ms.append(int(value))
            elif not line and data:
                yield Event(name, json.loads("\n".join(data)), self.last_id)
                name, data = "message", []

    async def _lines(self) -> AsyncIterator[str]:
        """httpx's own `aiter_lines` also breaks lines at U+2028 and other places."""
        rest = b""
        async for data in self.response.aiter_bytes():
            assert b"\r" not in data
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield line.decode()

    async def next(self) -> Event:
        async with asyncio.timeout(TIMEOUT_S):
            event = await anext(self._events)
        if event.name == "message":
            self._order.see(event.data)
            if "id" in event.data:
                assert event.id == event.data["id"]
        self.frames.append(event.data)
        return event

    async def frame(self) -> Json:
        event = await self.next()
        assert event.name == "message"
        return event.data

    async def ids(self, count: int) -> list[str]:
        return [(await self.frame())["id"] for _ in range(count)]

    async def rest(self) -> list[Event]:
        """Everything up to the end of the response."""
        found = []
        with contextlib.suppress(StopAsyncIteration):
            while True:
                found.append(await self.next())
        return found


def url(replica: Replica, operation: str, **query: object) -> str:
    text = f"?{urlencode(query)}" if query else ""
    port = replica.settings.server.port
    return f"http://127.0.0.1:{port}/sse/operations/{operation}{text}"


@asynccontextmanager
async def stream(
    replica: Replica, operation: str, header: str | None = None, **query: object
) -> AsyncIterator[EventReader]:
    headers = {} if header is None else {"Last-Event-ID": header}
    async with (
        plain_client() as client,
        client.stream("GET", url(replica, operation, **query), headers=headers) as response,
    ):
        yield EventReader(response)


async def get(
    replica: Replica, operation: str, header: str | None = None, **query: object
) -> httpx.Response:
    """The whole response, for those that end."""
    async with stream(replica, operation, header, **query) as events:
        async with asyncio.timeout(TIMEOUT_S):  # heart-beats would keep it going
            await events.response.aread()
        return events.response


async def test_state_history_and_live_entries(replica: Replica, backend: Backend) -> None:
    ids = await backend.publish_many("42", 3)
    async with stream(replica, "42") as events:
        headers = events.response.headers
        assert events.response.status_code == 200
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        assert headers["cache-control"] == "no-store"
        assert headers["x-accel-buffering"] == "no"
        state = await events.next()
        assert state.data["type"] == "current_state"
        assert state.data["history"] == {"sent": 3, "available": 3}
        assert state.id == state.data["cursor"]
        assert await events.ids(3) == ids
        new = await backend.publish_many("42", 5)
        assert await events.ids(5) == new
        assert len(events.retry_ms) == 1
        assert 25 <= events.retry_ms[0] <= 75
    await until(lambda: replica.viewers == 0)
    await until(lambda: len(replica.runtime._limiter) == 0)


async def test_the_same_json_as_on_a_socket(replica: Replica, backend: Backend) -> None:
    await backend.publish("42", n=1)
    await backend.add("42", {"message": '{"type":"log",\r\n "data" : {"a":\n1.50}\r}'})
    await backend.add("42", {"message": "no json"})
    await backend.add("42", {"plain": "text\nwith lines", "type": "x\u2028y"})
    async with replica.watch("42") as viewer, stream(replica, "42") as events:
        socket_frames = [await viewer.next() for _ in range(5)]
        assert [await events.frame() for _ in range(5)] == socket_frames
        await backend.publish("42", n=2)
        assert await events.frame() == await viewer.next()


async def test_a_quiet_stream_has_a_heart_beat(replica: Replica, backend: Backend) -> None:
    async with stream(replica, "42") as events:
        await events.next()
        waiting = asyncio.create_task(events.frame())
        await until(lambda: events.comments >= 3)
        entry = await backend.publish("42")
        assert (await waiting)["id"] == entry


@pytest.mark.parametrize("by_header", [True, False])
async def test_a_cut_stream_is_resumed_where_it_was(
    replica: Replica, backend: Backend, *, by_header: bool
) -> None:
    ids = await backend.publish_many("42", 400)
    seen: list[str] = []
    last = "0-0"
    for _ in range(4):
        resumed = stream(replica, "42", last) if by_header else None
        async with resumed or stream(replica, "42", last_event_id=last) as events:
            assert (await events.next()).data["cursor"] == last
            seen += [(await events.next()).id for _ in range(75)]
            ids += await backend.publish_many("42", 5)
            last = events.last_id
    async with stream(replica, "42", last) as events:
        await events.next()
        seen += await events.ids(len(ids) - len(seen))
    assert seen == ids


async def test_the_header_goes_before_the_query(replica: Replica, backend: Backend) -> None:
    """An EventSource comes back with the address it was made with, and a newer id."""
    ids = await backend.publish_many("42", 5)
    async with stream(replica, "42", ids[3], last_event_id=ids[0]) as events:
        await events.next()
        assert await events.ids(1) == ids[4:]


async def test_a_lost_cursor_is_a_gap(replica: Replica, backend: Backend) -> None:
    ids = await backend.publish_many("42", 10)
    await backend.trim("42", 3)
    async with stream(replica, "42", ids[2]) as events:
        await events.next()
        gap = await events.next()
        assert gap.data["data"] == {"after": ids[2], "before": ids[7], "reason": "trimmed"}
        assert gap.id == ids[2]  # who is cut here is told again
        assert await events.ids(3) == ids[7:]


async def test_the_end_is_an_event_and_coming_back_is_204(
    replica: Replica, backend: Backend
) -> None:
    async with stream(replica, "42") as events:
        await events.next()
        end = await backend.finish("42")
        *frames, last = await events.rest()
        assert [e.id for e in frames] == [end]
        assert last.name == "end"
        assert last.data == {"type": "end", "data": {"code": 1000, "name": "finished"}}
        assert last.id == end
    again = await get(replica, "42", end)
    assert (again.status_code, again.content) == (204, b"")
    # Who has not seen the end yet gets it.
    async with stream(replica, "42") as events:
        found = await events.rest()
        assert [e.name for e in found] == ["message", "message", "end"]
    await until(lambda: replica.viewers == 0)


async def test_coming_back_to_the_end_without_its_entry_is_204_too(
    replica: Replica, backend: Backend
) -> None:
    """The last entry was deleted from the log; the position is still the last."""
    await backend.publish("42")
    end = await backend.finish("42")
    last = await backend.publish("42", "note")
    await backend.client.xdel(PREFIX + "42", last)
    async with stream(replica, "42") as events:
        await events.rest()
        assert events.last_id == end
        cursor = events.last_id
    again = await get(replica, "42", cursor)
    assert again.status_code == 204


async def test_a_stream_that_runs_on_is_not_204(redis_server: Server, backend: Backend) -> None:
    """The status says completed, but the operation was taken up again."""
    await backend.publish("42")
    await backend.finish("42")
    grace_s = 5
    async with Replica(redis_server.url, topic={"terminal_grace_s": grace_s}) as replica:
        graces = Graces(replica)
        async with stream(replica, "42", history="none") as events:
            cursor = (await events.next()).id
            coming = asyncio.create_task(get(replica, "42", cursor))
            await until(lambda: replica.viewers == 2)
            await backend.publish("42", "operation_resumed", status="running")
            response = await asyncio.wait_for(_started(replica, cursor), TIMEOUT_S)
            assert response == 200
            graces.over(grace_s)
            await backend.finish("42", "failed")
            await until(lambda: graces.waits(grace_s))
            graces.over(grace_s)
            assert (await coming).status_code == 200


async def _started(replica: Replica, cursor: str) -> int:
    async with stream(replica, "42", cursor) as events:
        await events.next()
        return events.response.status_code


async def test_an_expired_stream_is_410_for_who_comes_back(
    redis_server: Server, backend: Backend
) -> None:
    async with Replica(redis_server.url, topic={"linger_s": 0, "expired_grace_s": 0.1}) as replica:
        ids = await backend.publish_many("42", 2)
        async with stream(replica, "42") as events:
            await events.next()
            await backend.delete("42")
            *_, error, last = await events.rest()
            assert error.data["data"]["code"] == "expired"
            assert last.data["data"] == {"code": 4410, "name": "expired"}
        await until(lambda: not replica.hub.channels)
        again = await get(replica, "42", ids[-1])
        assert again.status_code == 410
        assert again.json()["code"] == "expired"


async def test_who_joins_what_has_just_expired_is_told(replica: Replica, backend: Backend) -> None:
    """The operation is still followed here, and nobody else is left to be told."""
    ids = await backend.publish_many("42", 2)
    async with stream(replica, "42") as events:
        await events.next()
        await backend.delete("42")
        await events.rest()
    for _ in range(2):
        async with stream(replica, "42", ids[-1]) as events:
            _, error, last = await events.rest()
            assert error.data["data"]["code"] == "expired"
            assert last.name == "end"


async def test_a_stream_that_does_not_exist_is_waited_for(
    replica: Replica, backend: Backend
) -> None:
    async with stream(replica, "42") as events:
        assert (await events.next()).data["data"] == {"status": "unknown"}
        entry = await backend.publish("42")
        assert await events.ids(1) == [entry]
        cursor = (events.frames[0])["cursor"]
    async with stream(replica, "42", cursor) as events:
        await events.next()
        assert await events.ids(1) == [entry]


async def test_refusals_have_a_status(replica: Replica, backend: Backend) -> None:
    for operation, query, header in (
        ("*", {}, None),
        ("x" * 129, {}, None),
        ("a%00b", {}, None),
        ("42", {"last_event_id": "nonsense"}, None),
        ("42", {"history": "-1"}, None),
        ("42", {}, "nonsense"),
        ("42", {}, "9" * 21),
    ):
        response = await get(replica, operation, header, **query)
        assert response.status_code == 400, (operation, query, header)
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["code"] == "bad_request"
        assert response.json()["status"] == 400
    await backend.client.set(PREFIX + "text", "no stream")
    response = await get(replica, "text")
    assert (response.status_code, response.json()["code"]) == (404, "not_a_stream")
    async with plain_client() as client:
        response = await client.post(url(replica, "42"))
        assert (response.status_code, response.headers["allow"]) == (405, "GET")
    assert replica.viewers == 0


async def test_redis_away_is_503_with_a_time(
    redis_server: Server, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "JOIN_PATIENCE_S", 0.3)
    async with Replica(redis_server.url) as replica:
        redis_server.pause()
        try:
            response = await get(replica, "42")
        finally:
            redis_server.resume()
        assert response.status_code == 503
        assert response.json()["code"] == "redis_unavailable"
        assert response.json()["retry"] is True
        assert int(response.headers["retry-after"]) > 0


async def test_too_many_connections_are_503(redis_server: Server, backend: Backend) -> None:
    async with (
        Replica(redis_server.url, replica={"max_connections": 1}) as replica,
        stream(replica, "42") as events,
    ):
        await events.next()
        response = await get(replica, "42")
        assert (response.status_code, response.json()["code"]) == (503, "connections")
        assert "retry-after" in response.headers


async def test_a_drain_says_when_to_come_back(redis_server: Server, backend: Backend) -> None:
    """No `end` event: the browser is meant to reconnect, after the time it was told."""
    drain = {"delay_s": 0, "window_s": 0.1}
    server = {"shutdown_timeout_s": 10}  # or what is not sent by then is cut off
    async with Replica(redis_server.url, drain=drain, server=server) as replica:
        await backend.publish("42")
        async with stream(replica, "42") as events:
            await events.next()
            await events.next()
            stopping = asyncio.create_task(replica.stop())
            last = (await events.rest())[-1]
            assert last.name == "message"
            assert last.data["type"] == "reconnect"
            assert events.retry_ms[-1] == last.data["data"]["after_ms"]
            assert last.id == events.frames[1]["id"]
            await stopping


async def test_one_that_does_not_read_is_left_behind_and_then_caught_up(
    replica: Replica, backend: Backend
) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(0)
        await loop.sock_connect(sock, ("127.0.0.1", replica.settings.server.port))
        await loop.sock_sendall(sock, b"GET /sse/operations/42 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until(lambda: replica.viewers == 1)
        async with stream(replica, "42") as other:
            await other.next()
            ids: list[str] = []
            for start in range(0, 2000, 100):
                new = await backend.publish_many("42", 100, start=start, pad=1000, type_="log")
                assert await other.ids(100) == new
                ids += new
        await until(lambda: replica.hub.stats().lagging == 1)
        await until(lambda: len(replica.runtime._limiter) == 1)
        (connection,) = replica.runtime._limiter._inside
        limits = replica.settings.viewer
        assert getattr(connection, "_size", 0) <= limits.high_water_bytes + 2 * 131_072
        received = b""
        while f"id: {ids[-1]}\n".encode() not in received[-4096:]:
            async with asyncio.timeout(TIMEOUT_S):  # each: there are 2 MB, some KiB at a time
                received += await loop.sock_recv(sock, 65536)
        lines = received.split(b"\n")
        seen = [line[4:].decode() for line in lines if line.startswith(b"id: ")]
        assert seen[1:] == ids


async def test_one_that_takes_nothing_is_cut_off(redis_server: Server, backend: Backend) -> None:
    quick = {"sse_heartbeat_s": 0.1, "ping_interval_s": 0.2, "ping_timeout_s": 0.2}
    loop = asyncio.get_running_loop()
    async with Replica(redis_server.url, viewer=quick) as replica:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(0)
            await loop.sock_connect(sock, ("127.0.0.1", replica.settings.server.port))
            await loop.sock_sendall(
                sock, b"GET /sse/operations/42 HTTP/1.1\r\nHost: localhost\r\n\r\n"
            )
            await until(lambda: replica.hub.counters.joins == 1)
            await backend.publish_many("42", 3000, pad=1000, type_="log")
            await until(lambda: replica.viewers == 0)
            await until(lambda: len(replica.runtime._limiter) == 0)


async def test_a_client_that_vanishes_leaves_nothing(replica: Replica, backend: Backend) -> None:
    for n in range(10):
        async with stream(replica, f"op-{n}") as events:
            if n % 2:
                await events.next()
    await until(lambda: replica.viewers == 0)
    await until(lambda: len(replica.runtime._limiter) == 0)


hostile = st.text(max_size=40) | st.sampled_from(
    ["0-0", "1-1", "9" * 20, "9" * 21 + "-0", "-1", "٣-٤", "1-", "all", "none", "\x00", "1e3", "٣"]
)


@settings(
    max_examples=examples(150),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.dictionaries(st.sampled_from(["last_event_id", "history", "x"]), hostile), st.data())
async def test_any_query_gets_a_stream_or_a_refusal(
    replica: Replica, query: dict[str, str], data: Any
) -> None:
    operation = data.draw(st.sampled_from(["42"]) | hostile.map(lambda t: quote(t, safe="")))
    async with stream(replica, operation or "_", **query) as events:
        # 410: a cursor of a stream that is gone.
        gone = {410} if query.get("last_event_id") else set()
        assert events.response.status_code in {200, 204, 400} | gone


def test_the_end_has_a_name() -> None:
    assert end_event(FINISHED).startswith(b"event: end\ndata: {")


@pytest.mark.real("chromium")
async def test_a_browser_resumes_and_stops_by_itself(
    redis_server: Server, backend: Backend
) -> None:
    """A real EventSource that knows nothing of `end`: cut, it resumes; at the end 204 stops it."""
    program = binaries.browser()
    assert program is not None
    quick = {"sse_heartbeat_s": 0.2, "sse_retry_s": 0.05}
    demo = {"demo": True}
    async with Replica(redis_server.url, viewer=quick, server=demo) as replica:
        ids = await backend.publish_many("42", 3)
        async with Browser(program) as browser:
            await browser.open(f"http://127.0.0.1:{replica.settings.server.port}/demo.json")
            await browser.evaluate(
                "globalThis.got = []; globalThis.states = [];"
                "globalThis.source = new EventSource('/sse/operations/42');"
                "source.onmessage = (m) => got.push(m.lastEventId + ' ' + JSON.parse(m.data).type);"
                "source.onerror = () => states.push(source.readyState); 0"
            )
            await browser.until(f"got.some((g) => g.startsWith('{ids[-1]}'))")
            for _ in range(3):
                before = await browser.evaluate("states.length")
                for connection in list(replica.runtime._limiter._inside):
                    connection._transport.abort()  # type: ignore[attr-defined]
                ids += await backend.publish_many("42", 2)
                await browser.until(f"states.length > {before} && source.readyState === 1")
                await browser.until(f"got.some((g) => g.startsWith('{ids[-1]}'))")
            end = await backend.finish("42")
            await browser.until("source.readyState === 2")  # CLOSED, by the 204
            got = json.loads(await browser.evaluate("JSON.stringify(got)"))
            entries = [g.split() for g in got if not g.endswith("current_state")]
            assert [entry_id for entry_id, _ in entries] == [*ids, end]
            assert entries[-1] == [end, "operation_completed"]
            assert await browser.evaluate("states.at(-1)") == 2
