"""Publishing over HTTP: what is written, what is refused, and what a repeated request does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.harness.backend import PREFIX, Backend
from tests.harness.examples import examples
from tests.harness.plain_http import plain_client
from tests.harness.replica import Replica, quick_settings
from tests.harness.waiting import until
from tests.legacy_contract.application import QuietServer
from tests.servers.cluster import Cluster
from tests.servers.ports import free_port
from tests.servers.standalone import Server
from tidegate.core.writes import IdempotencyKey
from tidegate.gateway.hub import unstored_frame
from tidegate.model.errors import SettingsError
from tidegate.model.ids import OperationId
from tidegate.model.settings import Settings
from tidegate.redis.appending import Appender, OnceBounds, Retention
from tidegate.redis.names import same_slot
from tidegate.web.http.publish import publishing_routes

TOKEN = "s" * 32
OLD_TOKEN = "o" * 32
BEARER = {"Authorization": f"Bearer {TOKEN}"}
EVENTS = "/operations/42/events"
LINES = {**BEARER, "Content-Type": "application/x-ndjson"}


class Api:
    """The routes over a replica's parts, on a port of their own. An async context manager."""

    def __init__(self, redis_url: str, **publish: Any) -> None:
        group = {"token": TOKEN, "previous_token": OLD_TOKEN, **publish}
        self.settings: Settings = quick_settings(redis_url, publish=group)
        self.replica = Replica(redis_url, publish=group)
        self.port = free_port()
        self.client = plain_client(f"http://127.0.0.1:{self.port}")

    async def __aenter__(self) -> Api:
        await self.replica.start()
        runtime = self.replica.runtime
        publish = self.settings.publish
        self._appender = Appender(
            runtime._node.topology,
            self.settings.redis,
            self.settings.dispatch,
            Retention(publish.cap, publish.ttl_s),
        )

        def say_here(operation: OperationId, text: bytes) -> int:
            return self.replica.hub.say_unstored(operation, unstored_frame(operation, text))

        app = FastAPI()
        app.include_router(
            publishing_routes(self._appender, runtime._node.log, self.settings, say_here)
        )
        self._server = QuietServer.of(app, self.port)
        self._serving = asyncio.create_task(self._server.serve())
        await until(lambda: self._server.started)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
        self._server.should_exit = True
        await self._serving
        await self._appender.close()
        await self.replica.stop()

    async def post(
        self, body: Any, path: str = EVENTS, *, key: str | None = None, **headers: str
    ) -> httpx.Response:
        sent = {"Content-Type": "application/json", **BEARER, **headers}
        if key is not None:
            sent["Idempotency-Key"] = key
        content = body if isinstance(body, bytes | str) else json.dumps(body)
        return await self.client.post(path, content=content, headers=sent)


@pytest.fixture
async def api(redis_server: Server) -> AsyncIterator[Api]:
    async with Api(redis_server.url) as api:
        yield api


async def texts(backend: Backend, operation: str = "42") -> list[bytes]:
    entries: Any = await backend.client.xrange(PREFIX + operation)
    return [fields[b"message"] for _, fields in entries]


def is_problem(answer: httpx.Response, status: int, code: str) -> bool:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["detail"]
    return (answer.status_code, body["code"]) == (status, code)


# --- what is written


async def test_one_entry_reaches_viewers_as_it_was_written(api: Api, backend: Backend) -> None:
    body = b'{"type":"progress", "data":{"progress":0.50,"n":12345678901234567890.10}}'
    async with api.replica.watch("42") as viewer:
        await viewer.state()
        answer = await api.post(body)
        assert answer.status_code == 201
        (entry_id,) = answer.json()["ids"]
        (frame,) = await viewer.entries(1)
    assert answer.json() == {"operation": "42", "ids": [entry_id]}
    assert answer.headers["cache-control"] == "no-store"
    assert (frame["id"], frame["type"]) == (entry_id, "progress")
    assert await texts(backend) == [body]  # to the byte: numbers keep their digits
    assert 86_000 < await backend.client.ttl(PREFIX + "42") <= 86_400


