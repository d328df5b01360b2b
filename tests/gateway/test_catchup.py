"""The way of one viewer from its cursor to the live frames: first frames, pages, gaps, and what a
lagging one is given.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.gateway.fake_socket import FakeSocket
from tests.gateway.stage import Stage
from tests.harness.viewer import Json
from tidegate.gateway.catchup import RETRY_MAX_S, RETRY_MIN_S, WRITE_MAX_BYTES
from tidegate.gateway.viewer import ViewerState
from tidegate.model import close_codes
from tidegate.model.batch import Batch
from tidegate.model.frames import Frame, FrameKind, GapReason
from tidegate.model.ids import ZERO

SMALL_RING = {"ring_entries": 10}


def history_of(socket: FakeSocket) -> Json:
    found: Json = socket.frames[0]["history"]
    return found


# -- the first frames


async def test_the_first_frame_tells_state_and_cursor() -> None:
    async with Stage() as stage:
        stage.redis.write("42", "operation_started", status="starting")
        last = stage.redis.write("42", value=1)
        socket = await stage.watch(history=0)
        assert socket.frames == [
            {
                "type": "current_state",
                "operation": "42",
                "cursor": last,
                "at": last,
                "data": {"status": "starting"},
                "history": {"sent": 0, "available": 2},
            }
        ]


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize(("asked", "sent"), [(7, 7), (0, 0), (600, 600), (700, 650), (None, 650)])
async def test_a_viewer_gets_the_history_it_asks_for(
    warm: bool, asked: int | None, sent: int
) -> None:
    async with Stage() as stage:
        ids = stage.redis.write_many("42", 650)
        if warm:
            await stage.watch()
        socket = await stage.watch(history=asked)
        assert history_of(socket) == {"sent": sent, "available": 650}
        assert socket.frames[0]["cursor"] == ("0-0" if sent == 650 else ids[-sent - 1])
        new = stage.redis.write("42")
        await stage.rest()
        assert socket.ids == [*ids[650 - sent :], new]


async def test_history_that_is_in_the_ring_is_one_write_and_no_read() -> None:
    async with Stage() as stage:
        stage.redis.write_many("42", 100)
        socket = await stage.watch()
        assert socket.writes == 1
        assert stage.redis.pages == 0


@pytest.mark.parametrize("behind", [0, 1, 50, 150, 254, 255, 256, 257, 258, 650])
async def test_a_viewer_comes_back_from_anywhere(behind: int) -> None:
    """From the ring (256 entries) and from the log, and at the seam between them."""
    async with Stage() as stage:
        ids = stage.redis.write_many("42", 300)
        await stage.watch()
        ids += stage.redis.write_many("42", 400)
        await stage.rest()
        cursor = ids[-1 - behind]
        stage.redis.pages = 0
        socket = await stage.watch(after=cursor)
        assert socket.frames[0]["cursor"] == cursor
        ids.append(stage.redis.write("42"))
        await stage.rest()
        assert socket.ids == ids[-behind - 1 :]
        assert (stage.redis.pages == 0) is (behind <= 256)


async def test_the_cursor_of_the_first_frame_misses_nothing() -> None:
    for count in (0, 250):
        async with Stage() as one, Stage() as other:
            one.redis.write_many("42", count)
            first = await one.watch()
            first.vanish()
            ids = one.redis.write_many("42", 3)
            other.redis._streams = one.redis._streams  # another replica of the same gateway
            socket = await other.watch(after=first.frames[0]["cursor"])
            assert socket.ids == [*first.ids, *ids]
            assert socket.gaps == []


async def test_late_viewers_join_while_a_page_is_read_and_entries_pour_in() -> None:
    async with Stage(topic=SMALL_RING, page_entries=50) as stage:
        ids = stage.redis.write_many("42", 300)
        await stage.watch()
        sockets = []
        for _ in range(5):
            stage.redis.answers.clear()
            sockets.append(await stage.watch(history=None))
            ids += stage.redis.write_many("42", 40)
            stage.redis.answers.set()
            await asyncio.sleep(0)
            ids += stage.redis.write_many("42", 40)
        await stage.rest()
        assert all(socket.ids == ids for socket in sockets)
        assert stage.hub.stats().live == 6


async def test_viewers_that_join_for_their_history_are_counted() -> None:
    async with Stage() as stage:
        stage.redis.write_many("42", 30)
        await stage.watch()
        await stage.watch(history=3)
        counters = stage.hub.counters
        assert (counters.joins, counters.replayed_entries) == (2, 33)
        assert (counters.replay_at_join.count, counters.replay_at_join.sum) == (2, 33)
        assert counters.replay_to_catch_up.count == 0


# -- gaps


async def test_a_trimmed_stream_announces_the_gap() -> None:
    async with Stage() as stage:
        ids = stage.redis.write_many("42", 10)
        stage.redis.trim("42", 3)
        socket = FakeSocket()
        for cursor in (ids[2], "0-0"):
            socket = await stage.watch(after=cursor)
            assert socket.types[1] == "gap"
            assert socket.gaps == [{"after": cursor, "before": ids[7], "reason": "trimmed"}]
            assert socket.ids == ids[7:]
        new = stage.redis.write("42")
        await stage.rest()
        assert socket.ids[-1] == new
        assert stage.hub.counters.gaps[GapReason.TRIMMED] == 2


@pytest.mark.parametrize("ring_entries", [1, 256], ids=["log", "ring"])
@pytest.mark.parametrize("history", [None, 3, 100])
async def test_history_of_a_trimmed_stream_is_no_gap(
    history: int | None, ring_entries: int
) -> None:
    """Who did not ask for more than there is has missed nothing."""
    async with Stage(topic={"ring_entries": ring_entries}) as stage:
        ids = stage.redis.write_many("42", 10)
        stage.redis.trim("42", 3)
        socket = await stage.watch(history=history)
        assert history_of(socket) == {"sent": 3, "available": 3}
        assert socket.ids == ids[7:]
        assert socket.gaps == []


async def test_a_recreated_stream_announces_the_gap() -> None:
    async with Stage() as stage:
        old = stage.redis.write_many("42", 5)
        stage.redis.delete("42")
        await asyncio.sleep(1)
        new = stage.redis.write_many("42", 3)
        socket = await stage.watch(after=old[4])
        assert socket.gaps == [{"after": old[4], "before": new[0], "reason": "recreated"}]
        assert socket.ids == new


@pytest.mark.parametrize("followed", [False, True])
async def test_a_cursor_beyond_the_stream_is_unknown(followed: bool) -> None:
    async with Stage() as stage:
        ids = stage.redis.write_many("42", 3)
        if followed:
            await stage.watch()
        socket = await stage.watch(after="9000000-0")
        assert socket.gaps == [{"after": "9000000-0", "before": ids[0], "reason": "unknown_cursor"}]
        assert socket.ids == ids
        new = stage.redis.write("42")
        await stage.rest()
        assert socket.ids[-1] == new


async def test_a_cursor_of_another_replica_that_was_faster_is_no_gap() -> None:
    async with Stage() as stage:
        stage.redis.write_many("42", 3)
        await stage.watch()
        stage.redis.hold = True
        seen_elsewhere = stage.redis.write("42")
        socket = await stage.watch(after=seen_elsewhere)
        stage.redis.hold = False
        stage.redis.arrive()
        new = stage.redis.write("42")
        await stage.rest()
        assert (socket.ids, socket.gaps) == ([new], [])


@pytest.mark.parametrize("followed", [False, True])
async def test_a_cursor_without_a_stream_goes_on_when_the_stream_begins(followed: bool) -> None:
    async with Stage() as stage:
        if followed:
            await stage.watch()
        socket = await stage.watch(after="5000000-0")
        assert socket.types == ["current_state"]
        ids = stage.redis.write_many("42", 3)
        await stage.rest()
        (gap,) = socket.gaps
        assert (gap["after"], gap["before"]) == ("5000000-0", ids[0])
        assert socket.ids == ids
        await asyncio.sleep(3600)
        assert socket.end == ""


async def test_a_page_that_does_not_follow_on_is_announced() -> None:
    """Trimmed between two pages of one viewer."""
    async with Stage(topic=SMALL_RING, page_entries=20) as stage:
        ids = stage.redis.write_many("42", 100)
        await stage.watch()
        socket = await stage.watch(after=ids[0], socket=FakeSocket(high=100, low=10))
        socket.read()
        slow = FakeSocket(high=2000, low=10)
        slow.stick()
        await stage.watch(after=ids[0], socket=slow)
        assert stage.state_of(slow) is ViewerState.LAGGING
        stage.redis.trim("42", 30)
        slow.read()
        await stage.rest()
        (gap,) = slow.gaps
        assert gap["reason"] == "trimmed"
        assert gap["before"] == ids[70]
        assert slow.ids[-30:] == ids[70:]
        assert socket.ids == ids[1:]


async def test_a_new_log_around_the_cursor_of_a_lagging_viewer_is_announced() -> None:
    """Its ids begin below the cursor, which looks as if nothing had been removed."""
    async with Stage() as stage:
        old = stage.redis.write_many("42", 5)
        live, slow = await stage.watch(), await stage.watch(socket=FakeSocket(high=100, low=10))
        slow.stick()
        old += stage.redis.write_many("42", 5, pad=100)
        await stage.rest()
        assert stage.state_of(slow) is ViewerState.LAGGING
        stream = stage.redis.stream("42")
        stream.delete()
        new = [str(stream.add(ms, '{"type":"log"}').id) for ms in (5, 6, 2_000_000_000)]
        stage.redis.ring("42")
        await stage.rest()
        slow.read()
        await stage.rest()
        for socket in (live, slow):
            assert len(socket.gaps) == 1
            assert socket.ids == [*old, *new]


async def test_a_new_log_that_only_a_lagging_viewer_sees_is_announced() -> None:
    """That its history was whole when it came proves nothing for what it reads later."""
    async with Stage(topic=SMALL_RING) as stage:
        old = stage.redis.write_many("42", 50)
        slow = await stage.watch(history=None, socket=FakeSocket(high=100, low=10))
        slow.stick()
        for _ in range(3):
            old += stage.redis.write_many("42", 20, pad=10)
            await stage.rest()
        stage.redis.stream("42").delete()
        await asyncio.sleep(1)
        new = [stage.redis.quietly("42", "log") for _ in range(3)]
        slow.read()
        await stage.rest()
        assert slow.gaps[0]["reason"] == "recreated"
        assert slow.gaps[0]["before"] == new[0]
        seen = [frame.get("id", frame["type"]) for frame in slow.frames]
        assert seen.index("gap") < seen.index(new[0])
        assert slow.ids[-3:] == new


async def test_one_whose_tail_was_deleted_costs_no_reads() -> None:
    """Nothing is left between its cursor and the topic's position: it once read without end."""
    async with Stage(topic=SMALL_RING) as stage:
        ids = stage.redis.write_many("42", 50)
        await stage.watch()
        stage.redis.stream("42").remove_newest(30)
        socket = await stage.watch(after=ids[19])
        await asyncio.sleep(60)
        new = stage.redis.write("42")
        await stage.rest()
        assert socket.ids == [new]
        assert stage.redis.pages < 10


