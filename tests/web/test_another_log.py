"""A backend that chooses its ids begins a log again: viewers get a gap, then all of it.

It was taken for the log that they had, and they got what was above its ids only, without a gap. Two
replicas watch, one of which dispatches while the other listens to it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from tests.harness.backend import PREFIX, Backend
from tests.harness.replica import Replica
from tests.harness.viewer import Json, Viewer
from tests.harness.waiting import until
from tests.servers.proxy import Proxy
from tests.servers.standalone import Server
from tidegate.model.ids import OperationId

KEY = PREFIX + "42"
OLD = ["1-0", "2-0", "3-0"]
NEW = [*OLD, "4-0"]
#: A paused machine must not end the wait for a stream that is gone for a moment.
PATIENT = {"expired_grace_s": 60}

Begin = Callable[..., Awaitable[None]]


async def add(client: Any, ids: list[str], log: str = "new", key: str = KEY) -> None:
    for entry_id in ids:
        await client.xadd(key, {"log": log}, id=entry_id)


async def at_once(backend: Backend, *_replicas: Replica) -> None:
    async with backend.client.pipeline(transaction=False) as pipe:
        _ = pipe.delete(KEY)
        for entry_id in NEW:
            _ = pipe.xadd(KEY, {"log": "new"}, id=entry_id)
        await pipe.execute()


async def in_one_multi(backend: Backend, *_replicas: Replica) -> None:
    async with backend.client.pipeline(transaction=True) as pipe:
        _ = pipe.delete(KEY)
        for entry_id in NEW:
            _ = pipe.xadd(KEY, {"log": "new"}, id=entry_id)
        await pipe.execute()


async def one_by_one(backend: Backend, *_replicas: Replica) -> None:
    await backend.client.delete(KEY)
    await add(backend.client, NEW)


async def later(backend: Backend, *replicas: Replica) -> None:
    await backend.client.delete(KEY)
    await until(lambda: all(map(has_vanished, replicas)), "both have seen that it is gone")
    await add(backend.client, NEW)


async def expired(backend: Backend, *_replicas: Replica) -> None:
    await backend.client.pexpire(KEY, 1)
    await until(lambda: _is_gone(backend), "expired")
    await add(backend.client, NEW)


async def _is_gone(backend: Backend) -> bool:
    return not await backend.exists("42")


def has_vanished(replica: Replica) -> bool:
    channel = replica.channel("42")
    return channel is not None and channel.topic.vanished


async def by_rename(backend: Backend, *_replicas: Replica) -> None:
    await add(backend.client, NEW, key="elsewhere")
    await backend.client.rename("elsewhere", KEY)


async def as_long_as_the_old_one(backend: Backend, *_replicas: Replica) -> None:
    async with backend.client.pipeline(transaction=True) as pipe:
        _ = pipe.delete(KEY)
        for entry_id in OLD:
            _ = pipe.xadd(KEY, {"log": "new"}, id=entry_id)
        await pipe.execute()


WAYS: list[Begin] = [
    at_once, in_one_multi, one_by_one, later, expired, by_rename, as_long_as_the_old_one,
]  # fmt: skip


@asynccontextmanager
async def watched(backend: Backend, *replicas: Replica) -> AsyncIterator[list[Viewer]]:
    """A viewer on each, which has the old log; one replica dispatches and one listens."""
    async with AsyncExitStack() as stack:
        viewers = [await stack.enter_async_context(r.watch("42")) for r in replicas]
        for viewer in viewers:
            await viewer.state()
        await add(backend.client, OLD, "old")
        for viewer in viewers:
            assert await viewer.ids(3) == OLD
        if len(replicas) > 1:
            await until(lambda: one_listens(replicas), "one replica listens to the other")
        yield viewers


def one_listens(replicas: tuple[Replica, ...]) -> bool:
    found = [replica.feed.following(OperationId("42")) for replica in replicas]
    return {"leading"} < {one.role for one in found if one is not None}


async def new_log(viewer: Viewer, ids: list[str]) -> None:
    """A gap, then the new log as a whole, each entry once; the gap may come late, never missing."""
    got: list[Json] = []
    while [f["id"] for f in got if "id" in f] != ids:
        got.append(await viewer.next())
    assert [f["type"] for f in got] == ["gap"] + ["update"] * len(ids), got
    assert (got[0]["data"]["after"], got[0]["data"]["reason"]) == ("3-0", "recreated")
    assert {f["data"]["log"] for f in got[1:]} == {"new"}


@pytest.mark.parametrize("begin", WAYS, ids=lambda way: way.__name__)
async def test_a_log_that_begins_again_with_the_same_ids(
    redis_server: Server, backend: Backend, begin: Begin
) -> None:
    groups: dict[str, Any] = {"dispatch": {"follow_after": 1}, "topic": PATIENT}
    async with (
        Replica(redis_server.url, pod="pod-1", **groups) as one,
        Replica(redis_server.url, pod="pod-2", **groups) as two,
        watched(backend, one, two) as viewers,
    ):
        await begin(backend, one, two)
        ids = OLD if begin is as_long_as_the_old_one else NEW
        for viewer in viewers:
            await new_log(viewer, ids)
        await add(backend.client, ["5-0"])
        for viewer in viewers:
            assert await viewer.ids(1) == ["5-0"], "and it is followed like any other"


@pytest.mark.parametrize("is_first", [True, False], ids=["first to come back", "second"])
async def test_a_log_that_began_again_while_the_link_was_lost(
    redis_server: Server, backend: Backend, is_first: bool
) -> None:
    """The group is new, or it is there again because another replica has made it anew."""
    async with Proxy((redis_server.host, redis_server.port)) as proxy:
        url = f"redis://{proxy.address}/0"
        async with (
            Replica(url, topic=PATIENT) as one,
            Replica(redis_server.url, pod="pod-2", topic=PATIENT) as two,
            watched(backend, one) as (viewer,),
        ):
            await proxy.refuse()
            proxy.cut()
            assert (await viewer.next())["type"] == "stale"
            await at_once(backend)
            if not is_first:
                async with two.watch("42") as other:
                    await other.state()
                    assert await other.ids(4) == NEW
            await proxy.accept()
            assert (await viewer.next())["type"] == "live"
            await new_log(viewer, NEW)


async def test_a_log_that_goes_on_while_the_link_was_lost_is_the_same(
    redis_server: Server, backend: Backend
) -> None:
    async with Proxy((redis_server.host, redis_server.port)) as proxy:
        url = f"redis://{proxy.address}/0"
        async with (
            Replica(url, topic=PATIENT) as one,
            Replica(redis_server.url, pod="pod-2", topic=PATIENT) as two,
            watched(backend, one) as (viewer,),
        ):
            await proxy.refuse()
            proxy.cut()
            assert (await viewer.next())["type"] == "stale"
            await add(backend.client, ["4-0"])
            async with two.watch("42") as other:
                await other.state()
                await other.ids(4)
            await proxy.accept()
            assert (await viewer.next())["type"] == "live"
            assert await viewer.ids(1) == ["4-0"]
