"""Bugs of the gateway that the fault run found, each reduced to what it takes to show it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import orjson
import pytest
import uvloop
from websockets.asyncio.client import connect

from tests.faults.publisher import TERMINAL, Publisher
from tests.faults.replicas import Replica
from tests.faults.scene import audience, gateway
from tests.faults.viewer import Lag
from tests.servers.proxy import Proxy
from tests.servers.standalone import Server
from tidegate.core.connection_record import NO_RECORD, ConnectionRecord
from tidegate.core.ports import SenderListener, StreamListener
from tidegate.core.records import Ask, Page, Relay, StreamInfo
from tidegate.core.ring import Ring, RingBudget
from tidegate.core.topic import Deliver, ReadAfter, Topic, TopicRules
from tidegate.gateway.fanout import Fanout
from tidegate.gateway.hub import Hub
from tidegate.model.batch import Batch
from tidegate.model.close_codes import CloseCode
from tidegate.model.entries import RawEntry, TerminalRules
from tidegate.model.errors import RedisUnavailable
from tidegate.model.frames import FrameKind
from tidegate.model.ids import ZERO, OperationId, StreamId
from tidegate.model.settings import RedisSettings, RedisUrl, Settings
from tidegate.redis.address import Node, parse_address
from tidegate.redis.link import connect as connect_link
from tidegate.redis.log import RedisLog
from tidegate.redis.topology import Topology


def test_a_pooled_connection_that_just_broke_does_not_end_the_replica(redis_server: Server) -> None:
    """uvloop raises RuntimeError for a write to a closed transport, and redis-py lets it through.

    It came out of a viewer's catch-up task and took the whole replica down.
    """

    async def read_over_a_broken_connection() -> None:
        settings = Settings(redis=RedisSettings(url=RedisUrl(redis_server.url)))
        topology = Topology(parse_address(settings.redis), settings.redis)
        log = RedisLog(topology, settings)
        operation = OperationId("42")
        try:
            await log.after(operation, ZERO)
            pool: Any = topology.client.connection_pool  # type: ignore[union-attr]
            for connection in pool._available_connections:
                connection._writer.transport.abort()
            with pytest.raises(RedisUnavailable):
                await log.after(operation, ZERO)
            assert (await log.after(operation, ZERO)).info.exists is False
        finally:
            await topology.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(read_over_a_broken_connection())


async def test_a_viewer_that_leaves_while_its_history_is_read_does_not_end_the_replica(
    redis_server: Server,
) -> None:
    """Its first frames were written to a socket that was closed by then."""
    async with AsyncExitStack() as stack:
        link = await stack.enter_async_context(Proxy((redis_server.host, redis_server.port)))
        client = await stack.enter_async_context(redis_server.client())
        settings = {"topic.ring_entries": 10}
        replica = await stack.enter_async_context(Replica(0, f"redis://{link.address}/0", settings))
        publisher = Publisher(client, "42")
        await publisher.write_many(50)
        url = f"ws://{replica.host}:{replica.port}/ws/operations/42"
        async with connect(url, max_queue=None) as first:
            await first.recv()
            link.down.delay(0.1)
            for _ in range(5):
                async with connect(f"{url}?history=all"):
                    pass
            await publisher.finish()
            # One that came later has its history: so those that left were due before.
            async with connect(f"{url}?history=all") as last:
                async for text in last:
                    if orjson.loads(text)["type"] == TERMINAL:
                        break
        await replica.answers("/healthz")
        assert replica.mishaps() == []


async def test_a_slot_that_leaves_during_an_unsubscribe_shifts_no_reply(
    redis_server: Server,
) -> None:
    """The server pushes `sunsubscribe` by itself, then refuses the command with MOVED.

    The push was taken for the confirmation and the refusal for the next command's reply: from then
    on each reply went to the wrong command, so that one operation's entries could reach another's.
    """
    replies: list[Any] = []
    pushes: list[Any] = []
    link, _ = await connect_link(
        Node(redis_server.host, redis_server.port),
        parse_address(RedisSettings(url=RedisUrl(redis_server.url))),
        pushes.append,
        lambda: None,
        Fanout(asyncio.get_running_loop()),
    )
    try:
        link.unsubscribe("SUNSUBSCRIBE", b"key")
        # What the cluster's server would send, in place of the real one's answers.
        link.send(b"", replies.append)
        link.data_received(b">3\r\n+sunsubscribe\r\n$3\r\nkey\r\n:0\r\n")
        link.data_received(b"-MOVED 16287 127.0.0.1:7000\r\n+PONG\r\n$4\r\nnext\r\n")
        assert replies == [b"next"]
        assert pushes == []
    finally:
        link.abort()


@pytest.mark.full
async def test_a_slow_viewer_is_told_what_was_trimmed_before_it_came_to_it(
    redis_server: Server,
) -> None:
    """It had joined from the ring, which counted as proof for its cursor for ever after."""
    settings = {
        "topic.ring_entries": 10,
        "viewer.lagging_policy": "replay",
        "viewer.high_water_bytes": 2048,
        "viewer.low_water_bytes": 512,
        "viewer.notsent_lowat_bytes": 1024,
    }
    async with (
        redis_server.client() as client,
        gateway(redis_server.url, 1, settings) as replicas,
        audience("42", replicas) as viewers,
    ):
        publisher = Publisher(client, "42")
        (slow,) = await viewers.join(lags=[Lag(1, 2.0)])
        for _ in range(40):
            await publisher.write_many(25, maxlen=20)
        await publisher.finish()
        await viewers.end(await publisher.log_with(required=True), gaps=("trimmed",))
        assert slow.gaps()


class _Feed:
    """Answers nothing by itself."""

    def __init__(self) -> None:
        self.reads: list[StreamId] = []
        self.channel: Any = None

    def watch(self, operation: OperationId, listener: StreamListener) -> None:
        self.channel = listener

    def unwatch(self, operation: OperationId) -> None: ...

    def read(self, operation: OperationId, after: StreamId) -> None:
        self.reads.append(after)

    def clock(self, operation: OperationId) -> None: ...


class _Log:
    """The stream as it is by now: five entries."""

    @asynccontextmanager
    async def turn(self, operation: OperationId, by: str) -> AsyncIterator[_Log]:
        yield self

    async def after(self, operation: OperationId, after: StreamId) -> Page:
        return page_of(5, after)

    async def locate(
        self, operation: OperationId, newest: int | None
    ) -> tuple[StreamInfo, StreamId]:
        raise NotImplementedError


class _Ear:
    """A viewer's socket that hears everything."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.listener: SenderListener | None = None
        self.writable = True
        self.record: ConnectionRecord = NO_RECORD
        self.spoken = asyncio.Event()

    def write(self, batch: Batch) -> None:
        self.heard.append(batch.websocket())
        self.spoken.set()

    def close(self, code: CloseCode, reason: str = "") -> None: ...