# -- reads that fail


async def test_history_is_read_until_redis_answers_and_ever_less_often() -> None:
    async with Stage(topic=SMALL_RING) as stage:
        ids = stage.redis.write_many("42", 50)
        await stage.watch()
        stage.redis.is_away = True  # a new connection is refused; the link knows nothing yet
        socket = await stage.watch(after=ids[0])
        await asyncio.sleep(60)
        assert socket.frames == []
        most = 60 / RETRY_MAX_S + RETRY_MAX_S / RETRY_MIN_S
        assert 60 / RETRY_MAX_S - 1 <= stage.redis.pages <= most
        stage.redis.is_away = False
        await asyncio.sleep(RETRY_MAX_S)
        assert socket.ids == ids[1:]
        assert stage.reading == 0


async def test_one_that_leaves_is_not_read_for_any_longer() -> None:
    async with Stage(topic=SMALL_RING) as stage:
        ids = stage.redis.write_many("42", 50)
        await stage.watch()
        stage.redis.is_away = True
        socket = await stage.watch(after=ids[0])
        socket.vanish()
        socket.break_off()
        await asyncio.sleep(RETRY_MAX_S)
        assert stage.reading == 0
        assert stage.hub.stats().catching_up == 0


async def test_a_key_that_turned_into_something_else_refuses_who_reads_it() -> None:
    async with Stage(topic=SMALL_RING) as stage:
        ids = stage.redis.write_many("42", 50)
        await stage.watch()
        stage.redis._unusable.add("42")
        socket = await stage.watch(after=ids[0])
        assert socket.frames[-1]["data"]["code"] == "not_a_stream"
        assert socket.end == close_codes.NOT_FOUND.name


