"""Many operations on one socket: each in order, each with its own end; a slow one harms nobody.

Part of the sender contract: every test runs over the direct and over the plain ASGI sender.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from tests.harness.backend import Backend
from tests.harness.examples import examples
from tests.harness.raw_viewer import RawViewer
from tests.harness.replica import Replica
from tests.harness.viewer import TIMEOUT_S, Json, OrderCheck
from tests.harness.waiting import until
from tests.servers.standalone import Server
from tidegate.gateway import hub
from tidegate.web.ws import subscriptions
from tidegate.web.ws.outbox import WRITE_MAX_BYTES, Outbox

#: Entries of 2 KB for each of 20 operations.
EACH = 300


class ManyViewer:
    """One multiplexed socket that holds the gateway to its promise, operation by operation.

    A watch begins with `current_state` and ends with `unwatched`; between them the ids rise, and
    nothing of an operation comes outside.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.frames: dict[str | None, list[Json]] = defaultdict(list)
        self._order: dict[str, OrderCheck] = {}
        self._open: set[str] = set()
        self._afresh: set[str] = set()

    async def say(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))

    async def watch(self, operation: str, **ask: Any) -> None:
        if not ask.get("last_event_id"):
            self._afresh.add(operation)
        await self.say(type="watch", operation=operation, **ask)

    async def unwatch(self, operation: str) -> None:
        await self.say(type="unwatch", operation=operation)

    async def next(self) -> Json:
        async with asyncio.timeout(TIMEOUT_S):
            frame: Json = json.loads(await self.socket.recv())
        operation: Any = frame.get("operation")
        self.frames[operation].append(frame)
        if frame["type"] == "current_state":
            assert operation not in self._open, frame
            self._open.add(operation)
            if operation in self._afresh or operation not in self._order:
                self._afresh.discard(operation)
                self._order[operation] = OrderCheck()  # its history begins anew
        elif frame["type"] == "unwatched":
            self._open.discard(operation)
        elif "id" in frame or frame["type"] in ("gap", "skipped"):
            assert operation in self._open, f"outside of its watch: {frame}"
            self._order[operation].see(frame)
        return frame

    async def until(self, **wanted: object) -> Json:
        while True:
            frame = await self.next()
            if all(frame.get(name) == value for name, value in wanted.items()):
                return frame

    async def error(self, code: str, **wanted: object) -> Json:
        frame = await self.until(type="error", **wanted)
        assert frame["data"]["code"] == code, frame
        return frame

    async def ping(self) -> None:
        await self.say(type="ping")
        await self.until(type="pong")

    def ids(self, operation: str) -> list[str]:
        """All ids of entries seen so far."""
        return [frame["id"] for frame in self.frames[operation] if "id" in frame]

    async def closed(self) -> int:
        try:
            while True:
                await self.next()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.socket.close()


def url(replica: Replica) -> str:
    return f"ws://127.0.0.1:{replica.settings.server.port}/ws"


@asynccontextmanager
async def many(replica: Replica) -> AsyncIterator[ManyViewer]:
    async with connect(
        url(replica),
        subprotocols=["tidegate.v1"],  # type: ignore[list-item]  # a NewType of str
        compression=None,
        max_size=None,
        max_queue=None,
        close_timeout=2,
    ) as socket:
        assert socket.subprotocol == "tidegate.v1"
        yield ManyViewer(socket)


async def test_many_operations_each_in_order(replica: Replica, backend: Backend) -> None:
    operations = [f"op-{n}" for n in range(40)]
    async with many(replica) as viewer:
        for operation in operations:
            await viewer.watch(operation)
        expected: dict[str, list[str]] = defaultdict(list)
        for _ in range(10):
            for operation in random.sample(operations, len(operations)):
                expected[operation] += await backend.publish_many(operation, 2)
        while any(len(viewer.ids(o)) < 20 for o in operations):
            await viewer.next()
        assert {o: viewer.ids(o) for o in operations} == expected
    await until(lambda: replica.viewers == 0)


