"""The viewer against real replicas, and against refusals at chosen moments."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import Any

import jwt
import pytest

import tidegate
from tests.cli.fake_gateway import FakeGateway, Refusal
from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.harness.viewer import OrderCheck
from tests.harness.waiting import until
from tests.servers.ports import free_port
from tests.servers.standalone import Server
from tidegate import AsyncPublisher, TidegateError, Viewer
from tidegate.model.errors import (
    GatewayUnreachable,
    InvalidInput,
    OperationExpired,
    OperationNotFound,
    SignInRequired,
    TooManyConnections,
    ViewerRefused,
    WatchForbidden,
)

SECRET = "k" * 32


def base(replica: Replica) -> str:
    return f"http://127.0.0.1:{replica.settings.server.port}"


async def test_from_the_first_entry_to_the_last(redis_server: Server) -> None:
    async with (
        Replica(redis_server.url) as replica,
        AsyncPublisher(redis_server.url) as publisher,
        Viewer("42", base(replica)) as viewer,
    ):
        first = await anext(viewer)
        assert (first.type, first.id, viewer.status) == ("current_state", None, "unknown")
        async with publisher.operation("42", title="Import") as operation:
            await operation.publish("log", {"line": "x"})
        frames = [frame async for frame in viewer]

    assert [frame.type for frame in frames] == ["operation_started", "log", "operation_completed"]
    assert frames[1].data == {"line": "x"}
    assert frames[1].raw["operation"] == "42"
    assert viewer.finished
    assert (viewer.status, viewer.cursor, viewer.reconnects) == ("completed", frames[-1].id, 0)


async def test_a_viewer_asks_the_worker_to_stop(redis_server: Server) -> None:
    dead = f"ws://127.0.0.1:{free_port()}"
    async with (
        Replica(redis_server.url) as replica,
        AsyncPublisher(redis_server.url) as publisher,
        Viewer("42", [dead, base(replica)]) as viewer,
    ):
        with pytest.raises(OperationNotFound):
            await viewer.cancel()
        await publisher.progress("42", 0.5)
        asked = await viewer.cancel()
        assert not asked.repeated
        assert await viewer.cancel() == (asked.id, True)
        async for frame in viewer:
            if frame.id == asked.id:
                break
        assert viewer.status == "cancelling"
        await publisher.cancelled("42")
        with pytest.raises(ViewerRefused) as refused:
            await viewer.cancel()
        assert refused.value.code == 409


async def test_a_viewer_that_may_not_cancel_is_told_so(redis_server: Server) -> None:
    settings: dict[str, Any] = {
        "server": {"auth": "jwt"},
        "auth": {"secret": SECRET},
        "source": {"kind": "claims"},
    }
    claims = {"sub": "alice", "operations": ["*"], "exp": int(time.time()) + 600}
    token = jwt.encode(claims, SECRET)
    async with Replica(redis_server.url, **settings) as replica:
        with pytest.raises(SignInRequired):
            await Viewer("42", base(replica)).cancel()
        with pytest.raises(ViewerRefused, match="cancel") as refused:
            await Viewer("42", base(replica), token=lambda: token).cancel()
        assert refused.value.code == 403


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n[]", None),
        (b"HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\n{\xff}\x00", ViewerRefused),
        (b"HTTP/1.1 400 No\r\n\r\n" + b"x" * 1_000_000, ViewerRefused),
        (b"no HTTP at all\r\n\r\n", GatewayUnreachable),
        (b"", GatewayUnreachable),
    ],
)
async def test_whatever_answers_a_request_to_cancel(
    answer: bytes, error: type[TidegateError] | None
) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(say, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        viewer = Viewer("42", f"http://127.0.0.1:{port}")
        if error is None:
            assert await viewer.cancel() == ("", False)
        else:
            with pytest.raises(error):
                await viewer.cancel()


@pytest.mark.parametrize(
    "fields",
    [
        {"message": b'{"data":{"x":"%b","status":"failed"}}' % (b"x" * 300_000)},
        {"message": b'{"type":"operation_failed","data":{"f":"\\udcff","n":NaN,"t":"caf\xc3"}}'},
        {"status": b"failed", "blob": b"x" * 400_000},
    ],
    ids=["large", "odd", "large fields"],
)
async def test_a_last_entry_that_is_hard_to_read_is_the_end(
    redis_server: Server, backend: Backend, fields: dict[str, bytes]
) -> None:
    async with Replica(redis_server.url) as replica, Viewer("42", base(replica)) as viewer:
        await anext(viewer)
        entry = await backend.add("42", dict(fields))
        (frame,) = [frame async for frame in viewer]
    assert (frame.id, viewer.status, viewer.finished) == (entry, "failed", True)
    assert frame.data["truncated"] is True


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
async def test_result(redis_server: Server, backend: Backend, end: str) -> None:
    await backend.finish("42", end)
    async with Replica(redis_server.url) as replica, Viewer("42", base(replica)) as viewer:
        assert await viewer.result() == end


async def test_replicas_come_and_go_and_nothing_is_lost(
    redis_server: Server, backend: Backend
) -> None:
    """Rolling restarts while entries are written: each once, in order, no gap."""
    drain = {"delay_s": 0, "window_s": 0, "jitter_s": 0.05}
    ids: list[str] = []
    seen: list[str] = []
    order = OrderCheck()
    async with (
        Replica(redis_server.url, drain=drain) as first,
        Replica(redis_server.url, pod="pod-2", drain=drain) as second,
        Viewer("42", [base(first), base(second)]) as viewer,
    ):

        async def watch() -> None:
            async for frame in viewer:
                order.see(dict(frame.raw))
                assert frame.type not in ("gap", "reconnect", "error")
                if frame.id is not None:
                    seen.append(frame.id)

        watching = asyncio.create_task(watch())
        for number in range(6):
            ids += await backend.publish_many("42", 50, start=50 * number, type_="log")
            replica = (first, second)[number % 2]
            await replica.stop()
            ids += await backend.publish_many("42", 5, type_="log")
            await replica.start()
        ids.append(await backend.finish("42"))
        async with asyncio.timeout(20):
            await watching
    assert seen == ids
    assert viewer.reconnects >= 2
    assert viewer.status == "completed"


async def test_it_goes_on_after_an_entry(redis_server: Server, backend: Backend) -> None:
    ids = await backend.publish_many("42", 10)
    async with Replica(redis_server.url) as replica:
        async with Viewer("42", base(replica), last_event_id=ids[6]) as viewer:
            await anext(viewer)
            assert [(await anext(viewer)).id for _ in range(3)] == ids[7:]
            assert viewer.cursor == ids[-1]
        async with Viewer("42", base(replica), history=2) as viewer:
            await anext(viewer)
            assert [(await anext(viewer)).id for _ in range(2)] == ids[8:]
    await backend.trim("42", 2)
    async with (
        Replica(redis_server.url) as replica,
        Viewer("42", base(replica), last_event_id=ids[0]) as viewer,
    ):
        await anext(viewer)
        gap = await anext(viewer)
        assert (gap.type, gap.data["reason"]) == ("gap", "trimmed")


async def test_a_reader_that_is_slow_holds_up_itself_only(
    redis_server: Server, backend: Backend
) -> None:
    async with Replica(redis_server.url) as replica, Viewer("42", base(replica)) as viewer:
        await anext(viewer)
        ids = await backend.publish_many("42", 600, pad=20_000, type_="log")
        await until(lambda: bool(replica.hub.stats().lagging), "it lags")
        await backend.finish("42")
        seen = [frame.id async for frame in viewer if frame.type == "log"]
    assert seen == ids


# --- tokens


def token(*, user: str = "ann", left_s: float = 60) -> str:
    return jwt.encode({"sub": user, "exp": time.time() + left_s}, SECRET, algorithm="HS256")


async def test_tokens(redis_server: Server, backend: Backend) -> None:
    async with Replica(
        redis_server.url,
        server={"auth": "jwt"},
        auth={"secret": SECRET, "leeway_s": 0},
        source={"kind": "none"},
        slots={"limit": 1},
    ) as replica:
        for bad in (None, "no.token.at-all", token(left_s=-5)):
            async with Viewer("42", base(replica), token=bad) as viewer:
                with pytest.raises(SignInRequired) as refused:
                    await anext(viewer)
                assert refused.value.code in (401, 4401)

        async with Viewer("42", base(replica), token=token()) as viewer:
            await anext(viewer)
            async with Viewer("42", base(replica), token=token()) as second:
                with pytest.raises(TooManyConnections):
                    await anext(second)

        given: list[str] = []

        async def renew() -> str:
            # Long enough that it has not expired before the gateway sees it: that would be refused.
            given.append(token(user="bob", left_s=3))
            return given[-1]

        async with Viewer("42", base(replica), token=renew) as viewer:
            watching = asyncio.create_task(viewer.result())
            await until(lambda: len(given) >= 3, "two tokens have expired")
            await backend.finish("42")
            assert await watching == "completed"


# --- refusals


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (4400, ViewerRefused),
        (4401, SignInRequired),
        (4403, WatchForbidden),
        (4404, OperationNotFound),
        (4410, OperationExpired),
        (4429, TooManyConnections),
    ],
)
async def test_refusals_have_types(code: int, kind: type[ViewerRefused]) -> None:
    error = {"type": "error", "data": {"code": "x", "message": "words", "retry": False}}
    async with FakeGateway() as gateway, Viewer("42", gateway.urls) as viewer:
        gateway.replicas[0].refusals.append(Refusal(close=code, frames=(error,)))
        with pytest.raises(kind, match="words") as refused:
            await anext(viewer)
        assert type(refused.value) is kind
        assert refused.value.code == code
        assert isinstance(refused.value, TidegateError)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, SignInRequired), (403, WatchForbidden), (404, OperationNotFound), (400, ViewerRefused)],
)
async def test_refused_handshakes(status: int, kind: type[ViewerRefused]) -> None:
    async with FakeGateway() as gateway, Viewer("42", gateway.urls) as viewer:
        gateway.replicas[0].refusals.append(Refusal(http_status=status, reason="no"))
        with pytest.raises(kind) as refused:
            await viewer.result()
        assert refused.value.code == status


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (302, {"Location": "https://login.example.com/"}),  # a proxy that wants people to sign in
        (302, {"Location": "ws://["}),
        (503, {"Retry-After": "\xb2"}),  # a digit, says str.isdigit
        (503, {"Retry-After": "9" * 400}),
        (503, {"Retry-After": "Fri, 27 Nov 2026 05:00:00 GMT"}),
    ],
)
async def test_odd_answers_are_no_answer(status: int, headers: dict[str, str]) -> None:
    async with FakeGateway() as gateway, Viewer("42", gateway.urls, patience_s=0.3) as viewer:
        odd = Refusal(http_status=status, headers=headers)
        gateway.replicas[0].refusals += [odd] * 50
        with pytest.raises(GatewayUnreachable):
            await anext(viewer)


async def test_nobody_answers() -> None:
    urls = [f"ws://127.0.0.1:{free_port()}" for _ in range(2)]
    async with Viewer("42", urls, patience_s=0.3) as viewer:
        with pytest.raises(GatewayUnreachable):
            await anext(viewer)


async def test_what_cannot_be(redis_server: Server) -> None:
    wrong: list[dict[str, Any]] = [
        {"operation": "4*2"},
        {"operation": "42", "urls": "ftp://h"},
        {"operation": "42", "last_event_id": "x"},
        {"operation": "42", "history": "some"},
        {"operation": "42", "history": -1},
        {"operation": "42", "urls": []},
    ]
    for arguments in wrong:
        with pytest.raises(InvalidInput):
            Viewer(**arguments)


async def test_leaving_early_closes_the_connection(redis_server: Server) -> None:
    async with Replica(redis_server.url) as replica:
        async with Viewer("42", base(replica)) as viewer:
            await anext(viewer)
            assert replica.viewers == 1
        await until(lambda: not replica.viewers)
        await viewer.close()
        assert [frame async for frame in viewer] == []


def test_the_names_are_there_when_they_are_asked_for() -> None:
    program = (
        "import sys, tidegate; assert 'redis' not in sys.modules;"
        "tidegate.Viewer; tidegate.Publisher; tidegate.AsyncPublisher"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    with pytest.raises(AttributeError):
        getattr(tidegate, "Nothing")  # noqa: B009 - mypy knows that it is not there


async def test_an_entry_of_the_type_ack_request_was_taken_for_ours(
    redis_server: Server, backend: Backend
) -> None:
    async with Replica(redis_server.url) as replica:
        types = ("ack_request", "current_state", "pong", "gap")
        ids = [await backend.publish("42", type_, id="1-1") for type_ in types]
        ids.append(await backend.finish("42"))
        async with Viewer("42", base(replica)) as viewer:
            got = [(frame.id, frame.type) async for frame in viewer if frame.id is not None]
        assert got == list(zip(ids, (*types, "operation_completed"), strict=True))
