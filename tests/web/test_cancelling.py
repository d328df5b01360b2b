"""Viewers ask to cancel, over sockets and HTTP: who may, what all see, and what is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from structlog.testing import capture_logs
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.harness.backend import PREFIX, Backend
from tests.harness.plain_http import plain_client
from tests.harness.replica import Replica
from tests.harness.viewer import Viewer
from tests.harness.waiting import until
from tests.servers.standalone import Server
from tests.web.access.test_admission import AUTH, guarded, token, watch
from tests.web.access.test_admission_http import client_of
from tests.web.ws.test_multiplex import ManyViewer
from tidegate.web.ws import session

PATH = "/operations/42/cancel"
KEY = f"{{{PREFIX}42}}:cancel"
VIEWERS = {"allow": "viewers"}


@asynccontextmanager
async def many(replica: Replica, text: str | None = None) -> AsyncIterator[ManyViewer]:
    headers = {} if text is None else {"Authorization": f"Bearer {text}"}
    url = f"ws://127.0.0.1:{replica.settings.server.port}/ws"
    async with (
        connect(url, subprotocols=["tidegate.v1"], additional_headers=headers) as socket,  # type: ignore[list-item]
        ManyViewer(socket) as viewer,
    ):
        yield viewer


async def post(replica: Replica, path: str = PATH, text: str | None = None, **more: Any) -> Any:
    async with client_of(replica, text) as client:
        return await client.post(path, **more)


async def error(viewer: Viewer) -> tuple[str, str | None]:
    frame = await viewer.until(type="error")
    return frame["data"]["code"], frame.get("operation")


async def test_everybody_sees_it_and_the_one_who_asked_is_answered(
    replica: Replica, backend: Backend
) -> None:
    await backend.publish("42")
    async with replica.watch("42") as one, replica.watch("42") as other, many(replica) as third:
        for viewer in (one, other):
            await viewer.state()
            await viewer.entries(1)
        await one.say('{"type":"cancel"}')
        asked = [await viewer.until(type="cancel_requested") for viewer in (one, other)]
        assert asked[0] == asked[1]
        assert asked[0]["data"] == {"status": "cancelling"}, "with --auth none nobody is named"
        answers = [frame for frame in one.frames if frame["type"] == "cancelling"]
        answer = answers[0] if answers else await one.until(type="cancelling")
        assert answer["operation"] == "42"
        assert answer["data"] == {"id": asked[0]["id"], "repeated": False}
        await other.say('{"type":"cancel","operation":"42"}')
        again = await other.until(type="cancelling")
        assert again["data"] == {"id": asked[0]["id"], "repeated": True}
        await third.say(type="cancel", operation="42")  # it need not be watched
        assert (await third.until(type="cancelling"))["data"]["repeated"]
        response = await post(replica)
        assert response.status_code == 202
        assert response.json() == {
            "operation": "42", "status": "cancelling", "id": asked[0]["id"], "repeated": True,
        }  # fmt: skip
        assert await backend.client.get(KEY) == asked[0]["id"].encode()
        await backend.finish("42", "cancelled")
        assert (await other.until(type="operation_cancelled"))["data"]["status"] == "cancelled"
    async with replica.watch("42") as late:
        assert (await late.state())["data"]["status"] == "cancelled"


async def test_what_has_ended_or_never_began(replica: Replica, backend: Backend) -> None:
    await backend.finish("42")
    for path, status, code in (
        (PATH, 409, "already_ended"),
        ("/operations/43/cancel", 404, "no_stream"),
        ("/operations/%2A/cancel", 400, "bad_request"),
    ):
        response = await post(replica, path)
        assert (response.status_code, response.json()["code"]) == (status, code), path
        assert not response.json()["retry"]
    async with many(replica) as viewer:
        for operation, code in (("42", "already_ended"), ("43", "no_stream")):
            await viewer.say(type="cancel", operation=operation)
            await viewer.error(code, operation=operation)
        await viewer.say(type="cancel", operation="*")
        assert "operation" not in await viewer.error("bad_request")
        await viewer.ping()
    assert await backend.client.exists(PREFIX + "43", KEY) == 0
    async with plain_client(f"http://127.0.0.1:{replica.settings.server.port}") as client:
        assert (await client.get(PATH)).status_code == 405


HOSTILE = [
    '{"type":"cancel","operation":7}',
    '{"type":"cancel","operation":["42"]}',
    '{"type":"cancel","operation":"\\ud800"}',
    '{"type":"cancel","operation":' + "[" * 5_000,
    '{"type":"cancel","operation":"' + "x" * 10_000 + '"}',
    '{"type":"cancel","operation":"43"}',
    '{"type":"cancel","operation":"42\\u0000"}',
    '{"type":"cancel","operation":""}',
]


async def test_messages_that_make_no_sense(
    replica: Replica, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_COSTLY", {})  # or they are too many
    await backend.publish("42")
    async with replica.watch("42") as viewer:
        await viewer.state()
        for message in HOSTILE:
            await viewer.say(message)
            code, operation = await error(viewer)
            assert code in ("bad_message", "bad_request"), message
            assert len(operation or "") <= 128
        await viewer.ping()
    async with many(replica) as socket:
        await socket.say(type="cancel")
        await socket.error("bad_request")
        await socket.ping()
    assert await backend.client.xlen(PREFIX + "42") == 1


@pytest.mark.parametrize(
    ("cancel", "claims", "status", "code"),
    [
        ({}, {}, 403, "cancel_forbidden"),
        ({}, {"cancel_operations": ["4*"]}, 202, None),
        ({}, {"cancel_operations": "42"}, 202, None),
        ({}, {"cancel_operations": []}, 403, "cancel_forbidden"),
        ({}, {"cancel_operations": ["43", "*3"]}, 403, "cancel_forbidden"),
        ({}, {"cancel_operations": True}, 401, "bad_claim"),
        ({}, {"cancel_operations": [""]}, 401, "bad_claim"),
        ({"allow": "granted"}, {"operations": ["*"]}, 403, "cancel_forbidden"),
        ({"allow": "none"}, {"cancel_operations": ["*"]}, 403, "cancel_forbidden"),
        (VIEWERS, {}, 202, None),
    ],
)
async def test_who_may(
    redis_server: Server, backend: Backend, cancel: Any, claims: Any, status: int, code: str | None
) -> None:
    await backend.publish("42")
    async with guarded(redis_server, cancel=cancel) as replica:
        response = await post(replica, text=token("ann", **claims))
        assert response.status_code == status
        assert response.json().get("code") == code
        assert await backend.client.exists(KEY) == (status == 202)
        if status == 202:
            entries: Any = await backend.client.xrevrange(PREFIX + "42", count=1)
            data = json.loads(entries[0][1][b"message"])["data"]
            assert data == {"status": "cancelling", "by": "ann"}


async def test_without_a_token_and_before_one_is_known(
    redis_server: Server, backend: Backend
) -> None:
    """The message may come before the viewer is let in: it must not be heard as of nobody."""
    await backend.publish("42")
    async with guarded(redis_server, cancel=VIEWERS) as replica:
        assert (await post(replica)).status_code == 401
        async with Viewer(replica.url("42")) as viewer:
            with suppress(ConnectionClosed):  # it may be closed by now
                await viewer.say('{"type":"cancel"}')
            frames, close = await viewer.rest()
            assert close.code == 4401
            assert [frame["data"]["code"] for frame in frames] == ["token_missing"]
        async with many(replica) as socket:
            with suppress(ConnectionClosed):
                await socket.say(type="cancel", operation="42")
            assert await socket.closed() == 4401
        assert await backend.client.exists(KEY) == 0
        async with watch(replica, "42", token("ann")) as viewer:
            await viewer.say('{"type":"cancel"}')  # before anything has come
            assert (await viewer.until(type="cancelling"))["operation"] == "42"


async def test_who_may_not_watch_may_not_cancel(redis_server: Server, backend: Backend) -> None:
    await backend.publish("42")
    source = {"kind": "claims"}
    async with guarded(redis_server, cancel=VIEWERS, source=source) as replica:
        granted: list[dict[str, Any]] = [
            {},
            {"operations": ["43"]},
            {"cancel_operations": ["42"]},
        ]
        for claims in granted:
            response = await post(replica, text=token("ann", **claims))
            assert (response.status_code, response.json()["code"]) == (403, "forbidden"), claims
        async with many(replica, token("ann", operations=["43"])) as socket:
            await socket.say(type="cancel", operation="42")
            await socket.error("forbidden", operation="42")
        assert await backend.client.exists(KEY) == 0


async def test_the_source_may_grant_it(redis_server: Server, backend: Backend) -> None:
    await backend.publish("42")
    source = {"kind": "redis"}
    hash_ = {"owner": "ann", "users": '["bob", "cid"]', "may_cancel": '["ann", "cid"]'}
    await backend.client.hset("operation:42", mapping=hash_)  # type: ignore[arg-type]
    async with guarded(redis_server, source=source) as replica:
        for user, status in (("bob", 403), ("dan", 403), ("cid", 202), ("ann", 202)):
            assert (await post(replica, text=token(user))).status_code == status, user
        await backend.client.hset("operation:42", "may_cancel", "*")
        assert (await post(replica, text=token("bob"))).status_code == 202
        assert (await post(replica, text=token("dan"))).status_code == 403, "may not even watch"
        await backend.client.hset("operation:42", "may_cancel", "ann")
        assert (await post(replica, text=token("ann"))).json()["code"] == "source_failed"


LISTED = "https://app.example.com"


async def test_a_page_of_another_site_cannot_use_a_cookie(
    redis_server: Server, backend: Backend
) -> None:
    await backend.publish("42")
    auth = AUTH | {"cookie": "session", "origins": [LISTED]}
    async with guarded(redis_server, auth=auth, cancel=VIEWERS) as replica:
        cookie = {"cookie": f"session={token('ann')}"}
        for headers in (
            {},
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
        ):
            response = await post(replica, headers=cookie | headers)
            assert (response.status_code, response.json()["code"]) == (403, "origin"), headers
        assert await backend.client.exists(KEY) == 0
        async with client_of(replica, None) as client:
            asks = {"access-control-request-method": "POST", "origin": LISTED}
            preflight = await client.options(PATH, headers=asks)
            assert preflight.status_code == 204
            assert "POST" in preflight.headers["access-control-allow-methods"]
            done = await client.post(PATH, headers=cookie | {"origin": LISTED})
            assert done.status_code == 202
            assert done.headers["access-control-allow-origin"] == LISTED
            same = await client.post(PATH, headers=cookie | {"sec-fetch-site": "same-origin"})
            assert same.status_code == 202


async def test_a_page_of_another_site_cannot_without_authentication_either(
    replica: Replica, backend: Backend
) -> None:
    await backend.publish("42")
    port = replica.settings.server.port
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": f"http://localhost:{port}"},
        {"host": f"evil.example:{port}", "origin": f"http://evil.example:{port}"},
    ):
        response = await post(replica, headers=headers)
        assert response.status_code == 403, headers
    assert await backend.client.exists(KEY) == 0
    own = {"origin": f"http://127.0.0.1:{port}"}
    assert (await post(replica, headers=own)).status_code == 202


async def test_a_user_asks_so_often_and_no_more(redis_server: Server, backend: Backend) -> None:
    await backend.publish("42")
    async with guarded(redis_server, cancel=VIEWERS) as replica:
        cancels = replica.runtime._cancels
        cancels._rates._settings = cancels._rates._settings.model_copy(
            update={"user_per_s": 0.0, "user_burst": 3}
        )
        async with many(replica, token("ann")) as socket:
            for _ in range(2):
                await socket.say(type="cancel", operation="42")
                await socket.until(type="cancelling")
            assert (await post(replica, text=token("ann"))).status_code == 202
            await socket.say(type="cancel", operation="42")
            frame = await socket.error("too_many_cancels", operation="42")
            assert frame["data"]["retry"]
        refused = await post(replica, text=token("ann"))
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_cancels")
        assert refused.headers["retry-after"]
        assert (await post(replica, text=token("bob"))).status_code == 202
        metrics = (await replica.admin("/metrics")).text
        assert 'tidegate_cancels_total{outcome="rate_limited"} 2.0' in metrics
        assert 'tidegate_cancels_total{outcome="requested"} 1.0' in metrics
        assert 'tidegate_cancels_total{outcome="already_requested"} 3.0' in metrics


async def test_a_flood_on_one_socket_closes_it(replica: Replica, backend: Backend) -> None:
    await backend.publish("42")
    async with replica.watch("42") as viewer:
        await viewer.state()
        for _ in range(200):
            await viewer.say('{"type":"cancel"}')
        frames, close = await viewer.rest()
        assert close.code == 4400
        codes = [frame["data"]["code"] for frame in frames if frame["type"] == "error"]
        assert codes[-1] == "too_many_messages"
    assert await backend.client.xlen(PREFIX + "42") <= 2


async def test_it_is_logged_who_asked_for_what(redis_server: Server, backend: Backend) -> None:
    await backend.publish("42")
    async with guarded(redis_server) as replica:
        with capture_logs() as lines:
            await post(replica, text=token("ann", cancel_operations=["42"]))
            await post(replica, text=token("bob"))
            await backend.finish("42")
            await post(replica, text=token("ann", cancel_operations=["42"]))
    told = [
        (line["operation"], line["user"], line["outcome"], line["way"])
        for line in lines
        if line["event"] == "cancel requested"
    ]
    assert told == [
        ("42", "ann", "requested", "http"),
        ("42", "bob", "forbidden", "http"),
        ("42", "ann", "already_ended", "http"),
    ]


async def test_a_request_outlives_the_replica_that_took_it(
    redis_server: Server, backend: Backend
) -> None:
    await backend.publish("42")
    async with Replica(redis_server.url, pod="pod-2") as two, two.watch("42") as viewer:
        await viewer.state()
        async with Replica(redis_server.url) as one:
            asked = (await post(one)).json()
        assert (await viewer.until(type="cancel_requested"))["id"] == asked["id"]
        assert (await post(two)).json() == {**asked, "repeated": True}


async def test_while_redis_is_away(redis_server: Server, backend: Backend) -> None:
    await backend.publish("42")
    redis = {"reply_timeout_s": 0.5}
    async with Replica(redis_server.url, redis=redis) as replica:
        await redis_server.kill()
        await until(lambda: not replica.feed.is_connected)
        response = await post(replica)
        assert (response.status_code, response.json()["code"]) == (503, "redis_unavailable")
        assert response.json()["retry"]
        assert replica.runtime._cancels.counts["failed"] == 1


async def test_many_users_are_remembered_and_not_too_many(redis_server: Server) -> None:
    async with Replica(redis_server.url) as replica:
        rates = replica.runtime._cancels._rates
        for n in range(rates._settings.users_max + 100):
            assert rates.take(f"user {n}", asyncio.get_running_loop().time())
        assert len(rates._buckets) == rates._settings.users_max
