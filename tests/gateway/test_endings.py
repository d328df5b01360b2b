"""What ends watching, and when: the timers of a channel."""

from __future__ import annotations

import asyncio

import pytest

from tests.gateway.fake_socket import FakeSocket
from tests.gateway.stage import Stage
from tidegate.model import close_codes

# -- the end of an operation


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
async def test_everybody_gets_the_end_and_is_closed_after_the_grace(status: str) -> None:
    async with Stage(topic={"terminal_grace_s": 5}) as stage:
        sockets = [await stage.watch() for _ in range(3)]
        last = stage.redis.write("42", "note", status=status)
        await asyncio.sleep(4.9)
        assert [socket.end for socket in sockets] == [""] * 3
        late = stage.redis.write("42", "log", text="a moment late")
        await asyncio.sleep(0.2)
        for socket in sockets:
            assert socket.ids == [last, late]
            assert socket.end == close_codes.FINISHED.name
        assert stage.hub.counters.closes == {"finished": 3}
        assert stage.hub.stats().live == 0


async def test_an_operation_that_runs_again_is_not_closed() -> None:
    async with Stage(topic={"terminal_grace_s": 5}) as stage:
        socket = await stage.watch()
        stage.redis.write("42", status="failed")
        await asyncio.sleep(4)
        stage.redis.write("42", status="retrying")
        await asyncio.sleep(100)
        assert socket.end == ""
        stage.redis.finish("42")
        await asyncio.sleep(6)
        assert socket.end == close_codes.FINISHED.name


@pytest.mark.parametrize("count", [3, 700])
async def test_who_joins_a_finished_operation_gets_history_and_the_close(count: int) -> None:
    async with Stage(topic={"terminal_grace_s": 5}) as stage:
        ids = stage.redis.write_many("42", count)
        ids.append(stage.redis.finish("42"))
        socket = await stage.watch(history=None)
        assert socket.frames[0]["data"] == {"status": "completed", "progress": 1}
        assert socket.ids == ids
        await asyncio.sleep(5.1)
        assert socket.end == close_codes.FINISHED.name


async def test_who_comes_back_to_a_finished_operation_gets_the_rest_and_the_close() -> None:
    async with Stage() as stage:
        ids = stage.redis.write_many("42", 5)
        ids.append(stage.redis.finish("42", "failed"))
        for seen in (0, 3, 5):
            socket = await stage.watch(after=ids[seen])
            assert socket.frames[0]["data"] == {"status": "failed"}
            assert socket.ids == ids[seen + 1 :]
            await asyncio.sleep(60)
            assert socket.end == close_codes.FINISHED.name


async def test_an_end_behind_the_first_page_leaves_a_viewer_that_waits() -> None:
    """Log lines after the end push the terminal entry out of the newest ones that are read."""
    async with Stage() as stage:
        stage.redis.finish("42")
        ids = stage.redis.write_many("42", 300, type_="log")
        socket = await stage.watch()
        assert socket.ids == ids[200:]
        await asyncio.sleep(100)
        assert socket.end == ""


async def test_a_lagging_viewer_gets_the_end_before_it_is_closed() -> None:
    async with Stage(topic={"terminal_grace_s": 5}) as stage:
        socket = await stage.watch(socket=FakeSocket(high=2000, low=100))
        socket.stick()
        stage.redis.write_many("42", 100, pad=100)
        last = stage.redis.finish("42")
        await asyncio.sleep(60)
        assert socket.end == "", "whoever lags has not seen the end"
        socket.read()
        await stage.rest()
        assert socket.ids[-1] == last
        await asyncio.sleep(5.1)
        assert socket.end == close_codes.FINISHED.name


async def test_a_source_that_says_finished_ends_the_wait_for_a_stream() -> None:
    async with Stage(topic={"terminal_grace_s": 5}) as stage:
        done = await stage.watch("7", state={"status": "completed", "result": 3})
        assert done.frames[0]["data"] == {"status": "completed", "result": 3}
        running = await stage.watch("8", state={"status": "running"})
        began = await stage.watch("9", state={"status": "completed"})
        stage.redis.write("9")
        await asyncio.sleep(5.1)
        assert done.end == close_codes.FINISHED.name
        assert running.end == ""
        assert began.end == "", "the stream knows better"


# -- a stream that is gone, or never comes


async def test_an_expired_stream_closes_its_viewers_after_the_grace() -> None:
    async with Stage(topic={"expired_grace_s": 60, "linger_s": 3600}) as stage:
        stage.redis.write_many("42", 2)
        socket = await stage.watch()
        stage.redis.delete("42")
        await asyncio.sleep(50)
        late = await stage.watch()
        await asyncio.sleep(9)
        assert socket.end == ""
        await asyncio.sleep(2)
        for gone in (socket, late):
            assert gone.frames[-1]["data"]["code"] == "expired"
            assert gone.end == close_codes.EXPIRED.name
        await asyncio.sleep(120)
        later = await stage.watch()  # it is still followed, and knows that its stream is gone
        await asyncio.sleep(59)
        assert later.end == ""
        await asyncio.sleep(2)
        assert later.end == close_codes.EXPIRED.name
        assert stage.redis.attaches == 1


async def test_a_cursor_of_an_expired_stream_waits_for_the_grace_and_no_longer() -> None:
    async with Stage(topic={"expired_grace_s": 60, "wait_for_stream_s": 3600}) as stage:
        socket = await stage.watch(after="1000-0")
        await asyncio.sleep(59)
        assert socket.end == ""
        await asyncio.sleep(2)
        assert socket.types == ["current_state", "error"]
        assert socket.end == close_codes.EXPIRED.name


async def test_a_stream_that_is_back_within_the_grace_closes_nobody() -> None:
    async with Stage(topic={"expired_grace_s": 60}) as stage:
        old = stage.redis.write_many("42", 2)
        sockets = [await stage.watch(), await stage.watch(after=old[0])]
        stage.redis.delete("42")
        await stage.rest()
        assert stage.channel().topic.vanished
        sockets.append(await stage.watch(after=old[1]))
        await asyncio.sleep(30)
        new = stage.redis.write("42")
        await asyncio.sleep(3600)
        for socket in sockets:
            assert [gap["reason"] for gap in socket.gaps] == ["recreated"]
            assert socket.ids[-1] == new
            assert socket.end == ""


async def test_each_viewer_waits_for_a_stream_as_long_as_the_first() -> None:
    async with Stage(topic={"wait_for_stream_s": 100, "linger_s": 3600}) as stage:
        first = await stage.watch()
        await asyncio.sleep(60)
        second = await stage.watch()
        await asyncio.sleep(39)
        assert first.end == ""
        await asyncio.sleep(2)
        assert first.types == ["current_state", "error"]
        assert first.frames[-1]["data"]["code"] == "expired"
        assert first.end == close_codes.EXPIRED.name
        await asyncio.sleep(58)
        assert second.end == ""
        await asyncio.sleep(2)
        assert second.end == close_codes.EXPIRED.name
        third = await stage.watch()  # the operation is still followed
        await asyncio.sleep(99)
        assert third.end == ""
        await asyncio.sleep(2)
        assert third.end == close_codes.EXPIRED.name
        assert stage.redis.attaches == 1


async def test_a_stream_that_begins_in_time_is_waited_for_no_more() -> None:
    async with Stage(topic={"wait_for_stream_s": 100}) as stage:
        socket = await stage.watch()
        await asyncio.sleep(99)
        new = stage.redis.write("42")
        await asyncio.sleep(1000)
        assert socket.ids == [new]
        assert socket.end == ""