async def test_each_operation_has_its_own_cursor(replica: Replica, backend: Backend) -> None:
    a = await backend.publish_many("a", 10)
    b = await backend.publish_many("b", 10)
    c = await backend.publish_many("c", 10)
    await backend.publish_many("d", 10)
    async with many(replica) as viewer:
        await viewer.watch("a", last_event_id=a[3])
        await viewer.watch("b", history=2)
        await viewer.watch("c", history="all", last_event_id=None)
        await viewer.watch("d", history="none")
        while len(viewer.ids("a")) < 6 or len(viewer.ids("b")) < 2 or len(viewer.ids("c")) < 10:
            await viewer.next()
        d = [await backend.publish("d")]
        await viewer.until(id=d[0])
        assert viewer.ids("a") == a[4:]
        assert viewer.ids("b") == b[8:]
        assert viewer.ids("c") == c
        assert viewer.ids("d") == d
        assert viewer.frames["a"][0]["cursor"] == a[3]


async def test_watch_and_unwatch_between_entries_lose_and_repeat_nothing(
    redis_server: Server, backend: Backend, sender: str
) -> None:
    """One that resumes each time where it was sees the whole log, whatever the interleaving."""
    operations = [f"op-{n}" for n in range(8)]
    rng = random.Random(42)
    expected: dict[str, list[str]] = defaultdict(list)
    done = asyncio.Event()

    async def publish() -> None:
        for n in range(examples(150)):
            for operation in operations:
                expected[operation] += await backend.publish_many(operation, 1, start=n)
        done.set()

    fast = {"messages_per_s": 100_000}
    async with (
        Replica(redis_server.url, sender=sender, viewer=fast) as replica,
        many(replica) as viewer,
        asyncio.TaskGroup() as tasks,
    ):
        for operation in operations:
            await viewer.watch(operation, history="all")
        tasks.create_task(publish())
        while not done.is_set():
            operation = rng.choice(operations)
            await viewer.unwatch(operation)
            await viewer.until(type="unwatched", operation=operation)
            seen = viewer.ids(operation)
            await viewer.watch(operation, last_event_id=seen[-1] if seen else "0-0")
            for _ in range(rng.randrange(4)):
                await viewer.ping()
        while any(viewer.ids(o)[-1:] != expected[o][-1:] for o in operations):
            await viewer.next()
        for operation in operations:
            assert viewer.ids(operation) == expected[operation]


async def test_a_finished_operation_ends_its_watch_and_not_the_socket(
    replica: Replica, backend: Backend
) -> None:
    async with many(replica) as viewer:
        await viewer.watch("42")
        await viewer.watch("43")
        await viewer.ping()
        end = await backend.finish("42")
        frame = await viewer.until(type="unwatched")
        assert frame == {
            "type": "unwatched",
            "operation": "42",
            "data": {"code": 1000, "name": "finished"},
        }
        assert viewer.ids("42") == [end]
        entry = await backend.publish("43")
        await viewer.until(id=entry)
        await viewer.watch("42")  # once more: state, history, end
        await viewer.until(type="unwatched")
        assert viewer.ids("42") == [end, end]
        state = viewer.frames["42"][-3]
        assert (state["data"]["status"], state["at"]) == ("completed", end)


async def test_unwatch_is_answered_and_nothing_follows(replica: Replica, backend: Backend) -> None:
    async with many(replica) as viewer:
        await viewer.watch("42")
        await viewer.until(type="current_state")
        await viewer.unwatch("42")
        frame = await viewer.until(type="unwatched")
        assert frame["data"] == {"code": 1000, "name": "unwatch"}
        await until(lambda: replica.viewers == 0)
        await backend.publish_many("42", 3)
        await viewer.ping()
        assert viewer.ids("42") == []


