"""Viewers that offer it are asked whether they have an entry; the pace, the bounds, and lies."""

from __future__ import annotations

import asyncio

import pytest

from tests.gateway.fake_socket import FakeSocket
from tests.gateway.stage import Stage
from tests.harness.viewer import Json
from tidegate.gateway import acks
from tidegate.gateway.viewer import ViewerState
from tidegate.model.ids import StreamId, parse_stream_id


def requests(socket: FakeSocket) -> list[Json]:
    return [frame for frame in socket.frames if frame["type"] == "ack_request"]


async def test_an_answer_is_measured_once() -> None:
    async with Stage(metrics={"acks_per_s": 10}) as stage:
        socket = await stage.watch(acks=True)
        entry_id = stage.redis.write("42")
        await stage.rest()
        assert socket.types == ["current_state", "progress", "ack_request"], "behind its entry"
        assert socket.frames[-1]["data"] == {"id": entry_id}
        await asyncio.sleep(0.2)  # what a person's screen takes
        stage.hub.acked(socket, StreamId(1, 1))  # another entry
        for _ in range(2):
            stage.hub.acked(socket, parse_stream_id(entry_id))
        assert stage.hub.acks.counts == {"asked": 1, "answered": 1, "unasked": 2}
        latency = stage.hub.acks.latency.histogram
        assert latency.count == 1
        assert latency.sum == pytest.approx(0.2, abs=0.002)


async def test_who_did_not_offer_it_is_never_asked() -> None:
    async with Stage(metrics={"acks_per_s": 1000}) as stage:
        socket = await stage.watch()
        for _ in range(50):
            stage.redis.write("42")
            await asyncio.sleep(1)
        assert requests(socket) == []
        stage.hub.acked(socket, StreamId(1, 1))
        stage.hub.acked(FakeSocket(), StreamId(1, 1))  # it has not even joined
        assert stage.hub.acks.counts == {"unasked": 2}


@pytest.mark.parametrize(("per_s", "asked"), [(0, 0), (0.1, 4), (2, 80)])
async def test_the_pace_is_bounded_over_all_viewers(per_s: float, asked: int) -> None:
    async with Stage(metrics={"acks_per_s": per_s}) as stage:
        sockets = [await stage.watch(acks=True) for _ in range(10)]
        for _ in range(400):
            entry_id = stage.redis.write("42")
            await asyncio.sleep(0.1)
            for socket in sockets:
                for request in requests(socket):
                    assert request["data"]["id"] == entry_id
                    stage.hub.acked(socket, parse_stream_id(entry_id))
                socket.take()
        assert stage.hub.acks.counts["asked"] == pytest.approx(asked, abs=1 + asked // 5)
        assert stage.hub.acks.counts["answered"] == stage.hub.acks.counts["asked"]


async def test_who_never_answers_has_one_open_request_and_is_forgotten() -> None:
    async with Stage(metrics={"acks_per_s": 10}) as stage:
        socket = await stage.watch(acks=True)
        for _ in range(30):
            stage.redis.write("42")
            await asyncio.sleep(1)
        assert len(requests(socket)) == 1
        await asyncio.sleep(acks.PATIENCE_S)
        stage.redis.write("42")
        await stage.rest()
        assert len(requests(socket)) == 2
        assert stage.hub.acks.counts == {"asked": 2, "unanswered": 1}
        socket.vanish()
        assert stage.hub.acks.counts == {"asked": 2, "unanswered": 2}
        assert stage.channel().ackers == set()
        assert not stage.hub.acks._open


async def test_so_many_may_be_open_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acks, "OPEN_MAX", 3)
    async with Stage(metrics={"acks_per_s": 10}) as stage:
        sockets = [await stage.watch(acks=True) for _ in range(5)]
        for _ in range(10):
            stage.redis.write("42")
            await asyncio.sleep(1)
        assert sum(len(requests(socket)) for socket in sockets) == 3


async def test_who_lags_is_not_asked() -> None:
    async with Stage(metrics={"acks_per_s": 10}) as stage:
        socket = await stage.watch(acks=True, socket=FakeSocket(high=500, low=100))
        reader = await stage.watch()
        socket.stick()
        stage.redis.write_many("42", 3, pad=300)
        await stage.rest()
        assert stage.state_of(socket) is ViewerState.LAGGING
        for _ in range(5):
            stage.redis.write("42")
            await asyncio.sleep(1)
        assert len(reader.ids) == 8
        assert stage.hub.acks.counts == {}


async def test_an_id_that_is_no_time_or_a_clock_that_is_not_known_is_no_figure() -> None:
    async with Stage(metrics={"acks_per_s": 10}) as stage:
        socket = await stage.watch(acks=True)
        stage.redis.stream("42").add(2**40)  # far in the future
        stage.redis.ring("42")
        await stage.rest()
        stage.hub.acked(socket, parse_stream_id(socket.frames[-1]["data"]["id"]))
        latency = stage.hub.acks.latency
        assert (latency.histogram.count, latency.not_a_time) == (0, 1)
        assert stage.hub.counters.latency.not_a_time == 1


async def test_deliveries_are_timed_for_each_viewer_by_the_clock_of_the_server() -> None:
    async with Stage() as stage:
        for _ in range(4):
            await stage.watch()
        stage.redis.hold = True
        stage.redis.write("42")
        await asyncio.sleep(3)  # the link stood still
        stage.redis.arrive()
        await stage.rest()
        latency = stage.hub.counters.latency.histogram
        assert latency.count == 4
        assert latency.sum == pytest.approx(12, abs=0.01)