@pytest.mark.parametrize("lines", [False, True])
async def test_a_batch_is_written_as_a_whole(api: Api, backend: Backend, lines: bool) -> None:
    entries = [{"type": "log", "data": {"n": n, "text": "a\nb\u2028c\x00"}} for n in range(500)]
    if lines:
        body = "\r\n\n".join(map(json.dumps, entries)) + "\n"
        answer = await api.client.post(EVENTS, content=body, headers=LINES)
    else:
        answer = await api.post(entries)
    async with api.replica.watch("42", history="all") as viewer:
        await viewer.state()
        found = await viewer.entries(500)
    assert [f["id"] for f in found] == answer.json()["ids"]
    assert [f["data"] for f in found] == [e["data"] for e in entries]


async def test_an_object_without_data_is_the_data(api: Api) -> None:
    await api.post({"progress": 0.5, "status": "running"})
    async with api.replica.watch("42") as viewer:
        await viewer.state()
        (frame,) = await viewer.entries(1)
    assert (frame["type"], frame["data"]) == ("update", {"progress": 0.5, "status": "running"})


async def test_an_end_closes_viewers(api: Api) -> None:
    async with api.replica.watch("42") as viewer:
        await viewer.state()
        await api.post([{"type": "log", "data": {}}, {"type": "operation_failed", "data": {}}])
        frames, close = await viewer.rest()
        assert [frame["type"] for frame in frames] == ["log", "operation_failed"]
        assert close.code == 1000


async def test_cap_and_ttl_are_settings(redis_server: Server, backend: Backend) -> None:
    async with Api(redis_server.url, cap=100, ttl_s=0) as api:
        for _ in range(3):
            await api.post([{"data": {"n": n}} for n in range(300)])
    assert await backend.client.xlen(PREFIX + "42") < 300
    assert await backend.client.ttl(PREFIX + "42") == -1


# --- who may


async def test_only_the_service_token_opens(api: Api, backend: Backend) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer " + "x" * 32},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer é"},
    ):
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        for answer in (
            await api.client.post(EVENTS, json={"data": {}}, headers=raw),
            await api.client.delete("/operations/42", headers=raw),
        ):
            assert is_problem(answer, 401, "unauthenticated")
            assert answer.headers["www-authenticate"] == "Bearer"
            assert TOKEN not in answer.text
    assert not await backend.exists("42")
    old = {"Authorization": f"Bearer {OLD_TOKEN}"}
    assert (await api.client.post(EVENTS, json={"a": 1}, headers=old)).status_code == 201


async def test_without_a_token_in_the_settings_it_is_off(redis_server: Server) -> None:
    async with Api(redis_server.url, token=None, previous_token=None) as api:
        answer = await api.post({"data": {}})
        assert is_problem(answer, 403, "publishing_off")
        assert "publish.token" in answer.json()["detail"]


# --- a repeated request


