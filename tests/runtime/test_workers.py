"""`tidegate serve --workers 2` as a process, on a real Redis: what viewers, Prometheus and the
operator see of it when a worker dies, when all drain, and when it cannot start.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from websockets.asyncio.client import connect

from tests.cli.command import run as run_command
from tests.faults.replicas import STOP_TIMEOUT_S, Replica
from tests.harness.backend import Backend
from tests.harness.names import NAMES
from tests.harness.plain_http import plain_client
from tests.harness.waiting import until
from tests.servers.ports import free_port
from tests.servers.standalone import Server
from tidegate.client.viewer import ReceivedFrame, Viewer
from tidegate.model.close_codes import DRAINING
from tidegate.model.errors import TooManyConnections
from tidegate.redis.control import Rebalance

SECRET = "a secret of at least thirty-two bytes"
VIEWERS = 8
#: While a worker is dead and not yet known to be, its viewers count twice.
LIMIT = 2 * VIEWERS
WORKERS: dict[str, object] = {
    "server.workers": 2,
    "drain.delay_s": 0,
    "drain.window_s": 0.2,
    "server.shutdown_timeout_s": 5,
}
SIGNED_IN: dict[str, object] = {
    "auth.secret": SECRET,
    "source.kind": "none",
    "slots.limit": LIMIT,
    "metrics.enabled": True,
}


def token(user: str = "ann") -> str:
    return jwt.encode({"sub": user, "exp": time.time() + 600}, SECRET, algorithm="HS256")


class Reading:
    """One viewer, which comes back by the client's own rules."""

    def __init__(self, replica: Replica) -> None:
        base = f"ws://{replica.host}:{replica.port}"
        self.frames: list[ReceivedFrame] = []
        self._viewer = Viewer("42", base, token=token())

    async def run(self) -> None:
        async with self._viewer as viewer:
            async for frame in viewer:
                self.frames.append(frame)

    def has(self, ids: list[str]) -> bool:
        return self.ids == ids

    @property
    def ids(self) -> list[str]:
        return [frame.id for frame in self.frames if frame.id is not None]


async def workers(replica: Replica) -> dict[int, dict[str, Any]]:
    """State by number, of those that serve."""
    state = await replica.state()
    return {one["worker"]: one for one in state.get("workers", [])}


async def metric(replica: Replica, name: str) -> float:
    async with plain_client(f"http://{replica.host}:{replica.admin_port}") as client:
        text = (await client.get("/metrics")).text
    return float(next(line for line in text.splitlines() if line.startswith(name)).split()[-1])


def sockets(worker: dict[str, Any]) -> int:
    """How many viewers it has."""
    found: int = worker["numbers"]["tidegate_connections"].get("ws", 0)
    return found


async def both_have_some(replica: Replica) -> bool:
    return all(map(sockets, (await workers(replica)).values()))


async def test_a_worker_is_killed_and_then_all_drain(
    redis_server: Server, backend: Backend
) -> None:
    settings = WORKERS | SIGNED_IN
    async with AsyncExitStack() as stack:
        replica = await stack.enter_async_context(
            Replica(1, redis_server.url, settings, auth="jwt")
        )
        before = await workers(replica)
        assert [one["pod"] for one in before.values()] == ["pod-1/1", "pod-1/2"]
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        ids = await backend.publish_many("42", 5)
        readings = [Reading(replica) for _ in range(VIEWERS)]
        running = [tasks.create_task(reading.run()) for reading in readings]
        await until(lambda: all(one.ids == ids for one in readings), "all have the history")
        # The kernel spreads connections by a hash: now and then one worker has all of them.
        while not await both_have_some(replica):
            running.pop(0).cancel()
            newest = Reading(replica)
            readings = [*readings[1:], newest]
            running.append(tasks.create_task(newest.run()))
            await until(partial(newest.has, ids), "it has the history")
        joins = await metric(replica, "tidegate_joins_total")
        assert joins >= VIEWERS

        async def one_slot_each() -> bool:
            return await metric(replica, "tidegate_slots_held") == VIEWERS

        await until(one_slot_each, "each viewer has a slot")

        # Nobody is taken for dead in the first lease after Redis was empty: make it older.
        await backend.client.hincrby(NAMES.pods_clock.decode(), "since", -60_000)
        os.kill(before[1]["pid"], signal.SIGKILL)
        ids += await backend.publish_many("42", 50, start=5)
        await until(lambda: all(one.ids == ids for one in readings), "nobody misses an entry")
        assert not [f for one in readings for f in one.frames if f.type in ("gap", "skipped")]

        async def replaced() -> bool:
            now = await workers(replica)
            return len(now) == 2 and now[1]["pid"] != before[1]["pid"]

        await until(replaced, "the worker is replaced")
        assert await metric(replica, "tidegate_worker_restarts_total") == 1
        assert await metric(replica, "tidegate_workers") == 2
        assert await metric(replica, "tidegate_joins_total") > joins, "no counter falls"
        await slots_are_right(replica)

        await until(one_slot_each, "the others have left")
        # Two of each worker, of which one may have fewer.
        have = (await workers(replica)).values()
        expected: float = sum(min(2, sockets(one)) for one in have)
        message = msgspec.json.encode(Rebalance("pod-1", 4, 0))
        assert await backend.client.execute_command("SPUBLISH", NAMES.control, message) == 2
        moved = 'tidegate_moved_connections_total{reason="rebalance"}'

        async def shed() -> bool:
            return await metric(replica, moved) == expected

        await until(shed, "the workers share what the pod is to send away")

        await replica.stop()
        for task in running:
            task.cancel()
        assert replica.mishaps() == []
        log = replica.process.log_file.read_text()
    assert log.count('"event": "draining"') == 2
    assert log.count('"event": "worker replaced"') == 1
    assert "worker 1 was killed by SIGKILL" in log
    assert "leases of dead workers not released" not in log


