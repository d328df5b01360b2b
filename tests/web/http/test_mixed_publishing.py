"""Publishes over HTTP and plain XADDs to one operation: neither waits for the other.

What `publish.lua` writes it dispatches itself, so the replicas need not; but they must not come to
wait for it when somebody else writes.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from tests.harness.backend import Backend
from tests.harness.plain_http import plain_client
from tests.harness.replica import Replica
from tests.servers.standalone import Server

SERVICE = {"token": "s" * 32}
#: How late an entry is that nobody dispatches: so late that no busy machine looks like it.
NOBODY = {"follow_arm_s": 60, "sweep_s": 600}
EVENT = b'{"type":"progress","data":{"progress":0.5}}'
#: How long after the last publish, in parts of what the replicas do next.
MOMENTS_S = [n * 0.011 for n in range(8)]


class Publisher:
    """Publishes to an operation over HTTP."""

    def __init__(self, replica: Replica) -> None:
        self._client = plain_client(
            f"http://127.0.0.1:{replica.settings.server.port}",
            headers={"Authorization": f"Bearer {SERVICE['token']}"},
        )

    async def __aenter__(self) -> Publisher:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def publish(self, operation: str, count: int) -> str:
        """One by one; the id of the last."""
        found = ""
        for _ in range(count):
            answer = await self._client.post(f"/operations/{operation}/events", content=EVENT)
            assert answer.status_code == 201, answer.text
            found = answer.json()["ids"][0]
        return found


@pytest.mark.parametrize(
    ("replicas", "moments_s"),
    [
        (3, MOMENTS_S[1::3]),
        pytest.param(1, MOMENTS_S, marks=pytest.mark.full),
        pytest.param(3, MOMENTS_S, marks=pytest.mark.full),
    ],
    ids=["3-some", "1-all", "3-all"],
)
async def test_a_plain_entry_behind_publishes_is_not_late(
    redis_server: Server, backend: Backend, replicas: int, moments_s: list[float]
) -> None:
    """It was up to two seconds late, as if the replica that dispatches had died."""
    async with AsyncExitStack() as stack:
        pods = [
            await stack.enter_async_context(
                Replica(redis_server.url, pod=f"pod-{n}", publish=SERVICE, dispatch=NOBODY)
            )
            for n in range(replicas)
        ]
        publisher = await stack.enter_async_context(Publisher(pods[0]))
        viewers = [await stack.enter_async_context(pod.watch("42")) for pod in pods]
        for viewer in viewers:
            await viewer.state()
        for moment_s in moments_s:
            last = await publisher.publish("42", 100)
            for viewer in viewers:
                await viewer.until_id(last)
            await asyncio.sleep(moment_s)
            plain = await backend.publish("42")
            for viewer in viewers:
                await viewer.until_id(plain)  # its patience is a quarter of `NOBODY`


async def test_publishes_leave_the_replicas_little_to_do(
    redis_server: Server, backend: Backend
) -> None:
    """An empty dispatch costs Redis two thirds of a publish; what arms instead, a tenth."""
    async with (
        Replica(redis_server.url, pod="pod-1", publish=SERVICE) as one,
        Replica(redis_server.url, pod="pod-2", publish=SERVICE) as two,
        Publisher(one) as publisher,
        one.watch("42") as viewer,
        two.watch("42") as other,
    ):
        await viewer.state()
        await other.state()
        await viewer.until_id(await publisher.publish("42", 10))
        before = [dict(pod.counts()) for pod in (one, two)]
        last = ""
        for _ in range(10):
            last = await publisher.publish("42", 10)
            await asyncio.sleep(0.06)
        await viewer.until_id(last)
        await other.until_id(last)
        for pod, counts in zip((one, two), before, strict=True):
            assert pod.counts()["dispatch_calls"] - counts["dispatch_calls"] <= 5
            assert 1 <= pod.counts()["look_calls"] - counts.get("look_calls", 0) <= 100