async def test_errors_name_their_operation_and_leave_the_others_alone(
    replica: Replica, backend: Backend
) -> None:
    async with many(replica) as viewer:
        await viewer.watch("42")
        await viewer.until(type="current_state")
        await viewer.watch("42")
        await viewer.error("already_watched", operation="42")
        await viewer.unwatch("nobody")
        await viewer.error("not_watched", operation="nobody")
        await backend.client.set("operation-progress:text", "no stream")
        await viewer.watch("text")
        await viewer.error("not_a_stream", operation="text")
        frame = await viewer.until(type="unwatched", operation="text")
        assert frame["data"] == {"code": 4404, "name": "not_found"}
        refused: list[tuple[Json, str]] = [
            ({"operation": "*"}, "*"),
            ({"operation": ""}, ""),
            ({"operation": "x" * 500}, "x" * 128),
            ({"operation": "\x00\u2028"}, "\x00\u2028"),
            ({"operation": "7", "last_event_id": "nonsense"}, "7"),
            ({"operation": "7", "last_event_id": "9" * 30}, "7"),
            ({"operation": "7", "history": -1}, "7"),
            ({"operation": "7", "history": 10**9}, "7"),
            ({"operation": "7", "history": "some"}, "7"),
        ]
        for ask, operation in refused:
            await viewer.say(type="watch", **ask)
            await viewer.error("bad_request", operation=operation)
        garbled: list[Json] = [
            {},
            {"operation": 7},
            {"operation": None},
            {"operation": ["7"]},
            {"operation": "7", "history": True},
            {"operation": "7", "history": 1.5},
            {"operation": "7", "last_event_id": 5},
        ]
        for ask in garbled:
            await viewer.say(type="watch", **ask)
            await viewer.error("bad_message")
        await viewer.say(type="unwatch")
        await viewer.error("bad_message")
        entry = await backend.publish("42")
        await viewer.until(id=entry)
        await viewer.watch("7")
        await viewer.until(type="current_state", operation="7")


@pytest.mark.parametrize("sender", ["direct"])
async def test_the_number_of_watches_is_bounded(
    redis_server: Server, backend: Backend, sender: str
) -> None:
    few = {"max_watches": 5}
    async with Replica(redis_server.url, sender=sender, viewer=few) as replica:  # noqa: SIM117
        async with many(replica) as viewer:
            for n in range(7):
                await viewer.watch(f"op-{n}")
            await viewer.error("too_many_watches", operation="op-5")
            await viewer.error("too_many_watches", operation="op-6")
            await viewer.unwatch("op-0")
            await viewer.watch("op-6")
            await viewer.until(type="current_state", operation="op-6")
            assert replica.viewers == 5


async def test_all_watches_of_a_page_may_come_at_once(replica: Replica, backend: Backend) -> None:
    """The bound on messages leaves room for a viewer that comes back with everything it had."""
    async with many(replica) as viewer:
        for n in range(128):
            await viewer.watch(f"op-{n}")
        states = 0
        while states < 128:
            states += (await viewer.next())["type"] == "current_state"
        await viewer.watch("one-more")
        await viewer.error("too_many_watches", operation="one-more")
        for _ in range(200):
            await viewer.say(type="ping")
        await viewer.error("too_many_messages")
        assert await viewer.closed() == 4400
    await until(lambda: replica.viewers == 0)


async def test_single_operation_sockets_do_not_know_watch(replica: Replica) -> None:
    async with replica.watch("42") as viewer:
        await viewer.state()
        await viewer.say('{"type":"watch","operation":"43"}')
        assert (await viewer.next())["data"]["code"] == "unknown_message"