async def slots_are_right(replica: Replica) -> None:
    """A user's limit is one of all workers, and the dead one has no part of it."""
    async with AsyncExitStack() as stack:
        for _ in range(LIMIT - VIEWERS):
            viewer = await stack.enter_async_context(another(replica))
            assert (await anext(viewer)).type == "current_state"
        assert await metric(replica, "tidegate_slots_held") == LIMIT
        one_too_many = await stack.enter_async_context(another(replica))
        with pytest.raises(TooManyConnections):
            await anext(one_too_many)


def another(replica: Replica) -> Viewer:
    return Viewer("42", f"ws://{replica.host}:{replica.port}", token=token())


@pytest.mark.full
async def test_a_second_signal_cuts_the_drain_of_all_workers_short(redis_server: Server) -> None:
    settings = WORKERS | {"drain.delay_s": 300}
    async with Replica(1, redis_server.url, settings) as replica:
        url = f"ws://{replica.host}:{replica.port}/ws/operations/42"
        viewers = [await connect(url) for _ in range(VIEWERS)]
        # As a service manager does: to each process of the group, of which the supervisor is one.
        os.killpg(replica.process.pid, signal.SIGTERM)

        async def draining() -> bool:
            state = await replica.state()
            return [one["readiness"]["reason"] for one in state["workers"]] == ["stopping"] * 2

        await until(draining, "both drain")
        async with plain_client(f"http://{replica.host}:{replica.admin_port}") as client:
            answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["reason"]) == (503, "stopping")
        assert all(viewer.close_code is None for viewer in viewers)

        began = time.monotonic()
        await replica.stop()
        assert time.monotonic() - began < STOP_TIMEOUT_S
        for viewer in viewers:
            await viewer.wait_closed()
        assert {viewer.close_code for viewer in viewers} == {DRAINING.code}
        assert replica.mishaps() == []


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="looks for its processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_to_all_processes_ended_a_start_as_a_failure(
    redis_server: Server, number: signal.Signals
) -> None:
    """A service manager sends SIGTERM to each process, a terminal SIGINT: a worker that was still
    importing was killed by it, or ended with a traceback.
    """
    replica = Replica(1, redis_server.url, WORKERS)
    try:
        replica.process.spawn()
        pid = replica.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children")
        await until(lambda: len(children.read_text().split()) == 2, "both workers are starting")
        os.killpg(pid, number)
        assert await replica.process.wait(STOP_TIMEOUT_S) == 0
        assert replica.mishaps() == []
        assert "was killed by" not in replica.process.log_file.read_text()
    finally:
        replica.close()


@pytest.mark.full
async def test_workers_drain_when_their_supervisor_is_gone(redis_server: Server) -> None:
    async with Replica(1, redis_server.url, WORKERS) as replica:
        pids = [one["pid"] for one in (await workers(replica)).values()]
        viewer = await connect(f"ws://{replica.host}:{replica.port}/ws/operations/42")
        await replica.kill()
        await viewer.wait_closed()
        assert viewer.close_code == DRAINING.code
        await until(lambda: not any(map(is_alive, pids)), "the workers have ended")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.full
async def test_a_worker_that_cannot_start_ends_the_start_as_one_process_does(
    redis_server: Server, tmp_path: Path
) -> None:
    arguments = [
        *("serve", "--redis", redis_server.url, "--auth", "jwt", "--set", "source.kind=none"),
        *("--set", f"auth.key_file={tmp_path / 'missing.pem'}", "--set", "log.level=error"),
    ]
    one, two = [
        await run_command(
            *arguments,
            *("--port", str(free_port()), "--admin-port", str(free_port()), "--workers", number),
        )
        for number in ("1", "2")
    ]
    assert one.code == 2
    assert "auth.key_file" in one.err
    assert two == one


@pytest.mark.full
@pytest.mark.parametrize("setting", ["port", "admin-port"])
async def test_a_port_that_is_taken_ends_the_start(redis_server: Server, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        ports = {"port": free_port(), "admin-port": free_port(), setting: taken}
        done = await run_command(
            *("serve", "--redis", redis_server.url, "--auth", "none", "--workers", "2"),
            *(part for name, port in ports.items() for part in (f"--{name}", str(port))),
        )
    assert done.code == 1
    assert f"server.{setting.replace('-', '_')}: cannot listen on 127.0.0.1:{taken}" in done.err
