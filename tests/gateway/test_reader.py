"""Reading without staying: from the topic where it is known, else from the log, and the same."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from tests.gateway.stage import OPERATION, Stage
from tidegate.core.reading import EventsPage, OperationState
from tidegate.model.errors import RedisUnavailable
from tidegate.model.frames import GapReason
from tidegate.model.ids import StreamId, parse_stream_id

both = pytest.mark.parametrize("followed", [False, True], ids=["cold", "followed"])


async def stage_follows(stage: Stage, followed: bool) -> None:
    if followed:
        await stage.watch()


async def page(stage: Stage, after: str | None, limit: int = 500) -> EventsPage:
    cursor = None if after is None else parse_stream_id(after)
    found = await stage.hub.reader.page(OPERATION, cursor, limit)
    assert found is not None
    return found


def ids_of(found: EventsPage) -> list[str]:
    return [orjson.loads(event)["id"] for event in found.events]


@both
async def test_pages_from_the_beginning_to_the_end(followed: bool) -> None:
    async with Stage(page_entries=50) as stage:
        ids = stage.redis.write_many("42", 230)
        await stage_follows(stage, followed)
        seen: list[str] = []
        cursor, more = None, True
        while more:
            found = await page(stage, cursor, 40)
            seen += ids_of(found)
            cursor, more = str(found.cursor), found.more
            assert found.gap is None
            assert len(found.events) <= 40
        assert seen == ids
        assert cursor == ids[-1]
        last = await page(stage, cursor)
        assert (list(last.events), last.more, str(last.cursor)) == ([], False, cursor)


@both
async def test_the_end_is_told_with_the_state(followed: bool) -> None:
    async with Stage() as stage:
        stage.redis.write_many("42", 3)
        last = parse_stream_id(stage.redis.finish("42", "failed"))
        await stage_follows(stage, followed)
        state = await stage.hub.reader.state(OPERATION)
        assert state == OperationState(
            "failed", finished=True, cursor=last, data={"status": "failed"}
        )
        told = state._replace(data={})
        assert (await page(stage, None)).state == told
        assert (await page(stage, None, 1)).state == told, "also of a page that is not the last"


@both
async def test_what_is_not_proven_is_a_gap(followed: bool) -> None:
    async with Stage(topic={"expired_grace_s": 3600}) as stage:
        ids = stage.redis.write_many("42", 10)
        stage.redis.trim("42", 3)
        await stage_follows(stage, followed)
        found = await page(stage, ids[2])
        assert found.gap == (parse_stream_id(ids[2]), parse_stream_id(ids[7]), GapReason.TRIMMED)
        assert ids_of(found) == ids[7:]
        assert (await page(stage, None)).gap is None
        found = await page(stage, "9000000000-0")
        assert found.gap is not None
        assert found.gap.reason is GapReason.UNKNOWN_CURSOR
        assert ids_of(found) == ids[7:]
        stage.redis.delete("42")
        await asyncio.sleep(1)
        new = stage.redis.write("42")
        await stage.rest()
        found = await page(stage, ids[9])
        assert found.gap == (
            parse_stream_id(ids[9]),
            parse_stream_id(new),
            GapReason.RECREATED,
        )


async def test_where_it_is_followed_nothing_is_read() -> None:
    async with Stage() as stage:
        ids = stage.redis.write_many("42", 50)
        await stage.watch()
        assert ids_of(await page(stage, ids[40])) == ids[41:]
        assert await stage.hub.reader.state(OPERATION) is not None
        assert stage.redis.pages == 0


async def test_nothing_is_followed_or_made_by_reading() -> None:
    async with Stage() as stage:
        assert await stage.hub.reader.state(OPERATION) is None
        assert await stage.hub.reader.page(OPERATION, None, 10) is None
        assert await stage.hub.reader.page(OPERATION, StreamId(5, 0), 10) is None
        assert stage.hub.stats().operations == 0
        assert not stage.redis.stream("42").exists


async def test_what_is_stale_is_not_taken_for_the_truth() -> None:
    async with Stage() as stage:
        stage.redis.write_many("42", 3)
        await stage.watch()
        stage.redis.lose()
        with pytest.raises(RedisUnavailable):
            await stage.hub.reader.state(OPERATION)
        with pytest.raises(RedisUnavailable):
            await page(stage, None)
        stage.redis.come_back()
        await stage.rest()
        assert len((await page(stage, None)).events) == 3