def page_of(count: int, after: StreamId | None) -> Page:
    """Entries 1 to `count`, read after a position."""
    info = StreamInfo(
        exists=True, first=StreamId(1, 0), last=StreamId(count, 0), length=count, added=count
    )
    ids = [n for n in range(1, count + 1) if after is None or StreamId(n, 0) > after]
    entries = [RawEntry(b"%d-0" % n, (b"message", b'{"data":{"n":%d}}' % n)) for n in ids]
    return Page(info, entries, more=False, after=after)


async def test_a_viewer_ahead_of_a_slow_link_is_not_taken_for_one_of_a_longer_log() -> None:
    """A page that was asked for before it came cannot tell that its cursor does not exist.

    It was told `rewound` and got the whole log again.
    """
    operation, feed, ear = OperationId("42"), _Feed(), _Ear()
    async with asyncio.TaskGroup() as tasks:

        def spawn(work: Coroutine[Any, Any, None], _name: str) -> None:
            tasks.create_task(work)

        fanout = Fanout(asyncio.get_running_loop())
        hub = Hub(Settings(), feed, _Log(), spawn, fanout.wake)
        ready = tasks.create_task(hub.ready(operation))
        await asyncio.sleep(0)
        channel = feed.channel
        channel.on_page(page_of(3, None))
        await ready
        channel.on_seen(b"4-0")
        position = StreamId(3, 0).before()  # a repair begins with the last entry
        assert feed.reads == [position]
        assert hub.join(operation, ear, Ask(StreamId(5, 0), None))
        await ear.spoken.wait()
        await asyncio.sleep(0)
        channel.on_page(page_of(3, position))  # as it was before entries 4 and 5
        assert feed.reads == [position, position]
        channel.on_page(page_of(5, position))
        await asyncio.sleep(0.01)
        assert len(ear.heard) == 1
        assert hub.stats().live == 1


async def test_a_viewer_ahead_of_a_gap_gets_nothing_twice() -> None:
    """It went live between the gap and the entries of one page, and was sent those again."""
    operation, feed, ear = OperationId("42"), _Feed(), _Ear()
    async with asyncio.TaskGroup() as tasks:

        def spawn(work: Coroutine[Any, Any, None], _name: str) -> None:
            tasks.create_task(work)

        fanout = Fanout(asyncio.get_running_loop())
        hub = Hub(Settings(), feed, _Log(), spawn, fanout.wake)
        ready = tasks.create_task(hub.ready(operation))
        await asyncio.sleep(0)
        channel = feed.channel
        channel.on_page(page_of(3, None))
        await ready
        assert hub.join(operation, ear, Ask(StreamId(4, 0), None))  # it has 5 from the log
        await ear.spoken.wait()
        await asyncio.sleep(0)
        only_the_last = StreamInfo(
            exists=True, first=StreamId(5, 0), last=StreamId(5, 0), length=1, added=5
        )
        entry = RawEntry(b"5-0", (b"message", b'{"data":{"n":5}}'))
        channel.on_page(Page(only_the_last, [entry], more=False, after=feed.reads[-1]))
        await asyncio.sleep(0.01)
        assert b"".join(ear.heard).count(b'"id":"5-0"') == 1
        assert hub.stats().live == 1


