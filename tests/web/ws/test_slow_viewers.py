"""Viewers that do not read: bounded memory for them, no delay for the others, and what each policy
gives them when they read again.

Part of the sender contract: every test runs over the direct and over the plain ASGI sender.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.harness.backend import Backend
from tests.harness.raw_viewer import RawViewer
from tests.harness.replica import Replica
from tests.harness.viewer import Json, OrderCheck
from tests.harness.waiting import until
from tests.servers.standalone import Server
from tests.web.ws.test_endings import Graces
from tidegate.gateway.outbox import ITEM_MAX_BYTES
from tidegate.gateway.viewer import ChannelViewer as Served
from tidegate.gateway.viewer import ViewerState
from tidegate.web.asgi_sender import AsgiSender
from tidegate.web.ws.protocol import Phase
from tidegate.web.ws.sender import DirectSender

ENTRY_BYTES = 1000
COUNT = 3000  # 3 MB: more than the kernel's buffers of both ends together
HIGH_WATER = 65_536
#: It answers no ping and reads its close late: none of that may end it on a busy machine.
PATIENT = {"ping_interval_s": 600, "close_timeout_s": 60}


@asynccontextmanager
async def a_stuck_viewer(
    server: Server, sender: str, **viewer: Any
) -> AsyncIterator[tuple[Replica, RawViewer]]:
    """A replica with one viewer that has read its state and reads no more."""
    async with Replica(server.url, sender=sender, viewer={**PATIENT, **viewer}) as replica:
        with await replica.raw("42", receive_buffer=4096) as stuck:
            await stuck.next_frames(type="current_state")
            yield replica, stuck


def served(replica: Replica) -> Served:
    """The gateway's side of the viewer that lags."""
    channel = replica.channel("42")
    assert channel is not None
    (viewer,) = channel.behind
    return viewer


def only_one(replica: Replica) -> Served:
    """The gateway's side of the one viewer there is, lagging or not."""
    channel = replica.channel("42")
    assert channel is not None
    (viewer,) = channel.viewers()
    return viewer


def unsent_bytes(viewer: Served) -> int:
    """All that is held for this viewer alone."""
    sender = viewer.sender
    if isinstance(sender, AsgiSender):
        return sender._size
    assert isinstance(sender, DirectSender)
    return sender.protocol.transport.get_write_buffer_size()


def protocol_of(viewer: Served) -> Any:
    """The connection behind either sender."""
    sender: Any = viewer.sender
    return sender.protocol if isinstance(sender, DirectSender) else sender._send.__self__._protocol


def ids_of(frames: list[Json]) -> list[str]:
    order = OrderCheck()
    for frame in frames:
        order.see(frame)
    return [frame["id"] for frame in frames if "id" in frame]


async def test_a_viewer_that_never_reads_delays_nobody_and_costs_a_bound(
    redis_server: Server, backend: Backend, sender: str
) -> None:
    stuck_viewer = a_stuck_viewer(redis_server, sender)
    async with stuck_viewer as (replica, _), replica.watch("42") as reader:
        await reader.state()
        # In bursts below the mark: above it the reader is a slow one for a moment, too.
        for start in range(0, COUNT, 30):
            ids = await backend.publish_many("42", 30, start=start, pad=ENTRY_BYTES)
            assert await reader.ids(30) == ids
        viewer = served(replica)
        assert viewer.state is ViewerState.LAGGING
        assert unsent_bytes(viewer) <= HIGH_WATER + ITEM_MAX_BYTES + ENTRY_BYTES + 200
        at_first = unsent_bytes(viewer)
        ids = await backend.publish_many("42", 1000, pad=ENTRY_BYTES, type_="log")
        assert await reader.ids(1000) == ids
        assert unsent_bytes(viewer) <= at_first, "constant, however much it misses"
        channel = replica.channel("42")
        assert channel is not None
        assert channel.stats().outbox == 0


