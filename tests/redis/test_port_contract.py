"""The ports `Feed` and `Log` over Redis, and over the fake that the tests of the gateway use: one
contract for both.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Protocol

import pytest

from tests.conftest import ON_EACH_SERVER
from tests.gateway.fake_redis import FakeRedis
from tests.harness.backend import PREFIX, Backend
from tests.harness.waiting import until
from tests.redis.pod import slot_settings
from tests.servers.standalone import Server
from tidegate.core.ports import Feed, Log
from tidegate.core.records import Page, Relay, StreamInfo
from tidegate.gateway.fanout import Fanout
from tidegate.model.errors import StreamUnusable, TidegateError
from tidegate.model.ids import ZERO, OperationId, StreamId, parse_stream_id, stream_id
from tidegate.redis.address import parse_address
from tidegate.redis.feed import RedisFeed
from tidegate.redis.log import RedisLog
from tidegate.redis.topology import Topology

OPERATION = OperationId("42")


class Side(Protocol):
    """What the contract needs, on either side."""

    feed: Feed
    log: Log

    async def write(self, count: int) -> list[StreamId]: ...
    async def trim(self, keep: int) -> None: ...
    async def delete(self) -> None: ...
    async def spoil(self) -> None: ...
    async def cut_the_link(self) -> None: ...


class Fake:
    """In memory."""

    def __init__(self) -> None:
        self.redis = FakeRedis()
        self.feed: Feed = self.redis
        self.log: Log = self.redis

    async def write(self, count: int) -> list[StreamId]:
        return [parse_stream_id(self.redis.write(OPERATION)) for _ in range(count)]

    async def trim(self, keep: int) -> None:
        self.redis.trim(OPERATION, keep)

    async def delete(self) -> None:
        self.redis.delete(OPERATION)

    async def spoil(self) -> None:
        self.redis.spoil(OPERATION)

    async def cut_the_link(self) -> None:
        self.redis.lose()
        self.redis.come_back()


class Real:
    """A feed on a server of its own."""

    def __init__(self, server: Server, backend: Backend) -> None:
        self.backend = backend
        settings = slot_settings(server.url, "pod-1")
        self.topology = Topology(parse_address(settings.redis), settings.redis)
        self.log: Log = (log := RedisLog(self.topology, settings))
        fanout = Fanout(asyncio.get_running_loop())
        self.feed: Feed = (feed := RedisFeed(self.topology, log, settings, fanout))
        self.run = feed.run

    async def write(self, count: int) -> list[StreamId]:
        return [parse_stream_id(i) for i in await self.backend.publish_many(OPERATION, count)]

    async def trim(self, keep: int) -> None:
        await self.backend.trim(OPERATION, keep)

    async def delete(self) -> None:
        await self.backend.delete(OPERATION)

    async def spoil(self) -> None:
        await self.backend.client.set(PREFIX + OPERATION, "a string")

    async def cut_the_link(self) -> None:
        await self.backend.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")


@asynccontextmanager
async def real(server: Server) -> AsyncIterator[Real]:
    async with server.client() as client:
        side = Real(server, Backend(client))
        running = asyncio.create_task(side.run())
        try:
            yield side
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await side.topology.close()


@pytest.fixture(params=["fake", *ON_EACH_SERVER])
async def side(shelf: Any, request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    if request.param == "fake":
        yield Fake()
        return
    async with real(await shelf.servers[request.param].take()) as side:
        yield side


class Detached(NamedTuple):
    """`on_detached` was called."""


class Listener:
    """Keeps all that it is told, in order."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.resume_after: StreamId | None = None

    def on_relay(self, relay: Relay) -> None:
        self.told.append(relay)

    def on_page(self, page: Page) -> None:
        self.told.append(page)

    def on_seen(self, last: bytes) -> None:
        self.told.append(last)

    def on_detached(self) -> None:
        self.told.append(Detached())

    def on_failed(self, error: TidegateError) -> None:
        self.told.append(error)

    def of(self, kind: type) -> list[Any]:
        return [one for one in self.told if isinstance(one, kind)]

    @property
    def relayed(self) -> list[StreamId]:
        return [stream_id(raw.id) for relay in self.of(Relay) for raw in relay.entries]

    async def pages(self, count: int) -> list[Page]:
        await until(lambda: len(self.of(Page)) >= count, lambda: f"{count} pages: {self.told}")
        return self.of(Page)


async def watching(side: Side) -> Listener:
    """A listener that has its first page."""
    listener = Listener()
    side.feed.watch(OPERATION, listener)
    await listener.pages(1)
    return listener


def ids_of(page: Page) -> Sequence[StreamId]:
    return [stream_id(raw.id) for raw in page.entries]


async def test_the_first_page_has_the_newest_entries_and_the_state_of_the_stream(
    side: Side,
) -> None:
    ids = await side.write(130)
    await side.trim(120)
    (page,) = (await watching(side)).of(Page)
    assert (page.after, page.more) == (None, False)
    assert ids_of(page) == ids[-101:]
    info = page.info
    assert (info.exists, info.first, info.last) == (True, ids[10], ids[-1])
    assert (info.length, info.added, info.deleted) == (120, 130, ZERO)
    assert "data" in json.loads(page.entries[0].fields[1])