# -- lagging


def narrow() -> FakeSocket:
    return FakeSocket(high=3000, low=500)


async def test_lagging_then_catching_up_then_live() -> None:
    async with Stage() as stage:
        socket = await stage.watch(socket=narrow())
        assert stage.state_of(socket) is ViewerState.LIVE
        socket.stick()
        stage.redis.write_many("42", 20, pad=300, type_="log")
        await stage.rest()
        assert stage.state_of(socket) is ViewerState.LAGGING
        assert (stage.hub.counters.lagged, stage.hub.stats().lagging) == (1, 1)
        stage.redis.write_many("42", 400, type_="log")  # further than the ring reaches
        await stage.rest()
        stage.redis.answers.clear()
        socket.read()
        await stage.rest()
        assert stage.state_of(socket) is ViewerState.CATCHING_UP
        assert stage.hub.stats().catching_up == 1
        stage.redis.answers.set()
        await stage.rest()
        assert stage.state_of(socket) is ViewerState.LIVE
        assert len(socket.ids) == 420
        assert stage.hub.counters.replay_to_catch_up.count == 1


async def test_conflate_gives_the_latest_progress_and_all_that_is_not_superseded() -> None:
    async with Stage(viewer={"lagging_policy": "conflate"}) as stage:
        socket = await stage.watch(socket=narrow())
        socket.stick()
        everything, logs = [], []
        for n in range(10):
            everything += stage.redis.write_many("42", 30, pad=100)
            logs.append(stage.redis.write("42", "log", at=n))
            await stage.rest()
        everything += logs
        latest = stage.redis.write("42", value=100)
        await stage.rest()
        read_before = len(everything) + 1
        socket.read()
        await stage.rest()
        assert socket.skipped > 200
        assert len(socket.ids) + socket.skipped == read_before
        assert set(logs) <= set(socket.ids)
        assert socket.ids[-1] == latest
        assert stage.hub.counters.skipped == socket.skipped
        socket.take()
        new = stage.redis.write_many("42", 5)
        await stage.rest()
        assert socket.ids == new, "live again: nothing is skipped"