async def test_a_repeated_request_is_written_once(api: Api, backend: Backend) -> None:
    body = [{"data": {"n": 1}}, {"data": {"n": 2}}]
    answers = await asyncio.gather(*(api.post(body, key="k-1") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert len(await texts(backend)) == 2

    assert is_problem(await api.post({"data": {"n": 3}}, key="k-1"), 422, "key_reused")
    assert (await api.post(body, "/operations/43/events", key="k-1")).status_code == 201
    assert (await api.post(body, key='"k-2"')).status_code == 201
    assert len(await texts(backend)) == 4
    for key in ("", "a b", "x" * 256):
        assert is_problem(await api.post(body, key=key), 400, "bad_request")


async def test_what_is_remembered_is_bounded_and_goes_by_itself(
    api: Api, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.redis.appending.CALLERS", OnceBounds(kept=10))
    for n in range(25):
        await api.post({"data": {"n": n}}, key=f"k-{n}")
    beside = same_slot(PREFIX + "42")
    assert await backend.client.hlen(f"{beside}:once") == 10
    assert await backend.client.llen(f"{beside}:once-order") == 10
    for key in (f"{beside}:once", f"{beside}:once-order"):
        assert 86_000 < await backend.client.ttl(key) <= 86_400
    assert "idempotent-replayed" in (await api.post({"data": {"n": 24}}, key="k-24")).headers


async def test_a_restart_of_redis_between_write_and_answer(redis_server: Server) -> None:
    """The reply is lost; the caller tries until it has one; the entry is there once."""
    async with Api(redis_server.url) as api, redis_server.client() as client:
        await api.post({"data": {"n": 0}})
        redis_server.pause()
        waiting = asyncio.create_task(api.post({"data": {"n": 1}}, key="k"))
        await asyncio.sleep(0)
        redis_server.resume()
        assert (await waiting).status_code == 201
        again = await api.post({"data": {"n": 1}}, key="k")
        assert again.json() == (await waiting).json()
        assert len(await texts(Backend(client))) == 2


async def test_on_a_cluster(cluster: Cluster) -> None:
    async with Api(cluster.url) as api:
        for n in range(30):
            path = f"/operations/op-{n}/events"
            first = await api.post({"data": {"n": n}}, path, key="k")
            assert first.status_code == 201
            assert (await api.post({"data": {"n": n}}, path, key="k")).json() == first.json()
            removed = await api.client.delete(f"/operations/op-{n}", headers=BEARER)
            assert removed.json()["status"] == "cancelled"


def test_keys_that_live_together() -> None:
    from redis.crc import key_slot

    for key in ("operation-progress:42", "{ops}:42", "a{b}c:42", "a{b:42"):
        assert key_slot(same_slot(key).encode() + b":once") == key_slot(key.encode())
    for key in ("a}b:42", "{}a:42"):
        with pytest.raises(SettingsError):
            same_slot(key)


def test_digests_and_not_secrets_are_kept() -> None:
    once = IdempotencyKey("\ud800 key", b"body")
    assert len(once.field) == len(once.digest) == 32


# --- hostile bodies


BAD_BODIES = [
    b"",
    b" ",
    b"[]",
    b"null",
    b"7",
    b'"text"',
    b"{",
    b'{"data": {"x": 1e}}',
    b'{"type": 7}',
    b'{"type": "malformed"}',
    b"[7]",
    b'[{"data": {}}, {]',
    b'[{"data": {}}, "x"]',
    b'{"data": {"x": "\xff"}}',
    b'{"data": {}} trailing',
    b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b"[" * 100_000,
]


LENIENT_BODIES = [
    b'{"type":"operation_completed","data":{"status":"completed","x":NaN}}',
    b'{"type":"operation_completed","data":{"status":"completed","x":"\\udcff"}}',
    b'[{"type":null,"data":1},%b]'
    % b'{"type":"operation_completed","data":{"status":"completed","x":"]\\udcff"}}',
    b'[ {"type":null,"data":-Infinity} , %b ] '
    % b'{"type":"operation_completed","data":{"status":"completed"}}',
    b'\xef\xbb\xbf{"type":"operation_completed","data":{"status":"completed"}}',
]


@pytest.mark.parametrize("body", LENIENT_BODIES, ids=lambda body: repr(body[:50]))
async def test_an_end_beside_what_strict_parsers_refuse_is_not_refused(
    api: Api, backend: Backend, body: bytes
) -> None:
    async with api.replica.watch("42") as viewer:
        answer = await api.client.post(EVENTS, content=body, headers=BEARER)
        assert answer.status_code == 201, answer.text
        frames, close = await viewer.rest()
    assert (frames[-1]["type"], frames[-1]["data"]["status"]) == (
        "operation_completed",
        "completed",
    )
    assert close.code == 1000


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"data":{"n":NaN}}', {"n": None}),
        (b'{"data":{"f":"\\udcff"}}', {"f": "\udcff"}),
        (b'{"n":1}', {"n": 1}),
    ],
    ids=["NaN", "half a pair", "no data"],
)
async def test_what_is_given_to_local_viewers_is_read_as_from_the_stream(
    redis_server: Server, body: bytes, value: Any
) -> None:
    """An escaped half of a surrogate pair was answered with 500."""
    async with Api(redis_server.url) as api, api.replica.watch("42") as viewer:
        await viewer.state()
        await redis_server.kill()
        await until(lambda: not api.replica.feed.is_connected)
        while True:  # the first may break a connection, and then nobody can tell
            answer = await api.client.post(
                EVENTS, params={"fallback": "local"}, content=body, headers=BEARER
            )
            if answer.status_code == 202:
                break
            assert (answer.status_code, answer.json()["code"]) == (503, "uncertain")
        frame = await viewer.until(type="update")
        assert (frame["data"], "id" in frame) == (value, False)


