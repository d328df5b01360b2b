"""Bugs in what viewers were sent: missed, repeated, misrouted, never closed."""

import asyncio

import pytest

from tests.harness.backend import GROUP, Backend
from tests.harness.replica import Replica
from tests.harness.viewer import Viewer
from tests.harness.waiting import until
from tests.servers.standalone import Server


@pytest.mark.parametrize(
    ("type_", "data"),
    [
        ("operation_completed", {"status": "completed"}),
        ("operation_failed", {"error": "no status at all"}),
        ("status_update", {"status": "cancelled"}),
        ("anything", {"status": "failed"}),
    ],
)
async def test_b01_an_end_is_an_end_whatever_type_tells_it(
    replica: Replica, backend: Backend, type_: str, data: dict[str, str]
) -> None:
    """Sockets closed only on a type that no publisher ever sent, so finished ones stayed open."""
    async with replica.watch("42") as viewer:
        await viewer.state()
        await backend.publish("42", "operation_started", status="running")
        await backend.publish("42", type_, **data)
        frames, close = await viewer.rest()
        assert [f["type"] for f in frames] == ["operation_started", type_]
        assert close.code == 1000


async def test_b02_last_100_is_the_newest_100(replica: Replica, backend: Backend) -> None:
    """A late joiner got the oldest 100 of up to 1,000 entries and missed the newest."""
    ids = await backend.publish_many("42", 1000)
    async with replica.watch("42") as viewer:
        await viewer.state()
        assert await viewer.ids(100) == ids[900:]


async def test_b03_nothing_comes_twice_when_history_meets_live(
    replicas: list[Replica], backend: Backend
) -> None:
    """History and the group's entries went two ways, so the first viewer got everything twice."""
    ids = await backend.publish_many("42", 50)

    async def watch(replica: Replica) -> list[str]:
        async with replica.watch("42", history="all") as viewer:
            await viewer.state()
            await viewer.until(type="operation_completed")
            return [f["id"] for f in viewer.frames if "id" in f]

    watching = []
    for number in range(10):  # viewers come while entries are written
        watching.append(asyncio.create_task(watch(replicas[number % 3])))
        ids += await backend.publish_many("42", 50, start=50 * number)
    ids.append(await backend.finish("42"))
    for seen in await asyncio.gather(*watching):
        assert seen == ids


async def test_b04_every_replica_gets_every_entry(
    replicas: list[Replica], backend: Backend
) -> None:
    """A shared group gave each of three replicas a third of 1,000 entries: 340, 330, 330."""
    a, b, c = replicas
    async with a.watch("42") as one, b.watch("42") as two, c.watch("42") as three:
        for viewer in (one, two, three):
            await viewer.state()
        ids: list[str] = []
        for start in range(0, 1000, 100):
            ids += await backend.publish_many("42", 100, start=start)
        for viewer in (one, two, three):
            assert await viewer.ids(1000) == ids


async def test_b04_a_replica_that_leaves_takes_the_group_from_nobody(
    redis_server: Server, backend: Backend
) -> None:
    """One process that left destroyed the group for all others."""
    async with Replica(redis_server.url, pod="stays") as stays, stays.watch("42") as viewer:
        await viewer.state()
        leaves = Replica(redis_server.url, pod="leaves")
        async with leaves, leaves.watch("42") as other:
            await other.state()
            ids = await backend.publish_many("42", 10)
            assert await viewer.ids(10) == await other.ids(10) == ids
        ids = await backend.publish_many("42", 10)
        assert await viewer.ids(10) == ids
        assert await backend.consumers("42") == ["stays"]


async def test_b05_restarts_leave_one_group_and_no_consumers(
    redis_server: Server, backend: Backend
) -> None:
    """Each process made a group of its own on each stream, and no group was ever removed."""
    await backend.publish("42")
    for number in range(4):
        replica = Replica(redis_server.url, pod=f"pod-{number}")
        async with replica, replica.watch("42") as viewer:
            await viewer.state()
            await backend.publish("42")
            await viewer.entries(2 + number)
    groups = await backend.groups("42")
    assert [(group["name"], group["consumers"]) for group in groups] == [(GROUP.encode(), 0)]


async def test_b06_a_poison_entry_stops_nothing_and_is_not_left_pending(
    replica: Replica, backend: Backend
) -> None:
    """An entry that did not parse was logged and stayed pending for ever."""
    async with replica.watch("42") as viewer:
        await viewer.state()
        poison = [
            await backend.add("42", {"message": text})
            for text in (b"{", b"\xff\xfe", b"null", b'{"type": 7}', b"[" * 100_000, b"")
        ]
        good = await backend.publish("42", value=1)
        frames = await viewer.entries(len(poison) + 1)
        assert [f["id"] for f in frames] == [*poison, good]
        assert {f["type"] for f in frames[:-1]} == {"malformed"}
        assert frames[-1]["data"] == {"value": 1}
    (group,) = await backend.groups("42")
    assert (group["pending"], group["lag"]) == (0, 0)
    assert replica.hub.counters.malformed == len(poison)


async def test_b07_operations_with_similar_ids_do_not_leak(
    replica: Replica, backend: Backend
) -> None:
    """Routing looked for the id inside a longer key: viewers of 12 got what was for 123."""
    names = ("1", "12", "123", "2", "x:12", "12:x", "12-", "_12")
    viewers = [replica.watch(name) for name in names]
    try:
        for viewer in viewers:
            await viewer.__aenter__()
            await viewer.state()
        for name in names:
            await backend.publish(name, "note", of=name)
        for name, viewer in zip(names, viewers, strict=True):
            (entry,) = await viewer.entries(1)
            assert (entry["operation"], entry["data"]) == (name, {"of": name})
        for viewer in viewers:
            await viewer.say('{"type":"ping"}')
            assert (await viewer.next())["type"] == "pong", "and nothing else came"
    finally:
        for viewer in viewers:
            await viewer.__aexit__()


async def test_b14_the_terminal_entry_is_not_left_pending(
    replica: Replica, backend: Backend
) -> None:
    """Closing the sockets cancelled the consumer before the last entry was acknowledged."""
    async with replica.watch("42") as viewer:
        await viewer.state()
        await backend.publish_many("42", 10)
        await backend.finish("42")
        _, close = await viewer.rest()
        assert close.code == 1000
    (group,) = await backend.groups("42")
    assert (group["pending"], group["lag"]) == (0, 0)


async def test_b17_the_last_update_of_a_burst_arrives(replica: Replica, backend: Backend) -> None:
    """A throttle dropped the end of a burst, so that the bar stayed at 97 %."""
    async with replica.watch("42") as reader:
        await reader.state()
        with await replica.raw("42", receive_buffer=4096) as slow:
            await slow.next_frames(type="current_state")
            for start in range(0, 2500, 250):
                await backend.publish_many("42", 250, start=start, pad=1000)
            last = await backend.publish("42", "progress", percent=100)
            await until(lambda: replica.hub.stats().lagging >= 1)
            await check_end(reader, last)
            frames = await slow.next_frames(id=last)
            assert any(f["type"] == "skipped" for f in frames), "it was conflated on the way"
            assert frames[-1]["data"] == {"percent": 100}


async def check_end(viewer: Viewer, last: str) -> None:
    frames = await viewer.until_id(last)
    assert frames[-1]["data"] == {"percent": 100}
