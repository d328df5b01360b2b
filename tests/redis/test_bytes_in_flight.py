"""What is on its way to a link is bounded in bytes: Redis ends a connection that it owes too much.

The link is a client with subscriptions, for which `client-output-buffer-limit pubsub` holds: 32 MB
by default. Servers that are to be strict have a limit of 1 MB here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.conftest import ON_EACH_SERVER
from tests.harness.backend import PREFIX, Backend
from tests.harness.replica import Replica
from tests.harness.viewer import Viewer
from tests.harness.waiting import PATIENCE_S, until
from tests.servers import binaries
from tests.servers.standalone import Options, Server
from tidegate.gateway import hub
from tidegate.redis.in_flight import MIB, MOST_BYTES, RELAY_BYTES, InFlight
from tidegate.redis.link import Link, pack
from tidegate.runtime import report

STRICT = Options(config={"client-output-buffer-limit": "pubsub 1mb 512kb 5"})
LARGE = 200_000
#: The history that a viewer gets when it asks for none.
HISTORY = 100

on_each_strict_server = pytest.mark.parametrize("name", ON_EACH_SERVER)


@asynccontextmanager
async def strict(name: str) -> AsyncIterator[tuple[Server, Backend]]:
    async with Server(binaries.require(name), STRICT) as server, server.client() as client:
        yield server, Backend(client)


@pytest.fixture
def patient_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    """How fast a burst is served is the machine's matter here, and the bench's."""
    monkeypatch.setattr(hub, "JOIN_PATIENCE_S", PATIENCE_S)


async def burst(server: Server, backend: Backend, operations: int) -> None:
    names = [f"op-{number}" for number in range(operations)]
    for name in names:
        await backend.publish_many(name, HISTORY + 1, pad=4096)
    async with Replica(server.url) as replica, replica.watch("bystander") as bystander:
        await bystander.state()

        async def arrive(name: str) -> list[int]:
            async with replica.watch(name) as viewer:
                await viewer.state()
                return [frame["data"]["n"] for frame in await viewer.entries(HISTORY)]

        arrivals = asyncio.gather(*map(arrive, names))
        while not arrivals.done():
            await bystander.until_id(await backend.publish("bystander"))
        assert await arrivals == [list(range(1, HISTORY + 1))] * len(names)
        assert replica.counts()["connects"] == 1, "Redis has ended the link"


@on_each_strict_server
async def test_viewers_with_a_large_history_each_that_come_at_once_ended_the_link(
    name: str, patient_joins: None
) -> None:
    async with strict(name) as (server, backend):
        await burst(server, backend, 40)


@pytest.mark.full
async def test_200_such_viewers_ended_the_link_of_a_server_with_its_default_limit(
    any_server: Server, either: Backend, patient_joins: None
) -> None:
    await burst(any_server, either, 200)


@on_each_strict_server
async def test_a_stream_of_entries_larger_than_the_limit_was_never_attached(name: str) -> None:
    async with strict(name) as (server, backend):
        written = await backend.publish_many("42", 8, pad=LARGE)
        async with Replica(server.url) as replica, replica.watch("42") as viewer:
            await viewer.state()
            assert await viewer.ids(8) == written
            assert replica.counts()["connects"] == 1


@on_each_strict_server
async def test_relays_of_large_entries_ended_the_link_of_every_replica(name: str) -> None:
    names = [f"op-{number}" for number in range(12)]
    async with strict(name) as (server, backend), AsyncExitStack() as stack:
        replicas = [
            await stack.enter_async_context(Replica(server.url, pod=f"pod-{number}"))
            for number in range(3)
        ]
        viewers: list[tuple[str, Viewer]] = []
        for replica in replicas:
            for operation in names:
                viewer = await stack.enter_async_context(replica.watch(operation))
                await viewer.state()
                viewers.append((operation, viewer))
        for number in range(2):  # when none was there before, and after the large ones
            written = {}
            for operation in names:
                written[operation] = await backend.publish_many(
                    operation, 6, pad=LARGE, type_="log"
                )
                written[operation].append(await backend.publish(operation, "log", n=number))
            for operation, viewer in viewers:
                assert await viewer.ids(7) == written[operation]
        assert [replica.counts()["connects"] for replica in replicas] == [1, 1, 1]


@on_each_strict_server
async def test_pages_of_large_entries_after_a_reconnect_ended_the_link_again(name: str) -> None:
    names = [f"op-{number}" for number in range(12)]
    async with strict(name) as (server, backend), AsyncExitStack() as stack:
        replica = await stack.enter_async_context(Replica(server.url))
        viewers: list[tuple[str, Viewer]] = []
        for operation in names:
            first = await backend.publish(operation, n=0)
            viewer = await stack.enter_async_context(replica.watch(operation))
            await viewer.until_id(first)
            viewers.append((operation, viewer))
        written = {}
        async with backend.client.pipeline(transaction=True) as pipe:
            pipe.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            for operation in names:
                for number in range(6):
                    _ = pipe.xadd(PREFIX + operation, {"n": number, "pad": "x" * LARGE})
            replies = await pipe.execute()
        ids = [reply.decode() for reply in replies[1:]]
        for place, operation in enumerate(names):
            written[operation] = ids[6 * place : 6 * place + 6]
        for operation, viewer in viewers:
            await viewer.until_id(written[operation][-1])
            seen = [frame["id"] for frame in viewer.frames if "id" in frame]
            assert seen[1:] == written[operation]
        assert replica.counts()["connects"] == 2


@on_each_strict_server
async def test_an_end_larger_than_a_page_of_the_link_left_its_operation_running(name: str) -> None:
    async with strict(name) as (server, backend):
        written = await backend.publish_many("42", 3, pad=40_000)
        last = await backend.publish(
            "42", "operation_completed", status="completed", result="x" * LARGE
        )
        async with Replica(server.url) as replica, replica.watch("42") as viewer:
            await viewer.state()
            assert await viewer.ids(4) == [*written, last]
            _, close = await viewer.rest()
            assert close.code == 1000
            assert replica.counts()["connects"] == 1


async def test_entries_that_were_published_together_and_too_large_to_relay_all_arrive(
    any_server: Server, either: Backend
) -> None:
    """A viewer on each of two replicas, whichever of them dispatches."""
    async with (
        Replica(any_server.url, pod="pod-1") as one,
        Replica(any_server.url, pod="pod-2") as two,
        one.watch("42") as first,
        two.watch("42") as second,
    ):
        await first.state()
        await second.state()
        written: list[str] = []
        for count, pad in ((1, 0), (40, 1_000), (1, 0), (3, RELAY_BYTES), (2, 0)):
            written += await either.publish_many("42", count, pad=pad, type_="log")
        assert await first.ids(len(written)) == written
        assert await second.ids(len(written)) == written
        assert one.counts()["relay_large"]
        assert two.counts()["relay_large"]


async def test_a_link_that_lived_briefly_was_followed_at_once_by_one_that_asks_for_as_much(
    redis_server: Server,
) -> None:
    async with Replica(redis_server.url, redis={"backoff_min_s": 0.05}) as replica:
        asked = [in_flight(replica).limit_bytes]
        pauses = []
        for _ in range(4):
            connects = replica.counts()["connects"]
            lost = asyncio.get_running_loop().time()
            link_of(replica).abort()
            await until(lambda n=connects: replica.counts()["connects"] > n)  # type: ignore[misc]
            pauses.append(asyncio.get_running_loop().time() - lost)
            asked.append(in_flight(replica).limit_bytes)
        assert asked == [MOST_BYTES // 2**n for n in range(5)]
        assert pauses[2] >= 0.1, "0.05, 0.1, 0.2 s, each times 0.5 to 1.5"


async def test_readiness_flipped_for_each_reconnect(
    redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Replica(redis_server.url, redis={"backoff_min_s": 0.2}) as replica:
        for _ in range(3):
            link_of(replica).abort()
            await until(lambda: not replica.feed.is_connected)
            assert replica.runtime._report.readiness().ready
            await until(lambda: replica.feed.is_connected)
        monkeypatch.setattr(report, "RECONNECT_GRACE_S", 0.2)
        await redis_server.stop()
        await until(lambda: not replica.runtime._report.readiness().ready)


async def test_a_replica_that_never_had_redis_is_not_ready() -> None:
    async with Replica("redis://127.0.0.1:1/0", wait_for_redis=False) as replica:
        assert not replica.runtime._report.readiness().ready


@on_each_strict_server
async def test_a_link_that_redis_ended_for_its_buffer_was_told_from_no_other(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with strict(name) as (server, _), Replica(server.url) as replica:
        viewer = replica.watch("42")
        async with viewer:  # without a subscription the link has no limit
            await viewer.state()
            large = pack("EVAL", f"return string.rep('x', {16 * MIB})", 0)
            link_of(replica).send(large, lambda _: None)
            await until(lambda: replica.counts()["connects"] == 2)
            assert replica.counts()["buffer_cuts"] == 1
            assert (
                "Redis closed the connection for its output buffer limit" in capsys.readouterr().out
            )
            await viewer.until(type="live")
            await server.restart()
            await until(lambda: replica.counts()["connects"] == 3)
            async with server.client() as client:
                await viewer.until_id(await Backend(client).publish("42"))
            link_of(replica).abort()
            await until(lambda: replica.counts()["connects"] == 4)
            assert replica.counts()["buffer_cuts"] == 1


def link_of(replica: Replica) -> Link:
    (primary,) = replica.feed._primaries.values()
    assert primary.dispatcher.link is not None
    return primary.dispatcher.link


def in_flight(replica: Replica) -> InFlight:
    (primary,) = replica.feed._primaries.values()
    return primary._in_flight