async def test_a_body_that_cannot_be_read_writes_nothing(api: Api, backend: Backend) -> None:
    for body in BAD_BODIES:
        assert is_problem(await api.post(body), 400, "bad_request"), body[:24]
        assert not await backend.exists("42"), body[:24]


async def test_one_bad_entry_of_a_batch_writes_nothing(api: Api, backend: Backend) -> None:
    answer = await api.client.post(EVENTS, content='{"data":1}\n{"data":2}\n{x\n', headers=LINES)
    assert is_problem(answer, 400, "bad_request")
    assert "entry 2" in answer.json()["detail"]
    assert not await backend.exists("42")


async def test_what_is_odd_and_still_json_is_taken(api: Api) -> None:
    bodies = [
        b'{"data": {"a": 1, "a": 2}}',
        b'{"data": {"n": 123456789012345678901234567890e99}}',
        b'{"type": "\\u0000\\u2028", "data": null}',
        b'{"data": ' + b"[" * 200 + b"]" * 200 + b"}",
        b'{"timestamp": {"any": "thing"}, "data": [1]}',
        b"{}",
    ]
    for body in bodies:
        answer = await api.post(body)
        assert answer.status_code == 201, (body, answer.text)
    async with api.replica.watch("42") as viewer:
        await viewer.state()
        frames = await viewer.entries(len(bodies))
    assert "malformed" not in [frame["type"] for frame in frames]


