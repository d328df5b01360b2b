"""Which operations are followed, for how long, and who is told to go."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from tests.gateway.fake_socket import FakeSocket
from tests.gateway.stage import OPERATION, Stage
from tests.harness.clock import START_S
from tidegate.core.connection_record import ConnectionKind, ConnectionRecord
from tidegate.core.records import Ask
from tidegate.gateway.hub import JOIN_PATIENCE_S
from tidegate.gateway.services import COMPLAINT_EVERY_S
from tidegate.gateway.viewer import ViewerState
from tidegate.model import close_codes
from tidegate.model.errors import Overloaded, RedisUnavailable, StreamUnusable
from tidegate.model.ids import OperationId
from tidegate.web.asgi_sender import ask_to_reconnect

ASK = Ask(None, 100)


# -- followed, kept, dropped


async def test_an_operation_is_followed_once_for_all_that_wait() -> None:
    async with Stage() as stage:
        ids = stage.redis.write_many("42", 3)
        stage.redis.hold = True
        waiting = [asyncio.create_task(stage.watch()) for _ in range(5)]
        await stage.rest()
        assert not stage.hub.join(OPERATION, FakeSocket(), ASK), "its first page is not here yet"
        assert stage.redis.attaches == 1
        stage.redis.hold = False
        stage.redis.arrive()
        for socket in await asyncio.gather(*waiting):
            assert socket.ids == ids
        assert stage.hub.stats().live == 5
        assert stage.redis.attaches == 1


async def test_watching_creates_no_stream() -> None:
    async with Stage() as stage:
        socket = await stage.watch()
        assert not stage.redis.stream("42").exists
        assert socket.frames[0] == {
            "type": "current_state",
            "operation": "42",
            "cursor": "0-0",
            "data": {"status": "unknown"},
            "history": {"sent": 0, "available": 0},
        }
        ids = stage.redis.write_many("42", 3)
        await stage.rest()
        assert socket.ids == ids


async def test_it_is_dropped_when_nobody_has_watched_for_the_linger() -> None:
    async with Stage(topic={"linger_s": 30}) as stage:
        for n in range(20):
            stage.redis.write_many(f"op-{n}", 50, pad=100)
        sockets = [await stage.watch(f"op-{n}") for n in range(20)]
        assert stage.hub.stats().ring_bytes > 50_000
        for socket in sockets:
            socket.vanish()
        await asyncio.sleep(29.9)
        assert stage.hub.stats().operations == 20
        await asyncio.sleep(0.2)
        stats = stage.hub.stats()
        assert (stats.operations, stats.ring_bytes, stats.outbox_items) == (0, 0, 0)
        assert stage.redis.watched == set()


async def test_who_comes_back_within_the_linger_finds_it_warm() -> None:
    async with Stage(topic={"linger_s": 30}) as stage:
        ids = stage.redis.write_many("42", 10)
        (await stage.watch()).vanish()
        await asyncio.sleep(29)
        ids.append(stage.redis.write("42"))
        await stage.rest()
        socket = await stage.watch(after=ids[4])
        assert socket.ids == ids[5:]
        assert (stage.redis.attaches, stage.redis.pages) == (1, 0)


async def test_a_linger_that_is_over_does_not_drop_who_came_since() -> None:
    async with Stage(topic={"linger_s": 30}) as stage:
        for _ in range(20):
            (await stage.watch()).vanish()
            await asyncio.sleep(1)
        socket = await stage.watch()
        await asyncio.sleep(60)  # all lingers are over
        new = stage.redis.write("42")
        await stage.rest()
        assert socket.ids == [new]
        assert stage.redis.attaches == 1


async def test_one_that_leaves_while_the_first_page_is_read_is_dropped_too() -> None:
    async with Stage(topic={"linger_s": 30}) as stage:
        stage.redis.hold = True
        waiting = asyncio.create_task(stage.hub.ready(OPERATION))
        await stage.rest()
        waiting.cancel()
        await asyncio.sleep(31)
        assert stage.hub.stats().operations == 0


async def test_the_bound_on_topics_is_kept() -> None:
    async with Stage(topic={"max_topics": 2, "linger_s": 0}) as stage:
        first = await stage.watch("a")
        await stage.watch("b")
        with pytest.raises(Overloaded, match=r"topic\.max_topics"):
            await stage.watch("c")
        await stage.watch("a")
        first.vanish()
        with pytest.raises(Overloaded):
            await stage.watch("c")
        stage.hub.disconnect(OperationId("a"), "")
        await asyncio.sleep(1)
        await stage.watch("c")


async def test_who_joins_while_redis_is_away_is_told_after_five_seconds() -> None:
    async with Stage() as stage:
        stage.redis.lose()
        began = asyncio.get_running_loop().time()
        with pytest.raises(RedisUnavailable, match="try again"):
            await stage.watch()
        assert asyncio.get_running_loop().time() - began == pytest.approx(JOIN_PATIENCE_S)
        waiting = asyncio.create_task(stage.watch())
        await asyncio.sleep(1)
        stage.redis.come_back()
        assert (await waiting).types == ["current_state"]


async def test_a_key_that_is_no_stream_refuses_who_waits_and_who_watches() -> None:
    async with Stage() as stage:
        stage.redis.spoil("7")
        with pytest.raises(StreamUnusable):
            await stage.watch("7")
        socket = await stage.watch()
        stage.redis.spoil("42")
        await stage.rest()
        assert socket.frames[-1]["data"] == {
            "code": "not_a_stream",
            "message": "holds no stream",
            "retry": False,
        }
        assert socket.end == close_codes.NOT_FOUND.name
        assert stage.hub.stats().operations == 0
        assert stage.redis.watched == set()


# -- told to go


async def test_disconnect_of_an_operation_closes_its_viewers_and_no_others() -> None:
    async with Stage() as stage:
        live, slow = await stage.watch(), await stage.watch(socket=FakeSocket(high=100, low=10))
        other = await stage.watch("7")
        for socket in (live, slow, other):
            socket.record = ConnectionRecord(ConnectionKind.WEBSOCKET, START_S)
        slow.stick()
        stage.redis.write_many("42", 5, pad=100)
        await stage.rest()
        assert stage.state_of(slow) is ViewerState.LAGGING
        unread = slow.unread
        stage.hub.disconnect(OPERATION, "maintenance")
        stage.hub.disconnect(OperationId("unknown"), "")
        await stage.rest()
        assert live.frames[-1]["data"] == {
            "code": "maintenance",
            "message": "disconnected by an administrator",
            "retry": False,
        }
        for socket in (live, slow):
            assert socket.end == close_codes.FORBIDDEN.name
            assert socket.record.reason == "maintenance"
        assert other.end == ""
        assert stage.hub.stats().live == 1
        assert slow.unread == unread, "it has no room for the reason"


async def test_one_that_is_sent_away_gets_nothing_more() -> None:
    async with Stage() as stage:
        going, staying = await stage.watch(), await stage.watch()
        first = stage.redis.write("42")
        await stage.rest()
        stage.redis.write("42")
        ask_to_reconnect(going, 1500)
        await stage.rest()
        assert going.types == ["current_state", "progress", "reconnect"]
        assert going.ids == [first]
        assert going.end == close_codes.DRAINING.name
        assert len(staying.ids) == 2
        assert stage.hub.stats().live == 1


@pytest.mark.parametrize("cancelled", [False, True])
async def test_an_end_in_the_middle_of_reads_leaves_no_task(cancelled: bool) -> None:
    async with Stage(topic={"ring_entries": 1}) as stage:
        ids = stage.redis.write_many("42", 300)
        await stage.watch()
        stage.redis.answers.clear()
        sockets = [await stage.watch(after=ids[0]) for _ in range(5)]
        assert stage.reading == 5
        for socket in sockets:
            ask_to_reconnect(socket, 100)
        if cancelled:
            stage.cancel_reads()
        else:
            stage.redis.answers.set()
        await stage.rest()
        assert stage.reading == 0
        for socket in sockets:
            assert socket.types == ["reconnect"]
            assert socket.end == close_codes.DRAINING.name


# -- what is told


async def test_malformed_entries_are_counted_always_and_logged_now_and_then() -> None:
    async with Stage() as stage:
        socket = await stage.watch()
        with structlog.testing.capture_logs() as logs:
            for _ in range(3):
                for _ in range(5):
                    stage.redis.stream("42").add(round(START_S * 1000), "{broken")
                    stage.redis.ring("42")
                await asyncio.sleep(COMPLAINT_EVERY_S / 2)
        assert socket.types[1:] == ["malformed"] * 15
        assert stage.hub.counters.malformed == 15
        warnings = [one for one in logs if one["log_level"] == "warning"]
        assert [one["operation"] for one in warnings] == ["42", "42"]


async def test_figures_of_what_is_held() -> None:
    async with Stage() as stage:
        assert stage.hub.stats() == (0, 0, 0, 0, 0, 0)
        live, slow = await stage.watch(), await stage.watch(socket=FakeSocket(high=100, low=10))
        await stage.watch("7")
        slow.stick()
        stage.redis.write_many("42", 5, pad=100)
        await stage.rest()
        stats = stage.hub.stats()
        assert (stats.operations, stats.live, stats.lagging, stats.catching_up) == (2, 2, 1, 0)
        live.vanish()
        slow.vanish()
        assert stage.hub.stats().live == 1
