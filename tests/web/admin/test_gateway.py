"""`/debug/gateway`: all replicas, from the admin port of any of them, on a real Redis."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import quote

import pytest

from tests.harness.backend import Backend
from tests.harness.names import NAMES
from tests.harness.plain_http import plain_client
from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers.standalone import Server
from tests.web.access.test_admission import ADMIN_TOKEN, guarded, token, watch


async def gateway(replica: Replica, path: str = "", **query: str) -> dict[str, Any]:
    port = replica.settings.server.admin_port
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    async with plain_client(f"http://127.0.0.1:{port}") as client:
        answer = await client.get(f"/debug/gateway{path}", params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def listens(replica: Replica) -> None:
    """It has its lease, and hears the others."""
    node = replica.runtime._node
    await until(lambda: node.pods.is_held and node.control.stats().listening)


async def test_one_replica_shows_all(redis_server: Server, backend: Backend) -> None:
    ids = await backend.publish_many("both", 3)
    server = {"admin_token": ADMIN_TOKEN}
    async with (
        Replica(redis_server.url, pod="one", server=server) as one,
        Replica(redis_server.url, pod="two", server=server) as two,
        one.watch("both") as first,
        two.watch("both") as second,
        two.watch("Only-here") as third,
    ):
        for viewer in (first, second, third):
            await viewer.state()
        for viewer in (first, second):
            await viewer.entries(3)
        for replica in (one, two):
            await listens(replica)

        seen = await gateway(one)
        replicas = {found["pod"]: found for found in seen["replicas"]}
        assert list(replicas) == ["one", "two"]
        assert all(found["answered"] for found in replicas.values())
        assert {pod: found["figures"]["connections"] for pod, found in replicas.items()} == {
            "one": 1,
            "two": 2,
        }
        assert replicas["two"]["figures"]["ready"] is True
        assert replicas["two"]["figures"].get("drain") is None
        assert replicas["two"]["operations"] == 2
        assert [row["operation"] for row in seen["operations"]["rows"]] == ["both", "Only-here"]
        both = seen["operations"]["rows"][0]
        assert (both["live"], both["cursor"], both["complete"]) == (2, ids[-1], True)
        assert len(both["replicas"]) == 2
        assert (seen["operations"]["at_least"], seen["operations"]["at_most"]) == (2, 2)

        found = await gateway(one, search="ONLY")
        assert [row["operation"] for row in found["operations"]["rows"]] == ["Only-here"]

        # One operation, with its history.
        await backend.publish("both", status="running", message="<b>bold</b>")
        await until(lambda: one.channel("both").topic.status == "running")  # type: ignore[union-attr]
        opened = await gateway(one, "/operations/both")
        reports = {found["pod"]: found["report"] for found in opened["replicas"]}
        assert all(report["viewers"]["live"] == 1 for report in reports.values())
        assert any(report["role"] == "leading" for report in reports.values())
        assert opened["stream"]["length"] == 4
        assert opened["history"][0]["id"] == opened["stream"]["last"]
        assert "<b>bold</b>" in opened["history"][0]["data"]
        nowhere = await gateway(one, "/operations/nowhere")
        assert nowhere["stream"] is None
        assert [found["report"]["followed"] for found in nowhere["replicas"]] == [False, False]

        # Twenty open consoles cost the other replica one report.
        answers = two.runtime._node.surveys.counts
        before = answers["answered"]
        await asyncio.gather(*(gateway(one, search="twenty") for _ in range(20)))
        assert answers["answered"] == before + 1


async def test_users_and_their_slots(redis_server: Server) -> None:
    ann = "https://id.example/users/ann"
    async with (
        guarded(redis_server, pod="one", slots={"limit": 7}) as one,
        guarded(redis_server, pod="two", slots={"limit": 7}) as two,
        redis_server.client() as client,
        AsyncExitStack() as viewers,
    ):
        # One after the other: a slot is taken after the handshake, and shown by its age.
        for replica, name in ((one, ann), (two, ann), (two, "bob")):
            viewer = await viewers.enter_async_context(watch(replica, "42", token(name)))
            await viewer.state()
        for replica in (one, two):
            await listens(replica)
        # Of a replica that was killed: its lease is over, and nobody has compared the hash since.
        await client.hset(f"tidegate:slots:{ann}", "dead", "gone.1.abc 1")

        rows = (await gateway(one))["users"]["rows"]
        assert [(row["user"], row["connections"], row["limit"]) for row in rows] == [
            (ann, 2, 7),
            ("bob", 1, 7),
        ]
        # Before a replica knows for a lease who lives, it takes nobody for dead.
        assert rows[0]["slots"] in (2, 3)
        assert rows[1]["slots"] == 1
        only = await gateway(two, user_search="BO")
        assert [row["user"] for row in only["users"]["rows"]] == ["bob"]

        slots = await gateway(two, f"/users/{quote(ann, safe='')}")
        assert (slots["user"], slots["limit"]) == (ann, 7)
        assert [slot["replica"] for slot in slots["connections"][1:]] == ["one", "two"]
        assert slots["connections"][0]["replica"] == "gone"
        nobody = await gateway(one, "/users/nobody")
        assert (nobody["slots"], nobody["connections"]) == (0, [])


async def test_a_drain_is_seen_from_another_replica_as_it_runs(redis_server: Server) -> None:
    server = {"admin_token": ADMIN_TOKEN}
    drain = {"delay_s": 60, "window_s": 0}
    async with (
        Replica(redis_server.url, pod="one", server=server) as one,
        Replica(redis_server.url, pod="two", server=server, drain=drain) as two,
        two.watch("42") as first,
        two.watch("42") as second,
    ):
        for viewer in (first, second):
            await viewer.state()
        for replica in (one, two):
            await listens(replica)
        stopping = asyncio.create_task(two.stop())
        await until(lambda: two.runtime._report._stopping_since is not None)
        seen = {found["pod"]: found for found in (await gateway(one))["replicas"]}
        figures = seen["two"]["figures"]
        assert figures["ready"] is False
        assert figures["drain"]["window_s"] == 60
        assert (figures["drain"]["moved"], figures["connections"]) == (0, 2)
        two.runtime.stop()  # hurry
        await stopping
        (left,) = (await gateway(one, search="later"))["replicas"]
        assert left["pod"] == "one"


async def test_a_lease_without_a_replica_is_shown_as_silent(redis_server: Server) -> None:
    """After the deadline. Its figures are of the lease, as far as they are numbers."""
    async with (
        Replica(redis_server.url, pod="one", server={"admin_token": ADMIN_TOKEN}) as one,
        redis_server.client() as client,
    ):
        await listens(one)
        one.runtime._node.surveys._deadline_s = 0.05
        ghost = "ghost.1.abc"
        await client.zadd(NAMES.pods, {ghost: await _expiry(client)})
        told: dict[Any, Any] = {
            "connections": "12",
            "loop_lag_ms": "nan",
            "ready": "<b>",
            "other": "x",
        }
        await client.hset(f"{NAMES.figures_prefix}{ghost}", mapping=told)
        seen = {found["pod"]: found for found in (await gateway(one))["replicas"]}
    assert seen["ghost"]["answered"] is False
    assert seen["ghost"]["lease"] == {"connections": 12.0}
    assert seen["one"]["answered"] is True


async def _expiry(client: Any) -> int:
    seconds, _ = await client.time()
    return 1_000 * (int(seconds) + 30)


@pytest.mark.full
async def test_without_redis_a_replica_shows_itself(redis_server: Server) -> None:
    server = {"admin_token": ADMIN_TOKEN}
    async with (
        Replica(redis_server.url, pod="one", server=server) as one,
        one.watch("42") as viewer,
    ):
        await viewer.state()
        await redis_server.kill()
        await until(lambda: not one.feed.is_connected)
        seen = await gateway(one)
        (replica,) = seen["replicas"]
        assert seen["redis_error"]
        assert replica["figures"]["redis_connected"] is False
        assert [row["operation"] for row in seen["operations"]["rows"]] == ["42"]
        opened = await gateway(one, "/operations/42")
        assert opened["redis_error"]
        assert opened["replicas"][0]["report"]["viewers"]["live"] == 1
        await redis_server.restart()


async def test_what_is_out_of_bounds_or_too_often_is_refused(redis_server: Server) -> None:
    async with Replica(redis_server.url) as replica:
        for query in ("order=name", f"search={'x' * 129}", f"user_search={'x' * 257}"):
            answer = await replica.admin(f"/debug/gateway?{query}")
            assert answer.status_code == 422, query
        for path in ("/operations/%3Cb%3E", f"/operations/{'x' * 129}"):
            assert (await replica.admin(f"/debug/gateway{path}")).status_code == 400, path
        assert (await replica.admin(f"/debug/gateway/users/{'x' * 257}")).status_code == 422
        # More different views at once than surveys are allowed: a burst, and some by the second.
        answers = await asyncio.gather(
            *(replica.admin(f"/debug/gateway?search=view-{n}") for n in range(60))
        )
        codes = {answer.status_code for answer in answers}
        assert codes == {200, 429}
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.headers["retry-after"] == "1"


async def test_it_is_for_who_has_the_token(redis_server: Server) -> None:
    async with Replica(redis_server.url, server={"admin_token": ADMIN_TOKEN}) as replica:
        for path in ("", "/operations/42", "/users/ann"):
            assert (await replica.admin(f"/debug/gateway{path}")).status_code == 401