async def test_of_a_stream_that_is_not_there_the_page_says_so(side: Side) -> None:
    (page,) = (await watching(side)).of(Page)
    assert page._replace(registered=None) == Page(StreamInfo(), [], more=False, after=None)


async def test_relays_bring_each_entry_once_and_each_names_the_one_before(side: Side) -> None:
    listener = await watching(side)
    ids: list[StreamId] = []

    def all_relayed() -> bool:
        return len(listener.relayed) == len(ids)

    for count in (1, 3, 2):
        ids += await side.write(count)
        await until(all_relayed, lambda: f"{listener.told}")
    assert listener.relayed == ids
    relays = [relay for relay in listener.of(Relay) if relay.entries]
    assert (relays[0].previous, relays[0].created) == (b"", True)
    assert relays[0].added == len(relays[0].entries)
    before = relays[0]
    for relay in relays[1:]:
        assert (relay.previous, relay.created, relay.added) == (before.entries[-1].id, False, None)
        before = relay


async def test_a_read_is_answered_in_order_with_the_relays(side: Side) -> None:
    ids = await side.write(5)
    listener = await watching(side)
    ids += await side.write(1)
    await until(lambda: listener.relayed == ids[-1:])
    side.feed.read(OPERATION, ids[2])
    page = (await listener.pages(2))[-1]
    assert (page.after, page.more, ids_of(page)) == (ids[2], False, ids[3:])
    assert [type(one) for one in listener.told if not isinstance(one, bytes)][-2:] == [Relay, Page]


async def test_a_lost_link_is_told_and_the_next_attach_resumes(side: Side) -> None:
    ids = await side.write(5)
    listener = await watching(side)
    listener.resume_after = ids[1]
    await side.cut_the_link()
    page = (await listener.pages(2))[-1]
    assert listener.of(Detached)
    assert (page.after, ids_of(page)) == (ids[1], ids[2:])


async def test_a_stream_that_goes_is_told_by_an_empty_last_id(side: Side) -> None:
    await side.write(2)
    listener = await watching(side)
    await side.delete()
    await until(lambda: listener.told[-1] == b"", lambda: f"{listener.told}")
    side.feed.read(OPERATION, ZERO)
    assert not (await listener.pages(2))[-1].info.exists


async def test_nothing_is_told_after_unwatch(side: Side) -> None:
    listener, other = await watching(side), Listener()
    side.feed.unwatch(OPERATION)
    told = list(listener.told)
    ids = await side.write(3)
    side.feed.watch(OPERATION, other)
    assert ids_of((await other.pages(1))[0]) == ids
    assert listener.told == told


async def test_what_is_no_stream_fails(side: Side) -> None:
    await side.spoil()
    listener = Listener()
    side.feed.watch(OPERATION, listener)
    await until(lambda: listener.told)
    assert [type(one) for one in listener.told] == [StreamUnusable]
    async with side.log.turn(OPERATION, "ann") as pages:
        for reading in (pages.after(OPERATION, ZERO), pages.locate(OPERATION, None)):
            with pytest.raises(StreamUnusable):
                await reading


async def test_the_log_is_read_in_pages(side: Side) -> None:
    async with side.log.turn(OPERATION, "ann") as pages:
        ids = await side.write(1200)
        seen: list[StreamId] = []
        more = True
        while more:
            page = await pages.after(OPERATION, seen[-1] if seen else ZERO)
            assert page.after == (seen[-1] if seen else ZERO)
            assert (page.info.last, page.info.length) == (ids[-1], 1200)
            seen += ids_of(page)
            more = page.more
        assert seen == ids
        assert ids_of(await pages.after(OPERATION, ids[-1])) == []


async def test_the_log_tells_where_the_newest_begin(side: Side) -> None:
    async with side.log.turn(OPERATION, "ann") as pages:
        info, before = await pages.locate(OPERATION, 5)
        assert (info.exists, before) == (False, ZERO)
        ids = await side.write(10)
        for newest, wanted in ((3, ids[6]), (0, ids[9]), (10, ZERO), (50, ZERO), (None, ZERO)):
            info, before = await pages.locate(OPERATION, newest)
            assert (info.last, before) == (ids[-1], wanted), newest
        await side.trim(4)
        assert (await pages.locate(OPERATION, 4))[1] == ids[6].before()
        assert (await pages.locate(OPERATION, None))[1] == ids[6].before()
        assert (await pages.locate(OPERATION, 3))[1] == ids[6]


async def test_a_user_has_one_turn_at_the_log_at_a_time(side: Side) -> None:
    _ = await side.write(3)
    order: list[str] = []

    async def read(by: str) -> None:
        async with side.log.turn(OPERATION, by) as pages:
            order.append(by)
            assert len((await pages.after(OPERATION, ZERO)).entries) == 3

    async with asyncio.TaskGroup() as tasks:
        async with side.log.turn(OPERATION, "mallory"):
            waiting = [tasks.create_task(read("mallory")) for _ in range(5)]
            await asyncio.sleep(0)
            other = tasks.create_task(read("ann"))
            await asyncio.sleep(0)
        await other  # before those who came before it, whose user has had a turn
        for task in waiting[1:]:  # who gives up loses no turn
            task.cancel()
    assert order == ["ann", "mallory"]