# --- another log with the same name


def topic_at(*ids: int) -> Topic:
    """A topic that has applied entries with these ids, the whole log, and has attached to it."""
    budget = RingBudget(1_000_000)
    rules = TopicRules(TerminalRules(), frozenset({"progress"}))
    topic = Topic(OperationId("42"), Ring(100, 100_000, budget), rules)
    topic.page(log_page(ids, None)._replace(registered=True))
    return topic


def log_page(ids: Sequence[int], after: StreamId | None) -> Page:
    """What a log with these ids answers."""
    info = StreamInfo(
        exists=True,
        first=StreamId(ids[0], 0),
        last=StreamId(ids[-1], 0),
        length=len(ids),
        added=len(ids),
    )
    wanted = [n for n in ids if after is None or StreamId(n, 0) > after]
    return Page(info, [raw(n) for n in wanted], more=False, after=after)


def raw(number: int) -> RawEntry:
    return RawEntry(b"%d-0" % number, (b"message", b"{}"))


def settle(topic: Topic, effects: Sequence[object], ids: Sequence[int]) -> list[StreamId]:
    """Answer each read from a log with these ids; the frames delivered, gaps as the id 0-0."""
    seen: list[StreamId] = []
    pending = list(effects)
    while pending:
        match pending.pop(0):
            case Deliver(frames=frames):
                seen += [ZERO if f.kind is FrameKind.GAP else f.id for f in frames]
            case ReadAfter(after=after):
                pending += topic.page(log_page(ids, after))
            case _:
                pass
    return seen


def at(*ids: int) -> list[StreamId]:
    """0 stands for a gap."""
    return [StreamId(n, 0) if n else ZERO for n in ids]


@pytest.mark.parametrize("new", [(5, 15, 35), (5, 15, 25, 35), (5, 35), (35,), (5, 6, 7)])
def test_a_new_log_around_the_position_is_announced(new: tuple[int, ...]) -> None:
    """`find_gap` calls it proven when an entry at or before the position exists: of any log."""
    topic = topic_at(10, 20, 30)
    relay = Relay(b"pod", b"", tuple(map(raw, new)), created=True, added=len(new))
    assert settle(topic, topic.relay(relay), new) == at(0, *new)


@pytest.mark.parametrize("new", [(5, 15, 35), (5, 35), (10, 20, 25, 35)])
def test_a_log_that_lost_its_tail_and_went_on_is_announced(new: tuple[int, ...]) -> None:
    """After a failover to a server whose clock is behind; the link was lost, so no relay tells."""
    topic = topic_at(10, 20, 30)
    topic.detached()
    after = topic.resume_after
    assert settle(topic, topic.page(log_page(new, after)), new) == at(0, *new)


def test_a_group_that_was_destroyed_is_taken_for_a_new_log() -> None:
    """With ids of the backend's own nothing tells the two apart."""
    topic = topic_at(10, 20, 30)
    relay = Relay(b"pod", b"", tuple(map(raw, (10, 20, 30, 40))), created=True, added=4)
    assert settle(topic, topic.relay(relay), (10, 20, 30, 40)) == at(0, 10, 20, 30, 40)


def test_a_group_that_somebody_made_at_the_end_hides_no_first_entry() -> None:
    """An attach of another replica came between the first entry and our look at it."""
    topic = Topic(
        OperationId("42"),
        Ring(100, 100_000, RingBudget(1_000_000)),
        TopicRules(TerminalRules(), frozenset()),
    )
    topic.page(Page(StreamInfo(), [], more=False, after=None))
    relay = Relay(b"other", b"", (), created=True, added=None)
    assert settle(topic, topic.relay(relay), (10,)) == at(10)


def test_a_lost_link_and_a_deleted_tail_are_no_new_log() -> None:
    """The position is beyond the last entry, which cannot be looked for then."""
    topic = topic_at(10, 20, 30)
    topic.detached()
    info = StreamInfo(exists=True, first=StreamId(10, 0), last=StreamId(40, 0), length=3, added=4)
    page = Page(info, [raw(30)], more=False, after=topic.resume_after)
    settle(topic, topic.page(page), (10, 20, 30))
    topic.detached()
    page = Page(info, [], more=False, after=topic.resume_after)
    assert settle(topic, topic.page(page), (10, 20, 30)) == []
