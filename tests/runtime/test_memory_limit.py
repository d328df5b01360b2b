"""A replica in a container of 256 MiB that is filled from outside: it is not killed, and nobody
misses an entry.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from functools import partial

import pytest
from websockets.asyncio.client import connect

from tests.faults.replicas import Replica
from tests.harness.backend import Backend
from tests.harness.raw_viewer import RawViewer
from tests.harness.waiting import until
from tests.servers.control_group import memory_group, most_used_bytes
from tests.servers.standalone import Server

MIB = 1_048_576
LIMIT = 256 * MIB
#: With these rings alone it would pass the limit.
OPERATIONS = 1_200
RING_BYTES = 250_000
#: And with what these do not read.
SLOW = 300
ENTRY_BYTES = 900_000

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]


async def test_it_drops_and_closes_before_the_kernel_kills_it(
    redis_server: Server, backend: Backend
) -> None:
    with memory_group(LIMIT) as group:
        settings = {
            "topic.total_ring_bytes": 4_096 * MIB,
            "viewer.max_watches": 2_000,
            "dispatch.max_entry_bytes": MIB,
        }
        async with Replica(1, redis_server.url, settings, control_group=group) as replica:
            await _fill_rings(replica, backend)
            await until(partial(_admits, replica), replica.process.log_tail)
            await _fill_buffers(replica, backend)
            state = await replica.state()
            assert state["memory"]["limit_bytes"] == LIMIT
            assert replica.mishaps() == []
            log = replica.process.log_file.read_text()
            await replica.stop()
        assert most_used_bytes(group) < LIMIT
    assert "memory freed" in log


async def _admits(replica: Replica) -> bool:
    """What filled it is dropped by now."""
    return (await replica.state())["memory"]["level"] in ("normal", "dropping")


async def _fill_rings(replica: Replica, backend: Backend) -> None:
    """One viewer of many operations gets every entry, although the rings are dropped meanwhile."""
    names = [f"ring-{n}" for n in range(OPERATIONS)]
    got = dict.fromkeys(names, 0)
    async with connect(f"ws://127.0.0.1:{replica.port}/ws", max_size=None) as socket:
        for name in names:
            await socket.send(json.dumps({"type": "watch", "operation": name}))

        async def read(wanted: str, count: int) -> None:
            while sum(got.values()) < count:
                frame = json.loads(await socket.recv())
                assert frame["type"] not in ("gap", "error"), frame
                if frame["type"] == wanted:
                    got[frame["operation"]] += 1

        await read("current_state", OPERATIONS)
        got.update(dict.fromkeys(names, 0))
        reading = asyncio.create_task(read("log", 5 * OPERATIONS))
        for name in names:
            await backend.publish_many(name, 5, pad=RING_BYTES // 5 - 100, type_="log")
        await reading
    assert set(got.values()) == {5}


async def _fill_buffers(replica: Replica, backend: Backend) -> None:
    """Viewers that read nothing are closed, and one that reads has everything."""
    with ExitStack() as stack:
        url = f"ws://127.0.0.1:{replica.port}/ws/operations/"
        for n in range(SLOW):
            viewer = await RawViewer.open(f"{url}slow-{n}", receive_buffer=4_096)
            stack.enter_context(viewer)
        async with connect(f"{url}read", max_size=None) as socket:
            for n in range(SLOW):
                await backend.publish_many(f"slow-{n}", 1, pad=ENTRY_BYTES, type_="log")
            last = await backend.publish("read", "log")
            while (frame := json.loads(await socket.recv())).get("id") != last:
                assert frame["type"] == "current_state"

        async def some_were_closed() -> bool:
            numbers = (await replica.state())["numbers"]
            return bool(numbers["tidegate_closes_total"].get("slow", 0))

        await until(some_were_closed, replica.process.log_tail)