async def test_progress_that_ends_the_operation_is_never_skipped() -> None:
    async with Stage() as stage:
        socket = await stage.watch(socket=narrow())
        socket.stick()
        stage.redis.write_many("42", 50, pad=100)
        await stage.rest()
        stage.redis.write_many("42", 10)
        end = stage.redis.write("42", status="completed")
        stage.redis.write_many("42", 10)
        await stage.rest()
        socket.read()
        await stage.rest()
        assert end in socket.ids
        assert socket.skipped == 19


async def test_history_that_was_asked_for_is_never_conflated() -> None:
    async with Stage() as stage:
        ids = stage.redis.write_many("42", 600, pad=1000)
        socket = narrow()
        socket.stick()
        await stage.watch(history=None, socket=socket)
        assert socket.pauses == 1
        assert socket.unread <= WRITE_MAX_BYTES + 2000, "not the whole page"
        assert stage.reading == 0, "nothing is read for it until it has room"
        new = stage.redis.write_many("42", 50, pad=100)
        await stage.rest()
        socket.read()
        await stage.rest()
        assert socket.ids[:600] == ids
        assert len(socket.ids) + socket.skipped == 650
        assert socket.ids[-1] == new[-1]


async def test_replay_gives_everything() -> None:
    async with Stage(viewer={"lagging_policy": "replay"}) as stage:
        socket = await stage.watch(socket=narrow())
        socket.stick()
        ids = []
        for _ in range(10):
            ids += stage.redis.write_many("42", 60, pad=100)
            await stage.rest()
            socket.read(1)
        socket.read()
        await stage.rest()
        assert (socket.ids, socket.skipped) == (ids, 0)
        assert set(socket.types[1:]) == {"progress"}


