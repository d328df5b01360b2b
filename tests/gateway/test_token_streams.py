"""Texts that come token by token: who comes late or lags has them in few frames, the others as they
come.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest

from tests.gateway.fake_socket import FakeSocket
from tests.gateway.stage import OPERATION, Stage
from tests.harness.viewer import Json
from tidegate.core.reading import EventsPage
from tidegate.model.ids import StreamId, parse_stream_id


def write(stage: Stage, count: int, *, start: int = 0) -> list[str]:
    return [stage.redis.write("42", "append", text=f"{n} ") for n in range(start, start + count)]


def text_of(frames: Sequence[Json]) -> str:
    return "".join(frame["data"]["text"] for frame in frames if frame["type"] == "append")


def text_to(count: int, *, start: int = 0) -> str:
    return "".join(f"{n} " for n in range(start, count))


async def test_live_viewers_have_each_token_as_it_comes() -> None:
    async with Stage() as stage:
        socket = await stage.watch()
        write(stage, 5)
        await stage.rest()
        tokens = socket.frames[1:]
        assert [frame["data"]["text"] for frame in tokens] == [f"{n} " for n in range(5)]
        assert not any("joined" in frame for frame in tokens)


async def test_a_late_viewer_has_one_frame_and_goes_on_behind_it() -> None:
    async with Stage() as stage:
        await stage.watch()
        ids = write(stage, 200)
        await stage.rest()
        late = await stage.watch(history=None)
        assert late.frames[0]["history"] == {"sent": 200, "available": 200}
        [joined] = late.frames[1:]
        assert (joined["id"], joined["joined"]) == (ids[-1], 200)
        assert joined["data"] == {"text": text_to(200)}
        write(stage, 1, start=200)
        await stage.rest()
        assert late.frames[2]["data"] == {"text": "200 "}
        assert stage.hub.counters.replayed_entries == 200


async def test_other_entries_are_where_they_were() -> None:
    async with Stage() as stage:
        stage.redis.write("42", "log", line="first")
        write(stage, 3)
        stage.redis.write("42", "tool", name="search")
        write(stage, 2, start=3)
        last = stage.redis.finish("42")
        late = await stage.watch()
        told = [(frame["type"], frame.get("joined")) for frame in late.frames[1:]]
        assert told == [
            ("log", None),
            ("append", 3),
            ("tool", None),
            ("append", 2),
            ("operation_completed", None),
        ]
        assert late.ids[-1] == last


async def test_a_long_text_is_read_once_for_all_who_come_late() -> None:
    async with Stage() as stage:
        write(stage, 5_000)
        first = await stage.watch(history=None)
        read = stage.redis.pages
        assert read <= 22, "its state, and the text"
        others = [await stage.watch(history=None) for _ in range(20)]
        assert stage.redis.pages == read
        for socket in (first, *others):
            assert text_of(socket.frames) == text_to(5_000)
            assert len(socket.frames) <= 12
        assert len(others[0].frames) <= 3
        stats = stage.hub.stats()
        assert stats.live == 21


async def test_viewers_that_come_at_the_same_time_read_it_once() -> None:
    async with Stage() as stage:
        write(stage, 5_000)
        await stage.watch(history=0)
        sockets = [stage.watch_now(history=None) for _ in range(50)]
        await stage.rest()
        assert [text_of(socket.frames) for socket in sockets] == [text_to(5_000)] * 50
        assert stage.redis.pages <= 10 * 4, "as many at a time as there are turns"


@pytest.mark.parametrize("behind", [0, 1, 2, 255, 256, 257, 300, 700, 999])
async def test_a_viewer_comes_back_to_the_middle_of_what_is_joined(behind: int) -> None:
    async with Stage() as stage:
        ids = write(stage, 1_000)
        await stage.watch(history=None)
        read = stage.redis.pages
        socket = await stage.watch(after=ids[-1 - behind])
        assert text_of(socket.frames) == text_to(1_000, start=1_000 - behind)
        assert stage.redis.pages == read
        write(stage, 1, start=1_000)
        await stage.rest()
        assert text_of(socket.frames) == text_to(1_001, start=1_000 - behind)


async def test_on_another_replica_it_goes_on_in_the_same_place() -> None:
    async with Stage() as one, Stage() as other:
        ids = write(one, 700)
        await one.watch(history=None)
        other.redis._streams = one.redis._streams  # another replica of the same gateway
        for behind in (1, 50, 300, 600):
            socket = await other.watch(after=ids[-1 - behind])
            assert text_of(socket.frames) == text_to(700, start=700 - behind)


@pytest.mark.parametrize("policy", ["conflate", "replay", "disconnect"])
async def test_a_lagging_viewer_catches_up_with_few_frames(policy: str) -> None:
    viewer = {"lagging_policy": policy, "lagging_timeout_s": 60}
    async with Stage(viewer=viewer) as stage:
        socket = await stage.watch(socket=FakeSocket(high=600, low=100))
        socket.stick()
        write(stage, 20)
        await stage.rest()
        assert socket.pauses == 1
        write(stage, 980, start=20)
        await stage.rest()
        behind = 21
        socket.read()
        await stage.rest()
        assert text_of(socket.frames) == text_to(1_000)
        caught_up = [frame for frame in socket.frames[behind:] if "joined" in frame]
        assert 1 <= len(caught_up) <= 5
        assert stage.hub.counters.skipped == 0


async def test_what_was_kept_of_a_log_is_not_sent_for_the_next_one() -> None:
    async with Stage() as stage:
        old = write(stage, 1_000)
        await stage.watch(history=None)
        stage.redis.delete("42")
        await stage.rest()
        stage.redis.write("42", "append", text="new")
        await stage.rest()
        socket = await stage.watch(history=None)
        assert text_of(socket.frames) == "new"
        back = await stage.watch(after=old[500])
        assert [gap["reason"] for gap in back.gaps] == ["unknown_cursor"]
        assert text_of(back.frames) == "new"


async def test_the_gap_in_front_of_joined_entries_names_the_first_of_them() -> None:
    async with Stage() as stage:
        ids = write(stage, 1_000)
        stage.redis.trim("42", 600)
        socket = await stage.watch(after=ids[100])
        [gap] = socket.gaps
        assert gap == {"after": ids[100], "before": ids[400], "reason": "trimmed"}
        assert text_of(socket.frames) == text_to(1_000, start=400)


async def test_nothing_is_joined_or_kept_where_no_type_appends() -> None:
    async with Stage(topic={"append_types": []}) as stage:
        ids = write(stage, 1_000)
        await stage.watch(history=None)
        read = stage.redis.pages
        socket = await stage.watch(history=None)
        assert socket.ids == ids
        assert stage.redis.pages > read


async def test_nothing_is_kept_when_nobody_watches() -> None:
    async with Stage(topic={"linger_s": 1}) as stage:
        write(stage, 1_000)
        socket = await stage.watch(history=None)
        budget = stage.channel().topic.ring.budget
        assert budget.size_bytes > 0
        socket.vanish()
        await asyncio.sleep(2)
        assert budget.size_bytes == 0


async def test_history_and_what_came_since_are_not_in_one_frame() -> None:
    """`history` counts the former, and what `current_state` tells holds in between."""
    async with Stage(page_entries=300) as stage:
        write(stage, 1_000)
        first = await stage.watch(history=None)
        first.vanish()
        socket = FakeSocket(high=600, low=100)
        socket.stick()
        await stage.watch(history=None, socket=socket)
        write(stage, 500, start=1_000)
        await stage.rest()
        await stage.watch(history=None)
        socket.read()
        await stage.rest()
        assert text_of(socket.frames) == text_to(1_500)
        sent = 0
        for frame in socket.frames[1:]:
            assert not sent < 1_000 < sent + frame.get("joined", 1)
            sent += frame.get("joined", 1)
        assert sent == 1_500


# --- pages of events


async def page(stage: Stage, after: str | None, limit: int, *, joined: bool = True) -> EventsPage:
    cursor: StreamId | None = None if after is None else parse_stream_id(after)
    found = await stage.hub.reader.page(OPERATION, cursor, limit, joined=joined)
    assert found is not None
    return found


@pytest.mark.parametrize("followed", [False, True], ids=["cold", "followed"])
async def test_a_page_has_them_joined_or_each(followed: bool) -> None:
    async with Stage() as stage:
        ids = write(stage, 60)
        stage.redis.write("42", "log", line="end")
        if followed:
            await stage.watch()
        first = await page(stage, None, 50)
        [event] = map(json.loads, first.events)
        assert (event["id"], event["joined"], first.more) == (ids[49], 50, True)
        second = await page(stage, str(first.cursor), 50)
        events = [json.loads(event) for event in second.events]
        assert [(event["type"], event.get("joined")) for event in events] == [
            ("append", 10),
            ("log", None),
        ]
        assert text_of([event, *events]) == text_to(60)
        each = await page(stage, None, 50, joined=False)
        assert [json.loads(event)["id"] for event in each.events] == ids[:50]
