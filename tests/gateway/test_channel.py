"""Live viewers of one operation: what is sent to them, in which writes, and what Redis' absence
changes.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.gateway.fake_socket import FakeSocket
from tests.gateway.stage import OPERATION, Stage
from tidegate.core.connection_record import ConnectionKind, ConnectionRecord
from tidegate.gateway.hub import unstored_frame
from tidegate.gateway.outbox import ITEM_MAX_BYTES
from tidegate.gateway.viewer import ViewerState
from tidegate.model.ids import parse_stream_id


async def test_all_viewers_get_each_entry_once_and_in_order() -> None:
    async with Stage() as stage:
        sockets = [await stage.watch() for _ in range(7)]
        ids = stage.redis.write_many("42", 50)
        await stage.rest()
        assert [socket.ids for socket in sockets] == [ids] * 7
        assert [socket.frames for socket in sockets] == [sockets[0].frames] * 7


async def test_what_arrives_together_is_one_write_for_each_viewer() -> None:
    async with Stage() as stage:
        socket = await stage.watch()
        before = socket.writes
        stage.redis.write_many("42", 50)
        await stage.rest()
        assert socket.writes - before == 1
        assert stage.hub.counters.deliveries == 50


async def test_a_joined_write_is_bounded() -> None:
    async with Stage() as stage:
        socket = await stage.watch()
        before = socket.writes
        stage.redis.write_many("42", 400, pad=1000)
        await stage.rest()
        assert len(socket.ids) == 400
        size = stage.hub.counters.bytes_sent
        assert socket.writes - before == pytest.approx(size / ITEM_MAX_BYTES, abs=1)


async def test_one_that_joins_during_a_pass_gets_each_entry_once() -> None:
    """More viewers than one turn writes to: the pass is in the middle when others come."""
    async with Stage() as stage:
        sockets = [await stage.watch() for _ in range(700)]
        stage.redis.hold = True
        ids = stage.redis.write_many("42", 3)
        stage.redis.arrive()
        assert sum(len(socket.ids) == 3 for socket in sockets) == 500
        late = stage.watch_now(after=ids[0])
        ids += stage.redis.write_many("42", 2)
        stage.redis.arrive()
        later = stage.watch_now(history=1)
        ids += stage.redis.write_many("42", 2)
        stage.redis.arrive()
        assert stage.channel().outbox.has_more
        await stage.rest()
        assert all(socket.ids == ids for socket in sockets)
        assert late.ids == ids[1:]
        assert later.ids == ids[-3:]


async def test_one_that_leaves_during_a_pass_and_comes_back_gets_each_entry_once() -> None:
    async with Stage() as stage:
        sockets = [await stage.watch() for _ in range(700)]
        stage.redis.hold = True
        ids = stage.redis.write_many("42", 3)
        stage.redis.arrive()
        waiting = sockets[-1]
        waiting.vanish()
        again = stage.watch_now(history=0)
        ids += stage.redis.write_many("42", 2)
        stage.redis.arrive()
        await stage.rest()
        assert (waiting.ids, again.ids) == ([], ids[3:])


async def test_one_that_falls_behind_during_a_pass_gets_each_entry_once() -> None:
    async with Stage(viewer={"lagging_policy": "replay"}) as stage:
        sockets = [await stage.watch(socket=FakeSocket(high=3000, low=10)) for _ in range(600)]
        stage.redis.hold = True
        sockets[0].stick()  # it is written to in the first turn
        sockets[-1].stick()  # and it in the second
        ids = stage.redis.write_many("42", 5, pad=300)
        stage.redis.arrive()
        ids += stage.redis.write_many("42", 5, pad=300)
        stage.redis.arrive()
        await stage.rest()
        ids += stage.redis.write_many("42", 5, pad=300)
        stage.redis.arrive()
        await stage.rest()
        for socket in (sockets[0], sockets[-1]):
            assert stage.state_of(socket) is ViewerState.LAGGING
            socket.read()
        await stage.rest()
        assert all(socket.ids == ids for socket in sockets)


async def test_the_slow_viewer_holds_up_nobody_and_costs_the_same_however_long() -> None:
    async with Stage() as stage:
        reader, slow = await stage.watch(), await stage.watch()
        slow.stick()
        for _ in range(10):
            stage.redis.write_many("42", 100, pad=1000)
            await stage.rest()
        assert stage.state_of(slow) is ViewerState.LAGGING
        held, pauses = slow.unread, slow.pauses
        assert held <= 65_536 + ITEM_MAX_BYTES + 1200
        for _ in range(10):
            stage.redis.write_many("42", 100, pad=1000, type_="log")
            await stage.rest()
        assert (slow.unread, slow.pauses, stage.reading) == (held, pauses, 0)
        assert stage.channel().stats().outbox == 0
        assert len(reader.ids) == 2000
        assert stage.redis.pages == 0


async def test_a_socket_that_broke_unseen_leaves_and_holds_up_nobody() -> None:
    async with Stage() as stage:
        sockets = [await stage.watch() for _ in range(5)]
        sockets[2].break_off()
        ids = stage.redis.write_many("42", 3)
        await stage.rest()
        assert [len(socket.ids) for socket in sockets] == [3, 3, 0, 3, 3]
        assert stage.hub.stats().live == 4
        assert sockets[4].ids == ids


async def test_what_a_viewer_was_written_is_told_when_it_leaves() -> None:
    async with Stage(viewer={"lagging_policy": "replay"}) as stage:
        records = []
        history = stage.redis.write_many("42", 5)
        for _ in range(3):
            socket = FakeSocket(high=5000, low=100)
            socket.record = ConnectionRecord(ConnectionKind.WEBSOCKET, 0.0)
            records.append((await stage.watch(socket=socket), socket.record))
        stage.redis.write_many("42", 5)
        await stage.rest()
        lagging, _ = records[1]
        lagging.stick()
        stage.redis.write_many("42", 10, pad=1000)
        await stage.rest()
        lagging.read()
        await stage.rest()
        for socket, record in records:
            socket.vanish()
            assert record.frames == len(socket.frames) == 1 + len(history) + 15
        assert len({record.size_bytes for _, record in records}) == 1


# -- Redis away and back


async def test_viewers_are_told_once_that_redis_is_away_and_once_that_it_is_back() -> None:
    async with Stage() as stage:
        first = stage.redis.write("42")
        socket = await stage.watch()
        stage.redis.lose()
        for listener in tuple(stage.redis._listeners.values()):
            listener.on_detached()  # a second attempt has failed, too
        await asyncio.sleep(60)
        missed = [stage.redis.quietly("42") for _ in range(3)]
        stage.redis.come_back()
        await stage.rest()
        assert socket.types == ["current_state", "progress", "stale", "live", *["progress"] * 3]
        assert socket.ids == [first, *missed]
        assert socket.frames[2]["data"].keys() == {"since"}
        assert stage.hub.counters.repaired_entries == 3


async def test_who_joins_while_redis_is_away_is_told_so() -> None:
    async with Stage() as stage:
        ids = stage.redis.write_many("42", 3)
        first = await stage.watch()
        stage.redis.lose()
        late = await stage.watch()
        assert late.types == ["current_state", "stale", *["progress"] * 3]
        stage.redis.come_back()
        await stage.rest()
        ids.append(stage.redis.write("42"))
        await stage.rest()
        for socket in (first, late):
            assert socket.ids == ids
            assert socket.types.count("stale") == socket.types.count("live") == 1


@pytest.mark.parametrize("behind", ["when it goes", "when it comes back", "all the while"])
async def test_who_lags_when_redis_goes_or_comes_back_is_told_once_it_has_caught_up(
    behind: str,
) -> None:
    """It stayed stale for ever, or was told that Redis is back without having missed it."""
    async with Stage() as stage:
        slow = await stage.watch(socket=FakeSocket(high=100, low=10))

        async def fall_behind() -> None:
            slow.stick()
            stage.redis.write_many("42", 5, pad=100)
            await stage.rest()
            assert stage.state_of(slow) is ViewerState.LAGGING

        if behind != "when it comes back":
            await fall_behind()
        stage.redis.lose()
        await stage.rest()
        if behind == "when it goes":
            slow.read()
            await stage.rest()
            assert slow.types[-1] == "stale"
        if behind == "when it comes back":
            assert slow.types[-1] == "stale"
            slow.stick()
            large = unstored_frame(OPERATION, b'{"type":"log","data":{"pad":"%s"}}' % (b"x" * 200))
            stage.hub.say_unstored(OPERATION, large)
            await stage.rest()
            assert stage.state_of(slow) is ViewerState.LAGGING
        stage.redis.come_back()
        await stage.rest()
        slow.read()
        await stage.rest()
        assert stage.state_of(slow) is ViewerState.LIVE
        told = [kind for kind in slow.types if kind in ("stale", "live")]
        assert told == ([] if behind == "all the while" else ["stale", "live"])


async def test_a_lost_link_before_the_first_page_is_told_to_nobody() -> None:
    async with Stage() as stage:
        stage.redis.hold = True
        waiting = asyncio.create_task(stage.watch())
        await stage.rest()
        stage.redis.lose()
        stage.redis.hold = False
        stage.redis.come_back()
        assert (await waiting).types == ["current_state"]


@pytest.mark.parametrize("missed", ["relay", "wake-up"])
async def test_what_the_link_lost_is_read_from_the_stream(missed: str) -> None:
    async with Stage() as stage:
        socket = await stage.watch()
        ids = stage.redis.write_many("42", 2)
        await stage.rest()
        ids += [stage.redis.quietly("42") for _ in range(3)]
        if missed == "relay":
            stage.redis.lose_relay("42")
            ids.append(stage.redis.write("42"))
        else:
            stage.redis.lose_relay("42")
            stage.redis.ring("42")  # the sweep: it learns of the last id only
        await stage.rest()
        assert socket.ids == ids
        assert socket.gaps == []
        # From the last entry delivered, which shows that it is still the same log.
        assert stage.redis.reads == [parse_stream_id(ids[1]).before()]


@pytest.mark.parametrize("lower", [False, True])
async def test_a_stream_made_anew_is_announced_to_live_viewers(lower: bool) -> None:
    async with Stage() as stage:
        old = stage.redis.write_many("42", 5)
        socket = await stage.watch()
        stage.redis.stream("42").delete()
        if lower:
            new = str(stage.redis.stream("42").add(5, '{"type":"log"}').id)
            stage.redis.ring("42")
        else:
            await asyncio.sleep(1)
            new = stage.redis.write("42")
        await stage.rest()
        (gap,) = socket.gaps
        assert gap["after"] == old[-1]
        assert gap["reason"] in ("recreated", "rewound")
        assert socket.ids == [*old, new]
        assert stage.hub.counters.gaps.total() == 1


async def test_what_was_trimmed_before_it_was_read_is_announced() -> None:
    async with Stage() as stage:
        ids = stage.redis.write_many("42", 2)
        socket = await stage.watch()
        ids += [stage.redis.quietly("42") for _ in range(10)]
        stage.redis.lose_relay("42")
        stage.redis.trim("42", 3)
        stage.redis.ring("42")
        await stage.rest()
        assert socket.gaps == [{"after": ids[1], "before": ids[9], "reason": "trimmed"}]
        assert socket.ids == ids[:2] + ids[9:]


async def test_what_is_in_no_stream_reaches_those_who_are_not_behind() -> None:
    async with Stage() as stage:
        live, slow = await stage.watch(), await stage.watch(socket=FakeSocket(high=100, low=10))
        slow.stick()
        stage.redis.write_many("42", 3, pad=100)
        await stage.rest()
        note = unstored_frame(OPERATION, b'{"type":"note","data":{"n":1}}')
        assert stage.hub.say_unstored(OPERATION, note) == 1
        await stage.rest()
        frame = dict(live.frames[-1])
        assert frame.pop("timestamp")
        assert frame == {"operation": "42", "type": "note", "data": {"n": 1}}
        slow.read()
        await stage.rest()
        assert "note" not in slow.types