async def test_reading_again_gives_the_latest_and_says_how_many_were_skipped(
    redis_server: Server, backend: Backend, sender: str
) -> None:
    async with a_stuck_viewer(redis_server, sender) as (replica, stuck):
        ids = []
        logs = []
        for start in range(0, COUNT, 100):
            ids += await backend.publish_many("42", 100, start=start, pad=ENTRY_BYTES)
            logs.append(await backend.publish("42", "log", at=start))
        ids.append(await backend.publish("42", "progress", value=100))
        await until(lambda: replica.hub.stats().lagging == 1)
        frames = await stuck.next_frames(id=ids[-1])
        seen = ids_of(frames)
        skipped = sum(f["data"]["count"] for f in frames if f["type"] == "skipped")
        assert skipped > 0
        assert len(seen) + skipped == len(ids) + len(logs)
        assert set(logs) <= set(seen), "what is not superseded is kept"
        assert seen[-1] == ids[-1]
        new = await backend.publish("42", "progress", value=101)
        assert ids_of(await stuck.next_frames(id=new))[-1] == new
        await until(lambda: replica.hub.stats().live == 1)


async def test_with_disconnect_it_is_closed_with_4408_in_time(
    redis_server: Server, backend: Backend, sender: str
) -> None:
    async with a_stuck_viewer(
        redis_server, sender, lagging_policy="disconnect", lagging_timeout_s=0.3
    ) as (replica, stuck):
        await backend.publish_many("42", COUNT, pad=ENTRY_BYTES)
        await until(lambda: replica.hub.counters.closes["slow"] == 1)
        await stuck.until_end()
        assert stuck.close_code == 4408
        ids_of(stuck.take())
        await until(lambda: replica.viewers == 0)


async def test_one_that_never_reads_its_close_is_cut(
    redis_server: Server, backend: Backend, sender: str
) -> None:
    """4408 cannot reach it; the socket has to go all the same."""
    # Over ASGI the pings cut it, and must not while the entries are still being published.
    pings = {"ping_interval_s": 1, "ping_timeout_s": 4}
    quick = {"lagging_timeout_s": 0.1, "close_timeout_s": 1, **pings}
    async with a_stuck_viewer(redis_server, sender, lagging_policy="disconnect", **quick) as (
        replica,
        _,
    ):
        # Asked for before: it may be cut while the last entries are still being published.
        protocol = protocol_of(only_one(replica))
        await backend.publish_many("42", COUNT, pad=ENTRY_BYTES)
        await until(lambda: replica.hub.counters.closes["slow"] == 1)
        await until(lambda: protocol.phase is Phase.ENDED, "the connection is gone")


@pytest.mark.full
async def test_a_slow_viewer_that_resumes_in_the_middle_keeps_its_order(
    redis_server: Server, backend: Backend, sender: str
) -> None:
    """It reads in fits while entries pour in: lagging, catching up and live change all the time."""
    async with a_stuck_viewer(redis_server, sender, lagging_policy="replay") as (_, stuck):
        ids: list[str] = []
        frames: list[Json] = []
        for start in range(0, COUNT, 300):
            ids += await backend.publish_many("42", 300, start=start, pad=ENTRY_BYTES)
            for _ in range(20):
                await stuck.read()
            frames += stuck.take()
        frames += await stuck.next_frames(id=ids[-1])
        assert ids_of(frames) == ids


@pytest.mark.full
async def test_a_lagging_viewer_gets_the_end_before_1000(
    redis_server: Server, backend: Backend, sender: str
) -> None:
    async with a_stuck_viewer(redis_server, sender) as (replica, stuck):
        await backend.publish_many("42", COUNT, pad=ENTRY_BYTES)
        await until(lambda: replica.hub.stats().lagging == 1)
        graces = Graces(replica)
        grace_s = replica.settings.topic.terminal_grace_s
        last = await backend.finish("42")
        await until(lambda: graces.waits(grace_s))
        graces.over(grace_s)
        assert replica.viewers == 1, "whoever lags has not seen the end"
        graces.let_go()
        await stuck.until_end()
        assert ids_of(stuck.take())[-1] == last
        assert stuck.close_code == 1000


@pytest.mark.full
async def test_a_slow_joiner_of_a_long_history_is_no_burden(
    redis_server: Server, backend: Backend, sender: str
) -> None:
    ids = await backend.publish_many("42", COUNT, pad=ENTRY_BYTES)
    async with Replica(redis_server.url, sender=sender, viewer=PATIENT) as replica:
        with await replica.raw("42", receive_buffer=4096, history="all") as stuck:
            await until(lambda: replica.hub.stats().lagging == 1)
            assert unsent_bytes(served(replica)) <= 2 * HIGH_WATER + ENTRY_BYTES + 200
            frames = await stuck.next_frames(id=ids[-1])
            assert ids_of(frames) == ids, "history that was asked for is never conflated"
