"""What is told of each connection at its end: in the log, bounded, and in its trace."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from tests.harness.backend import Backend
from tests.harness.plain_http import plain_client
from tests.harness.replica import Replica
from tests.harness.viewer import Viewer
from tests.harness.waiting import until
from tests.servers.standalone import Server
from tests.telemetry.collector import Collector, Seen
from tidegate.core.connection_record import VIEWER_LEFT, ConnectionKind, ConnectionRecord, Stage
from tidegate.model import close_codes
from tidegate.model.batch import text_frame
from tidegate.telemetry.connections import Connections
from tidegate.web.ws.protocol import PROTOCOL_ERROR

SECRET = "a secret of 32 bytes, or more....."


@pytest.fixture
def lines() -> Iterator[list[EventDict]]:
    with capture_logs() as captured:
        yield captured


async def ended(lines: list[EventDict], count: int = 1) -> list[EventDict]:
    """The first lines about ends of connections."""

    def found() -> list[EventDict]:
        return [line for line in lines if line["event"] == "connection ended"]

    await until(lambda: len(found()) >= count, f"{count} connections have ended")
    return found()


def token(user: str, ttl_s: float = 300.0) -> str:
    return jwt.encode({"sub": user, "exp": int(time.time() + ttl_s)}, SECRET, algorithm="HS256")


def guarded(server: Server, sender: str = "auto", **groups: Any) -> Replica:
    own: Any = {"server": {"auth": "jwt"}, "auth": {"secret": SECRET}, "source": {"kind": "none"}}
    return Replica(server.url, sender=sender, **own, **groups)


def tracing(collector: Collector, **more: Any) -> dict[str, Any]:
    # What waits for the collector ends when it has answered.
    quick = {"send_every_s": 0.02, "connection_ratio": 1.0, "timeout_s": 20, "flush_s": 20}
    return {"exporter": "otlp", "endpoint": collector.endpoint, **quick, **more}


# -- the line --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sender", ["direct", pytest.param("asgi", marks=pytest.mark.full)])
class TestWebSocket:
    """Over both ways to a socket."""

    async def test_a_viewer_that_leaves(
        self, redis_server: Server, backend: Backend, lines: list[EventDict], sender: str
    ) -> None:
        async with Replica(redis_server.url, sender=sender) as replica:
            async with replica.watch("42") as viewer:
                await viewer.state()
                await backend.publish("42")
                await viewer.entries(1)
            (line,) = await ended(lines)
        assert (
            line.items()
            >= {
                "kind": "ws",
                "code": 1000,
                "reason": VIEWER_LEFT,
                "operation": "42",
                "frames": 2,
                "log_level": "info",
            }.items()
        )
        texts = [json.dumps(frame, separators=(",", ":")) for frame in viewer.frames]
        assert line["bytes"] == sum(len(text_frame(text.encode())) for text in texts)
        assert 0 < line["duration_s"] < 20
        assert "trace_id" not in line

    async def test_one_that_vanishes(
        self, redis_server: Server, lines: list[EventDict], sender: str
    ) -> None:
        async with (
            Replica(redis_server.url, sender=sender) as replica,
            replica.watch("42") as viewer,
        ):
            await viewer.state()
            viewer.vanish()
            (line,) = await ended(lines)
        assert line["code"] in (1005, 1006)
        assert line["reason"] in (VIEWER_LEFT, "abnormal")

    async def test_an_operation_that_ends(
        self, redis_server: Server, backend: Backend, lines: list[EventDict], sender: str
    ) -> None:
        async with (
            Replica(redis_server.url, sender=sender) as replica,
            replica.watch("42") as viewer,
        ):
            await viewer.state()
            await backend.finish("42")
            await viewer.rest()
            (line,) = await ended(lines)
        assert (line["code"], line["reason"]) == (1000, "finished")

    async def test_a_drain(self, redis_server: Server, lines: list[EventDict], sender: str) -> None:
        async with (
            Replica(redis_server.url, sender=sender) as replica,
            replica.watch("42") as viewer,
        ):
            await viewer.state()
            await replica.stop()
        (line,) = await ended(lines)
        assert (line["code"], line["reason"]) == (1012, "draining")

    async def test_a_refusal_and_its_reason(
        self, redis_server: Server, lines: list[EventDict], sender: str
    ) -> None:
        async with guarded(redis_server, sender=sender) as replica:
            async with replica.watch("42") as viewer:
                await viewer.rest()
            (line,) = await ended(lines)
        assert (line["code"], line["reason"]) == (4401, "token_missing")
        assert line["frames"] == 0

    async def test_the_limit_of_a_user(
        self, redis_server: Server, lines: list[EventDict], sender: str
    ) -> None:
        options: Any = {"additional_headers": {"Authorization": f"Bearer {token('ann')}"}}
        async with (
            guarded(redis_server, sender=sender, slots={"limit": 1}) as replica,
            Viewer(replica.url("42"), **options) as one,
        ):
            await one.state()
            async with Viewer(replica.url("42"), **options) as two:
                await two.rest()
            (line,) = await ended(lines)
        assert (line["code"], line["reason"]) == (4429, "connection_limit")
        assert "ann" not in repr(lines)

    async def test_a_bad_path_is_not_repeated(
        self, redis_server: Server, lines: list[EventDict], sender: str
    ) -> None:
        async with Replica(redis_server.url, sender=sender) as replica:
            async with replica.watch("%0a%1b[2J", token="s3cr3t") as viewer:
                await viewer.rest()
            (line,) = await ended(lines)
        assert (line["code"], line["reason"]) == (4400, "bad_request")
        assert "operation" not in line
        assert "s3cr3t" not in repr(lines)
        assert "\x1b" not in repr(lines)

    async def test_a_multiplexed_socket_is_one(
        self, redis_server: Server, backend: Backend, lines: list[EventDict], sender: str
    ) -> None:
        await backend.publish("1")
        async with Replica(redis_server.url, sender=sender) as replica:
            url = f"ws://127.0.0.1:{replica.settings.server.port}/ws"
            viewer = Viewer(url)
            async with viewer:
                for name in ("1", "2"):
                    await viewer.say(json.dumps({"type": "watch", "operation": name}))
                for _ in range(3):  # two states and an entry
                    await viewer.socket.recv()
                await viewer.say(json.dumps({"type": "unwatch", "operation": "1"}))
                await viewer.socket.recv()
            (line,) = await ended(lines)
        assert (line["kind"], line["code"], line["frames"]) == ("multiplex", 1000, 3)
        assert "operation" not in line


@pytest.mark.parametrize(
    ("raw", "code", "reason"),
    [
        (b"\x81\x00", 1002, PROTOCOL_ERROR),  # a viewer's frame that is not masked
        (b"\xf1\x80\x00\x00\x00\x00", 1002, PROTOCOL_ERROR),  # reserved bits
        (b"\x81\xff" + (2**20).to_bytes(8, "big") + b"\x00" * 4, 1009, PROTOCOL_ERROR),
        (b"\x81\x82\x00\x00\x00\x00\xff\xfe", 1007, "invalid_data"),
        (b"\x89\x80\x00\x00\x00\x00" * 100, 4400, "bad_request"),  # more pings than allowed
        (b"\x88\x82\x00\x00\x00\x00" + (4999).to_bytes(2, "big"), 4999, VIEWER_LEFT),
        (b"\x88\x80\x00\x00\x00\x00", 1005, VIEWER_LEFT),
    ],
)
async def test_ends_that_a_viewer_brings_about(
    redis_server: Server, lines: list[EventDict], raw: bytes, code: int, reason: str
) -> None:
    async with Replica(redis_server.url) as replica:
        with await replica.raw("42") as viewer:
            await viewer.next_frames(type="current_state")
            await viewer.write(raw)
            await viewer.until_end()
        (line,) = await ended(lines)
    assert (line["code"], line["reason"]) == (code, reason)


async def test_one_that_answers_no_ping(redis_server: Server, lines: list[EventDict]) -> None:
    quick = {"ping_interval_s": 0.1, "ping_timeout_s": 0.1}
    async with Replica(redis_server.url, viewer=quick) as replica:
        with await replica.raw("42") as viewer:
            await viewer.until_end()
        (line,) = await ended(lines)
    assert (line["code"], line["reason"]) == (1011, "keepalive")


async def test_what_was_sent_is_counted_through_lag_and_catching_up(
    redis_server: Server, backend: Backend, lines: list[EventDict]
) -> None:
    """A viewer that stops reading, is caught up and goes live again; beside it one that reads."""
    settings = {"high_water_bytes": 2_048, "low_water_bytes": 512, "lagging_policy": "replay"}
    async with Replica(redis_server.url, viewer=settings) as replica:
        async with replica.watch("42") as fast:
            await fast.state()
            with await replica.raw("42", receive_buffer=4_096) as slow:
                await slow.next_frames(type="current_state")
                ids = await backend.publish_many("42", 400, pad=2_000)
                await fast.until_id(ids[-1])
                await until(lambda: replica.hub.stats().lagging == 1)
                await slow.next_frames(id=ids[-1])
                await until(lambda: replica.hub.stats().live == 2)
                ids = await backend.publish_many("42", 3)
                await fast.until_id(ids[-1])
                await slow.next_frames(id=ids[-1])
        one, two = await ended(lines, 2)
    assert one["frames"] == two["frames"] == 1 + 403
    assert one["bytes"] == two["bytes"] > 400 * 2_000


async def test_server_sent_events_and_polls(
    redis_server: Server, backend: Backend, lines: list[EventDict]
) -> None:
    entry_id = await backend.publish("42")
    # A poll that is held up would be told that its stream has expired, and not that there is none.
    async with Replica(redis_server.url, topic={"expired_grace_s": 60}) as replica:
        base = f"http://127.0.0.1:{replica.settings.server.port}"
        async with plain_client(base) as client:
            async with client.stream("GET", "/sse/operations/42") as response:
                async for text in response.aiter_text():
                    if entry_id in text:
                        break
            (line,) = await ended(lines)
            assert (
                line.items()
                >= {
                    "kind": "sse",
                    "reason": VIEWER_LEFT,
                    "operation": "42",
                    "frames": 2,
                }.items()
            )
            assert "code" not in line

            await client.get("/operations/42/events", params={"wait": 5})
            line = (await ended(lines, 2))[1]
            assert (
                line.items()
                >= {
                    "kind": "long_poll",
                    "reason": "answered",
                    "frames": 1,
                }.items()
            )

            missing = await client.get(
                "/operations/43/events", params={"wait": 0.05, "after": entry_id}
            )
            assert missing.status_code == 404
            line = (await ended(lines, 3))[2]
            assert (line["kind"], line["code"], line["reason"]) == ("long_poll", 4404, "no_stream")

            waiting = asyncio.create_task(
                client.get("/operations/42/events", params={"wait": 30, "after": entry_id})
            )
            await until(lambda: replica.viewers == 1)
            waiting.cancel()
            line = (await ended(lines, 4))[3]
            assert (line["kind"], line["reason"]) == ("long_poll", VIEWER_LEFT)


# -- the bound -------------------------------------------------------------------------------------


def an_end(
    connections: Connections, kind: ConnectionKind = ConnectionKind.WEBSOCKET, reason: str = ""
) -> None:
    record = connections.came(kind, ())
    record.closed(close_codes.DRAINING, reason)
    connections.left(record)


async def test_so_many_lines_a_second_and_then_a_count(lines: list[EventDict]) -> None:
    connections = Connections(5, None)
    for _ in range(1_000):
        an_end(connections)
    for _ in range(20):
        an_end(connections, reason="slow")
    an_end(connections, ConnectionKind.EVENT_STREAM)  # has a bound of its own
    assert [line["kind"] for line in lines] == ["ws"] * 5 + ["sse"]
    await until(lambda: len(lines) == 7, "the rest is summed up")
    assert lines[6] == {
        "event": "more connections ended",
        "log_level": "info",
        "kind": "ws",
        "suppressed": 1_015,
        "reasons": {"draining": 995, "slow": 20},
    }
    an_end(connections)  # the second is over
    assert lines[7]["event"] == "connection ended"


async def test_what_was_not_told_is_told_at_the_end(
    lines: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.telemetry.connections.COLLECT_S", 0.01)
    connections = Connections(1, None)
    for _ in range(3):
        an_end(connections)
    connections.close()
    assert [line.get("suppressed") for line in lines] == [None, 2]
    await asyncio.sleep(0.05)  # a count that was still to come would have come
    assert len(lines) == 2


async def test_none_at_all(lines: list[EventDict]) -> None:
    connections = Connections(0, None)
    an_end(connections)
    connections.close()
    assert lines == []


def test_the_end_that_is_named_first_counts() -> None:
    record = ConnectionRecord(ConnectionKind.WEBSOCKET, 0.0)
    record.closed(close_codes.SLOW)
    record.told(1000, VIEWER_LEFT)
    assert (record.code, record.reason) == (4408, "slow")
    poll = ConnectionRecord(ConnectionKind.LONG_POLL, 0.0)
    poll.told(0, "answered")
    poll.closed(close_codes.DRAINING)
    assert (poll.code, poll.reason) == (0, "answered")


# -- the trace -------------------------------------------------------------------------------------


async def connection(collector: Collector, count: int = 1) -> list[Seen]:
    return await asyncio.to_thread(collector.wait, "connection", count)


async def test_the_stages_of_a_viewer(
    redis_server: Server, backend: Backend, collector: Collector, lines: list[EventDict]
) -> None:
    await backend.publish_many("42", 3)
    async with (
        guarded(redis_server, tracing=tracing(collector)) as replica,
        Viewer(
            replica.url("42"), additional_headers={"Authorization": f"Bearer {token('ann')}"}
        ) as viewer,
    ):
        await viewer.state()
        await viewer.entries(3)
        await backend.finish("42")
        await viewer.rest()
        (root,) = await connection(collector)
        (line,) = await ended(lines)
    assert root.parent == ""
    assert root.attributes == {
        "tidegate.connection.kind": "ws",
        "tidegate.connection.code": 1000,
        "tidegate.connection.reason": "finished",
        "tidegate.connection.frames": 5,
        "tidegate.connection.bytes": line["bytes"],
        "tidegate.operation.id": "42",
    }
    assert line["trace_id"] == root.trace
    stages = [span for span in collector.spans if span.parent == root.id]
    assert [span.name for span in stages] == ["admission", "join", "replay"]
    assert {span.trace for span in stages} == {root.trace}
    times = [t for span in stages for t in (span.start_ns, span.end_ns)]
    assert [root.start_ns, *times, root.end_ns] == sorted([root.start_ns, *times, root.end_ns])
    for sent in collector.raw:
        assert b"ann" not in sent
        assert token("ann")[:20].encode() not in sent


async def test_a_refusal_is_an_admission_and_nothing_more(
    redis_server: Server, collector: Collector
) -> None:
    async with guarded(redis_server, tracing=tracing(collector)) as replica:
        async with replica.watch("42") as viewer:
            await viewer.rest()
        (root,) = await connection(collector)
    assert [span.name for span in collector.spans] == ["admission", "connection"]
    assert root.attributes["tidegate.connection.code"] == 4401
    assert root.attributes["tidegate.connection.reason"] == "token_missing"


async def test_each_operation_of_a_multiplexed_socket(
    redis_server: Server, collector: Collector
) -> None:
    async with Replica(redis_server.url, tracing=tracing(collector)) as replica:
        url = f"ws://127.0.0.1:{replica.settings.server.port}/ws"
        async with Viewer(url) as viewer:
            for name in ("1", "2"):
                await viewer.say(json.dumps({"type": "watch", "operation": name}))
                await viewer.socket.recv()
        (root,) = await connection(collector)
    stages = {
        (span.name, span.attributes.get("tidegate.operation.id"))
        for span in collector.spans
        if span.parent == root.id
    }
    both = {(name, operation) for name in ("join", "replay") for operation in ("1", "2")}
    assert stages == {("admission", None), *both}
    assert root.attributes["tidegate.connection.kind"] == "multiplex"


async def test_event_streams_and_polls_have_the_same_stages(
    redis_server: Server, backend: Backend, collector: Collector
) -> None:
    await backend.publish("42")
    async with Replica(redis_server.url, tracing=tracing(collector)) as replica:
        base = f"http://127.0.0.1:{replica.settings.server.port}"
        async with plain_client(base) as client:
            async with client.stream("GET", "/sse/operations/42") as response:
                async for _ in response.aiter_text():
                    break
            await connection(collector)
            await client.get("/operations/42/events", params={"wait": 5})
        sse, poll = await connection(collector, 2)
    assert sse.attributes["tidegate.connection.kind"] == "sse"
    assert poll.attributes["tidegate.connection.kind"] == "long_poll"
    names = [span.name for span in collector.spans if span.parent == sse.id]
    assert names == ["admission", "join", "replay"]


PARENT = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.mark.parametrize(
    ("ratio", "trusting", "header", "traced"),
    [
        (0.0, True, PARENT, "continued"),
        (1.0, True, PARENT[:-1] + "0", "not"),  # obeyed: its flag says no
        (1.0, True, "junk", "anew"),
        (0.0, True, "junk", "not"),
        (0.0, False, PARENT, "not"),  # anybody could have all their connections traced
        (1.0, False, PARENT, "anew"),
        (0.0, False, "", "not"),
    ],
)
async def test_who_is_sampled(
    redis_server: Server,
    collector: Collector,
    lines: list[EventDict],
    ratio: float,
    trusting: bool,
    header: str,
    traced: str,
) -> None:
    settings = tracing(collector, connection_ratio=ratio, trust_requests=trusting)
    headers = {"traceparent": header} if header else {}
    async with Replica(redis_server.url, tracing=settings) as replica:
        async with Viewer(replica.url("42"), additional_headers=headers) as viewer:
            await viewer.state()
        (line,) = await ended(lines)
    if traced == "not":
        assert collector.spans == []
        assert "trace_id" not in line
        return
    (root,) = collector.named("connection")
    assert line["trace_id"] == root.trace
    expected = ("a" * 32, "b" * 16) if traced == "continued" else (root.trace, "")
    assert (root.trace, root.parent) == expected
    assert (root.trace == "a" * 32) is (traced == "continued")


async def test_a_ratio_is_a_share(redis_server: Server, collector: Collector) -> None:
    async with Replica(
        redis_server.url, tracing=tracing(collector, connection_ratio=0.25)
    ) as replica:
        spans = replica.runtime._tracing
        assert spans is not None
        begun = [spans.connections.begin(ConnectionKind.WEBSOCKET, ()) for _ in range(4_000)]
    # 1,000 expected, with a standard deviation of 27.
    assert 800 < sum(trace is not None for trace in begun) < 1_200


async def test_a_stage_is_not_gone_back_to(redis_server: Server, collector: Collector) -> None:
    async with Replica(redis_server.url, tracing=tracing(collector)) as replica:
        spans = replica.runtime._tracing
        assert spans is not None
        trace = spans.connections.begin(ConnectionKind.WEBSOCKET, ())
        assert trace is not None
        for stage in (Stage.ADMISSION, Stage.JOIN, Stage.LIVE, Stage.REPLAY, Stage.JOIN):
            trace.enter(stage)
        trace.end()
        trace.end()
        trace.finish(ConnectionRecord(ConnectionKind.WEBSOCKET, 0.0))
    assert [span.name for span in collector.spans] == ["admission", "join", "connection"]
