"""What a replica and an embedded gateway share, by itself: its tasks, what it hears, its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from tests.harness.backend import Backend
from tests.harness.names import NAMES
from tests.harness.waiting import until
from tests.redis.pod import slot_settings
from tests.servers.standalone import Server
from tidegate.gateway.node import GatewayNode, Standing
from tidegate.model.ids import OperationId
from tidegate.redis import control
from tidegate.redis.pods import LeaseFigures


class Owner:
    """Makes a node, and keeps what it is told."""

    def __init__(self, url: str, pod: str) -> None:
        self.messages: list[control.Message] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.node = GatewayNode(
            slot_settings(url, pod),
            figures=lambda: LeaseFigures(connections=3),
            on_over_limit=lambda user, connections: None,
            on_message=self.messages.append,
            on_task=self.tasks.append,
        )

    @asynccontextmanager
    async def running(self, *more: Standing) -> AsyncIterator[None]:
        """And its connections are closed, whatever has happened."""
        try:
            async with self.node.running(*more):
                yield
        finally:
            await self.node.close()

    async def connected(self) -> None:
        node = self.node
        await until(lambda: node.feed.is_connected and node.pods.is_held, "it takes part")
        await until(lambda: node.control.stats().listening, "it listens")


async def test_a_task_that_fails_is_logged_and_ends_nothing(redis_server: Server) -> None:
    async def fail() -> None:
        raise ValueError("of one viewer")

    owner = Owner(redis_server.url, "pod-1")
    with structlog.testing.capture_logs() as logs:
        async with owner.running():
            failing = owner.node.spawn(fail(), "failing")
            assert failing is not None
            await failing
            await owner.connected()
            assert sum(not task.done() for task in owner.tasks) == 4
    assert [one["task"] for one in logs if one["event"] == "background task failed"] == ["failing"]
    assert all(task.done() for task in owner.tasks)


async def test_what_comes_too_late_is_not_begun(redis_server: Server) -> None:
    begun = []

    async def work() -> None:
        begun.append(1)

    owner = Owner(redis_server.url, "pod-1")
    async with owner.running():
        owner.node.take_no_more()
        assert owner.node.spawn(work(), "late") is None
    assert begun == []


async def test_it_ends_with_more_work_and_without_redis() -> None:
    cancelled = asyncio.Event()

    async def more() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    owner = Owner("redis://127.0.0.1:1", "pod-1")
    async with owner.running((more(), "more")):
        await asyncio.sleep(0)
    assert cancelled.is_set()
    assert {task.get_name() for task in owner.tasks} == {
        "feed",
        "lease",
        "slots",
        "control",
        "more",
    }


async def test_who_leaves_gives_up_lease_slots_and_consumers(
    redis_server: Server, backend: Backend
) -> None:
    await backend.publish("42")
    owner = Owner(redis_server.url, "pod-1")
    node = owner.node
    async with redis_server.client() as client:
        async with owner.running():
            await owner.connected()
            await node.hub.ready(OperationId("42"))
            await node.slots.take("ann", "c1")
            assert len(await backend.consumers("42")) == 1
            assert await client.zcard(NAMES.pods) == 1
            assert await client.hlen(NAMES.slots_prefix + b"ann") == 1
            await node.leave()
        assert await backend.consumers("42") == []
        assert await client.zcard(NAMES.pods) == 0
        assert await client.hlen(NAMES.slots_prefix + b"ann") == 0


async def test_the_end_of_an_operation_s_viewing_is_the_node_s_and_the_rest_the_owner_s(
    redis_server: Server,
) -> None:
    one, two = Owner(redis_server.url, "pod-1"), Owner(redis_server.url, "pod-2")
    async with one.running(), two.running():
        await one.connected()
        await two.connected()
        await one.node.control.publish(control.DisconnectOperation("42", "maintenance"))
        message = control.DisconnectUser("ann", "abuse")
        await one.node.control.publish(message)
        await until(lambda: bool(one.messages and two.messages), "both have heard it")
        assert one.messages == two.messages == [message]