async def test_reading_in_fits_keeps_the_order() -> None:
    """Lagging, catching up and live change all the time while entries pour in."""
    async with Stage(viewer={"lagging_policy": "replay"}, page_entries=50) as stage:
        socket = await stage.watch(socket=narrow())
        ids = []
        for n in range(40):
            socket.stick() if n % 3 else socket.read()
            ids += stage.redis.write_many("42", 23, pad=100)
            await stage.rest()
            socket.read(n % 5)
        socket.read()
        await stage.rest()
        assert socket.ids == ids
        assert socket.pauses > 5


@pytest.mark.parametrize("catches_up", [False, True])
async def test_disconnect_closes_who_is_behind_for_too_long(catches_up: bool) -> None:
    policy = {"lagging_policy": "disconnect", "lagging_timeout_s": 30}
    async with Stage(viewer=policy) as stage:
        socket = await stage.watch(socket=narrow())
        socket.stick()
        ids = stage.redis.write_many("42", 20, pad=300)
        await asyncio.sleep(29)
        assert socket.end == ""
        if catches_up:
            socket.read()
            await stage.rest()
            socket.stick()
            ids += stage.redis.write_many("42", 20, pad=300)  # it falls behind anew
            await asyncio.sleep(29)
            assert socket.end == "", "its time began again"
            socket.read()
            await asyncio.sleep(3600)
            assert socket.end == ""
            assert socket.ids == ids
        else:
            await asyncio.sleep(2)
            assert socket.end == close_codes.SLOW.name
            assert stage.hub.counters.closes == {"slow": 1}
            assert stage.hub.stats().lagging == 0


async def test_one_that_lags_is_not_read_for_and_has_no_timer_under_the_other_policies() -> None:
    for policy in ("conflate", "replay"):
        async with Stage(viewer={"lagging_policy": policy, "lagging_timeout_s": 1}) as stage:
            socket = await stage.watch(socket=narrow())
            socket.stick()
            stage.redis.write_many("42", 400, pad=300)
            await asyncio.sleep(24 * 3600)
            assert socket.end == ""
            assert (stage.reading, stage.redis.pages) == (0, 0)


async def test_a_page_that_comes_when_others_have_filled_the_buffer_is_read_anew() -> None:
    """Answers to what a viewer says go over the same socket."""
    async with Stage(topic=SMALL_RING) as stage:
        ids = stage.redis.write_many("42", 50)
        await stage.watch()
        socket = await stage.watch(history=0, socket=narrow())
        stage.redis.lose()
        ids += [stage.redis.quietly("42", "log") for _ in range(50)]
        viewer = stage.viewer(socket)
        text = b'{"type":"pong","pad":"%b"}' % (b"x" * 4000)
        answer = Batch([Frame(ZERO, text, FrameKind.CONTROL)])
        socket.stick()
        socket.write(answer)
        assert viewer.state is ViewerState.LAGGING
        stage.redis.answers.clear()
        stage.redis.come_back()
        await stage.rest()
        socket.read()
        assert stage.reading == 1
        socket.stick()
        socket.write(answer)
        unread = socket.unread
        stage.redis.answers.set()
        await stage.rest()
        assert (socket.unread, stage.reading) == (unread, 0)
        socket.read()
        await stage.rest()
        assert socket.ids == ids[50:]


async def test_one_that_closes_while_it_lags_is_forgotten() -> None:
    async with Stage() as stage:
        socket = await stage.watch(socket=narrow())
        socket.stick()
        stage.redis.write_many("42", 20, pad=300)
        await stage.rest()
        viewer = stage.viewer(socket)
        socket.vanish()
        assert viewer.state is ViewerState.CLOSED
        assert stage.channel().is_empty
        viewer.on_resumed()
        viewer.on_paused()
        viewer.on_closed()
        assert viewer.state is ViewerState.CLOSED