async def test_frames_of_one_turn_go_out_in_one_write(
    replica: Replica, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[int] = []

    class Spy(Outbox):
        __slots__ = ()

        def flush(self) -> None:
            if self._batches:
                writes.append(len(self._batches))
            super().flush()

    monkeypatch.setattr(subscriptions, "Outbox", Spy)
    operations = [f"op-{n}" for n in range(50)]
    async with many(replica) as viewer:
        for operation in operations:
            await viewer.watch(operation)
        while not viewer.frames.keys() >= set(operations):
            await viewer.next()
        writes.clear()
        async with backend.client.pipeline(transaction=True) as pipe:
            for operation in operations:
                _ = pipe.xadd(f"operation-progress:{operation}", {"n": 1})
            await pipe.execute()
        while any(not viewer.ids(o) for o in operations):
            await viewer.next()
        assert sum(writes) == 50
        assert len(writes) <= 10, writes


@pytest.mark.timeout(400)
async def test_a_slow_socket_costs_bounded_memory_and_delays_nobody(
    redis_server: Server, backend: Backend, sender: str
) -> None:
    """It does not read while 12 MB are written to what it watches, more than the buffers of both
    ends together; then it has it all.
    """
    operations = [f"op-{n}" for n in range(20)]
    # It answers no ping, and a busy machine takes longer than the usual patience.
    patient = {"ping_timeout_s": 600}
    async with Replica(redis_server.url, sender=sender, viewer=patient) as replica:
        await _read_late(replica, backend, operations)


async def _read_late(replica: Replica, backend: Backend, operations: list[str]) -> None:
    limits = replica.settings.viewer
    viewer = await RawViewer.open(url(replica), receive_buffer=4096)
    with viewer:
        for operation in operations:
            text = json.dumps({"type": "watch", "operation": operation, "history": "all"})
            await viewer.write(Frame(Opcode.TEXT, text.encode()).serialize(mask=True))
        await until(lambda: replica.viewers == 20)
        async with many(replica) as other:
            await other.watch("op-0", history="none")
            await other.until(type="current_state")
            expected: dict[str, list[str]] = defaultdict(list)
            for start in range(0, EACH, 100):
                for operation in operations:
                    expected[operation] += await backend.publish_many(
                        operation, 100, start=start, pad=2000, type_="log"
                    )
                await other.until(id=expected["op-0"][-1])  # nobody waits for the slow one
            assert other.ids("op-0") == expected["op-0"]
        await until(lambda: replica.hub.stats().lagging == 20)
        held = max(one.unsent_bytes for one in replica.runtime._limiter._inside)
        assert held <= limits.high_water_bytes + 2 * WRITE_MAX_BYTES

        got: dict[str, list[str]] = defaultdict(list)
        viewer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1_000_000)  # in large pieces
        while any(len(got[o]) < EACH for o in operations):
            assert await viewer.read(), "the server hung up"
            for frame in viewer.take():
                if "id" in frame:
                    got[frame["operation"]].append(frame["id"])
        assert got == expected
    await until(lambda: replica.viewers == 0)


async def test_a_slow_socket_is_conflated_for_each_operation(
    replica: Replica, backend: Backend
) -> None:
    viewer = await RawViewer.open(url(replica), receive_buffer=4096)
    with viewer:
        for operation in ("a", "b"):
            text = json.dumps({"type": "watch", "operation": operation})
            await viewer.write(Frame(Opcode.TEXT, text.encode()).serialize(mask=True))
        await until(lambda: replica.viewers == 2)
        last = {}
        for _ in range(20):
            for operation in ("a", "b"):
                last[operation] = (await backend.publish_many(operation, 100, pad=1000))[-1]
        await until(lambda: replica.hub.stats().lagging == 2)
        frames: list[Json] = []
        done: set[str] = set()
        while len(done) < 2:
            assert await viewer.read()
            new = viewer.take()
            frames += new
            done |= {f["operation"] for f in new if f.get("id") == last[f["operation"]]}
        for operation in ("a", "b"):
            mine = [f for f in frames if f["operation"] == operation]
            entries = sum("id" in f for f in mine)
            skipped = sum(f["data"]["count"] for f in mine if f["type"] == "skipped")
            assert skipped > 0
            assert entries + skipped == 2000