async def test_bounds(
    redis_server: Server, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A body of which something is left after that is answered by a close, which may win.
    monkeypatch.setattr("tidegate.web.http.body.SKIP_MAX_S", 60)
    async with Api(redis_server.url, max_body_bytes=400_000, max_batch=3) as api:

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b'{"data":1}\n' * 1000

        told = await api.post(b" " * 10_000_000)
        assert is_problem(told, 413, "too_large")
        assert "publish.max_body_bytes" in told.json()["detail"]
        # Without a length it is counted while it is read, and not read to an end that never comes.
        try:
            untold = await api.client.post(EVENTS, content=endless(), headers=LINES)
            assert is_problem(untold, 413, "too_large")
        except httpx.HTTPError:
            pass  # the server closed while the client was still writing

        for body in (b'{"data":1}\n' * 4, b'{"data":1}\n' * 4000):
            many = await api.client.post(EVENTS, content=body, headers=LINES)
            assert is_problem(many, 413, "too_large")
        assert is_problem(await api.post([{"data": 1}] * 4), 413, "too_large")
        big = await api.post({"data": "x" * 300_000})
        assert is_problem(big, 413, "too_large")
        assert "dispatch.max_entry_bytes" in big.json()["detail"]
    assert not await backend.exists("42")


async def test_the_largest_entry_is_delivered(api: Api) -> None:
    most = api.settings.dispatch.max_entry_bytes - len("message")
    frame = b'{"data":"' + b"x" * (most - 11) + b'"}'
    assert len(frame) == most
    assert (await api.post(frame)).status_code == 201
    assert is_problem(await api.post(frame[:-2] + b'x"}'), 413, "too_large")
    async with api.replica.watch("42") as viewer:
        await viewer.state()
        (entry,) = await viewer.entries(1)
        assert entry["type"] == "update"


async def test_slow_and_broken_bodies(redis_server: Server) -> None:
    async with Api(redis_server.url, body_timeout_s=0.1) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        head = f"POST {EVENTS} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        writer.write(f"{head}Content-Length: 100\r\n\r\n".encode() + b'{"data"')
        assert b" 408 " in await reader.readline()
        writer.close()

        _, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(f"{head}Content-Length: 100\r\n\r\n".encode() + b'{"data"')
        await writer.drain()
        writer.close()
        assert (await api.post({"data": 1})).status_code == 201


async def test_other_requests_that_are_refused(api: Api, backend: Backend) -> None:
    for media_type in ("text/plain", "application/xml", "application/json; charset=latin-1"):
        answer = await api.post(b"{}", **{"Content-Type": media_type})
        assert is_problem(answer, 415, "media_type")
    for media_type in ("application/json; charset=UTF-8", "Application/JSON"):
        assert (await api.post(b"{}", **{"Content-Type": media_type})).status_code == 201
    for operation in ("%2A", "a%20b", "%00", "x" * 129, "-a"):
        answer = await api.post(b"{}", f"/operations/{operation}/events")
        assert is_problem(answer, 400, "bad_request")
    await backend.client.set(PREFIX + "text", "no stream")
    answer = await api.post(b"{}", "/operations/text/events")
    assert is_problem(answer, 409, "not_a_stream")


@settings(
    max_examples=examples(150),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    body=st.binary(max_size=40)
    | st.text(alphabet='{}[]":,0123456789eE+-.\\u"datypermsg \n', max_size=60).map(str.encode)
)
def test_no_body_breaks_what_viewers_get(body: bytes) -> None:
    """Whatever is taken can be read by a browser; whatever cannot is refused."""
    from tidegate.model.entries import RawEntry, read_entry
    from tidegate.model.ids import StreamId
    from tidegate.web.http.publish import Publishing, PublishRejected

    unused: Any = None
    publishing = Publishing(unused, unused, quick_settings("redis://127.0.0.1:1/0"))
    for media_type in ("application/json", "application/x-ndjson"):
        try:
            taken, _ = publishing._texts(media_type, body)
        except PublishRejected:
            continue
        for text in taken:
            entry = read_entry(StreamId(1, 0), RawEntry(b"1-0", [b"message", text]))
            json.loads(entry.data)
            json.loads(entry.timestamp)


# --- Redis away


async def certain(api: Api, body: dict[str, Any], path: str = EVENTS) -> httpx.Response:
    """The answer of the first request that finds no connection from before.

    One that breaks under a request leaves open whether it was written: `uncertain`.
    """
    while (answer := await api.post(body, path)).status_code == 503:
        if answer.json()["code"] != "uncertain":
            break
    return answer


async def test_redis_away(redis_server: Server) -> None:
    async with Api(redis_server.url) as api, api.replica.watch("42") as viewer:
        await viewer.state()
        await api.post({"data": {"n": 0}})
        await viewer.entries(1)
        await redis_server.kill()
        answer = await certain(api, {"data": {"n": 1}})
        assert is_problem(answer, 503, "redis_unavailable")
        assert answer.headers["retry-after"]
        assert answer.json()["retry"] is True
        await viewer.until(type="stale")

        local = await certain(api, {"type": "log", "data": {"n": 2}}, f"{EVENTS}?fallback=local")
        assert local.status_code == 202
        assert local.json() == {"operation": "42", "ids": [], "viewers": 1}
        frame = await viewer.until(type="log")
        assert (frame["data"], "id" in frame) == ({"n": 2}, False)
        assert (await api.post({}, f"{EVENTS}?fallback=all")).status_code == 422
        gone = await api.client.delete("/operations/42", headers=BEARER)
        assert is_problem(gone, 503, "redis_unavailable")

        await redis_server.restart()

        async def written() -> bool:
            return (await api.post({"data": {"n": 3}}, key="k")).status_code == 201

        await until(written)


# --- the end of an operation


async def test_delete_ends_and_removes(api: Api, backend: Backend) -> None:
    async with api.replica.watch("42") as viewer:
        await viewer.state()
        await api.post({"type": "progress", "data": {"progress": 0.5}})
        answer = await api.client.delete("/operations/42", headers=BEARER)
        assert answer.status_code == 200
        (ended,) = answer.json()["ids"]
        assert answer.json()["status"] == "cancelled"

        frames, close = await viewer.rest()
        assert [frame["type"] for frame in frames] == ["progress", "operation_cancelled"]
        assert (frames[-1]["id"], close.code) == (ended, 1000)
    assert not await backend.exists("42")
    again = await api.client.delete("/operations/42", headers=BEARER)
    assert is_problem(again, 404, "not_found")


async def test_delete_of_what_has_ended_does_not_change_how(api: Api, backend: Backend) -> None:
    # Two of them: the first one's end, still in the ring, would close the second's viewer.
    for operation, status in (("42", "completed"), ("43", "failed")):
        await backend.publish(operation, "progress", n=1)
        await backend.finish(operation, status)
        async with api.replica.watch(operation) as viewer:
            await viewer.until(type=f"operation_{status}")
            answer = await api.client.delete(f"/operations/{operation}", headers=BEARER)
            assert answer.json() == {"operation": operation, "status": status, "ids": []}
            assert (await viewer.closed()).code == 1000
        assert not await backend.exists(operation)


async def test_delete_while_it_is_written_to(api: Api, backend: Backend) -> None:
    stop = False

    async def writing() -> None:
        while not stop:
            await backend.publish("42", "log")

    await backend.publish("42", "log")
    task = asyncio.create_task(writing())
    answer = await api.client.delete("/operations/42", headers=BEARER)
    stop = True
    await task
    assert answer.status_code in (200, 409)


async def test_openapi_describes_both_routes(api: Api) -> None:
    paths = (await api.client.get("/openapi.json")).json()["paths"]
    post = paths["/operations/{operation_id}/events"]["post"]
    assert set(post["requestBody"]["content"]) == {"application/json", "application/x-ndjson"}
    assert {"201", "413", "422"} <= set(post["responses"])
    assert post["security"] == [{"service": []}]
    assert "delete" in paths["/operations/{operation_id}"]


# --- Requests to cancel


async def test_an_end_takes_the_request_to_cancel_along(
    redis_server: Server, backend: Backend
) -> None:
    key = same_slot(PREFIX + "42") + ":cancel"
    ends = [
        ('{"type":"operation_failed"}', {}),
        ('[{"status":"completed"},{"type":"log"}]', {"Idempotency-Key": "k"}),
    ]
    async with Api(redis_server.url) as api:
        for body, more in ends:
            await backend.client.set(key, "1-1")
            log = await api.client.post(EVENTS, content='{"type":"log"}', headers=BEARER)
            assert log.status_code == 201
            assert await backend.client.exists(key)
            done = await api.client.post(EVENTS, content=body, headers=BEARER | more)
            assert done.status_code == 201
            assert not await backend.client.exists(key)
        await backend.client.set(key, "1-1")
        running = '[{"status":"completed"},{"status":"running"}]'  # it goes on
        assert (await api.client.post(EVENTS, content=running, headers=BEARER)).status_code == 201
        assert await backend.client.exists(key)
        assert (await api.client.delete("/operations/42", headers=BEARER)).status_code == 200
        assert not await backend.client.exists(key)
