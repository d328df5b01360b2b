"""Slices of the loop's time: who gets them, told by counting, and that they keep nothing back."""

from __future__ import annotations

import asyncio
from collections import Counter

from tests.gateway.fake_socket import FakeSocket
from tests.gateway.stage import OPERATION, Stage, ask_for
from tidegate.gateway.slices import SLICE_BYTES, SLICE_ENTRIES, Slices, slices_of
from tidegate.model.entries import RawEntry
from tidegate.model.ids import OperationId


def entries(count: int, size: int = 100) -> list[RawEntry]:
    return [RawEntry(b"1-%d" % n, [b"message", b"x" * size]) for n in range(1, count + 1)]


def test_a_page_is_cut_into_slices_in_order_and_whole() -> None:
    for count, size in ((0, 1), (1, 1), (SLICE_ENTRIES, 1), (500, 10), (500, 4_000), (3, 90_000)):
        page = entries(count, size)
        parts = [part.entries for part in slices_of(page)]
        assert [raw for part in parts for raw in part] == page
        assert all(0 < len(part) <= SLICE_ENTRIES for part in parts)
        assert all(
            len(part) == 1 or sum(size + 7 for _ in part) <= SLICE_BYTES for part in parts
        ), "bounded in bytes, one entry in any case"


class Readers:
    """Tasks that want slices without end."""

    def __init__(self) -> None:
        self.slices = Slices(asyncio.get_running_loop())
        self.had: Counter[str] = Counter()
        self.order: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, user: str, *, size: int = 100) -> asyncio.Task[None]:
        task = asyncio.create_task(self._read(user, entries(100, size)))
        self._tasks.append(task)
        return task

    async def _read(self, user: str, page: list[RawEntry]) -> None:
        (part,) = slices_of(page)
        while True:
            await self.slices.of(part, user)
            self.had[user] += 1
            self.order.append(user)

    async def rounds(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def test_ten_readers_of_one_user_had_the_loop_to_themselves() -> None:
    readers = Readers()
    for _ in range(10):
        _ = readers.begin("mallory")
    await readers.rounds(100)
    _ = readers.begin("ann")
    before = readers.had["mallory"]
    await readers.rounds(200)
    await readers.stop()
    assert readers.had["ann"] >= (readers.had["mallory"] - before) - 2


async def test_there_was_a_slice_of_every_reader_in_each_round_of_the_loop() -> None:
    readers = Readers()
    for number in range(10):
        _ = readers.begin(f"user-{number}")
    await readers.rounds(20)
    before = readers.slices.given
    await readers.rounds(100)
    await readers.stop()
    assert 20 <= readers.slices.given - before <= 51  # one in two rounds, and not ten in one


async def test_a_slice_that_comes_in_the_moment_of_a_cancellation_is_not_lost() -> None:
    readers = Readers()
    tasks = [readers.begin(user) for user in "abc"]
    for count in range(1, 8):  # at whatever moment
        await readers.rounds(count)
        tasks[1].cancel()
        await readers.rounds(1)
        tasks[1] = readers.begin("b")
        before = readers.had["c"]
        await readers.rounds(40)
        assert readers.had["c"] > before
    await readers.stop()


async def begin(stage: Stage, user: str) -> FakeSocket:
    """A viewer that asks for everything, and has not got it yet."""
    socket = FakeSocket()
    ask = ask_for(history=None)._replace(by=user)
    while not stage.hub.join(OPERATION, socket, ask):
        await stage.hub.ready(OPERATION)
    return socket


def entries_of(socket: FakeSocket) -> int:
    return sum("id" in frame for frame in socket.frames)


async def test_another_users_page_comes_before_the_end_of_a_long_history() -> None:
    async with Stage(topic={"ring_entries": 10}) as stage:
        stage.redis.write_many(OPERATION, 3_000)
        stage.redis.write_many("other", 100)
        long = [await begin(stage, "mallory") for _ in range(10)]
        page = await stage.hub.reader.page(OperationId("other"), None, 50, by="ann")
        assert page is not None
        assert len(page.events) == 50
        had = [entries_of(socket) for socket in long]
        assert max(had) < 3_000, "answered before anybody had all"
        await stage.rest()
        assert [entries_of(socket) for socket in long] == 10 * [3_000], "which they get"
        readers = Counter(stage.redis.readers)
        assert 0 < readers["ann"] <= 4
        assert set(readers) == {"ann", "mallory"}