async def test_answers_to_one_that_does_not_read_are_bounded(
    redis_server: Server, backend: Backend, sender: str
) -> None:
    """Watch and unwatch for ever, read nothing: closed as slow, not kept in memory."""
    fast = {"messages_per_s": 100_000}
    async with Replica(redis_server.url, sender=sender, viewer=fast) as replica:
        viewer = await RawViewer.open(url(replica), receive_buffer=4096)
        with viewer:
            watch = Frame(Opcode.TEXT, b'{"type":"watch","operation":"42","history":"all"}')
            await viewer.write(watch.serialize(mask=True))
            await until(lambda: replica.viewers == 1)
            await backend.publish_many("42", 2000, pad=2000, type_="log")
            await until(lambda: replica.hub.stats().lagging == 1)
            both = b""
            for kind in ("watch", "unwatch"):
                text = json.dumps({"type": kind, "operation": "43"}).encode()
                both += Frame(Opcode.TEXT, text).serialize(mask=True)
            try:
                await viewer.write(both * 1000)
            except ConnectionError:
                pass
            await until(lambda: replica.viewers == 0)
            await viewer.until_end()
            assert viewer.close_code in (4408, None)  # cut off, or told behind all that


async def test_a_multiplexed_socket_is_sent_away_once(
    redis_server: Server, backend: Backend, sender: str
) -> None:
    drain = {"delay_s": 0, "window_s": 0.1}
    async with Replica(redis_server.url, sender=sender, drain=drain) as replica:  # noqa: SIM117
        async with many(replica) as viewer, many(replica) as idle:
            for n in range(10):
                await viewer.watch(f"op-{n}")
            await viewer.ping()
            stopping = asyncio.create_task(replica.stop())
            assert await viewer.closed() == 1012
            assert await idle.closed() == 1012
            await stopping
            kinds = [f["type"] for frames in viewer.frames.values() for f in frames]
            assert kinds.count("reconnect") == 1
            assert viewer.frames[None][-1]["data"]["reason"] == "draining"
            assert [f["type"] for f in idle.frames[None]] == ["reconnect"]


async def test_a_socket_that_vanishes_leaves_nothing(replica: Replica, backend: Backend) -> None:
    async with many(replica) as viewer:
        for n in range(20):
            await viewer.watch(f"op-{n}")
        await viewer.ping()
        viewer.socket.transport.abort()
        await until(lambda: replica.viewers == 0)
        await until(lambda: len(replica.runtime._limiter) == 0)
    await until(lambda: not replica.hub.channels or replica.viewers == 0)


async def test_a_socket_that_vanishes_in_the_middle_of_joining_leaves_nothing(
    replica: Replica, backend: Backend
) -> None:
    for n in range(10):
        async with many(replica) as viewer:
            for k in range(20):
                await viewer.watch(f"op-{n}-{k}")
            viewer.socket.transport.abort()
    await until(lambda: len(replica.runtime._limiter) == 0)
    await until(lambda: replica.viewers == 0)
    await until(lambda: all(a.waiting == 0 for a in replica.hub.channels.values()))


async def test_redis_away_is_an_error_of_the_operation(
    redis_server: Server, backend: Backend, sender: str
) -> None:
    """The socket stays; the watch is over, and may be asked for again."""
    async with Replica(redis_server.url, sender=sender) as replica:  # noqa: SIM117
        async with many(replica) as viewer:
            await viewer.watch("here")
            await viewer.until(type="current_state")
            redis_server.pause()
            try:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(hub, "JOIN_PATIENCE_S", 0.3)
                    await viewer.watch("there")
                    frame = await viewer.error("redis_unavailable", operation="there")
                assert frame["data"]["retry"] is True
                frame = await viewer.until(type="unwatched", operation="there")
                assert frame["data"] == {"code": 1013, "name": "overloaded"}
            finally:
                redis_server.resume()
            entry = await backend.publish("here")
            await viewer.until(id=entry)
            await viewer.watch("there")
            await viewer.until(type="current_state", operation="there")
