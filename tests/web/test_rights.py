"""The rights in Redis that the documentation asks for are enough, and what is missing is said.

With the lines of the page a limit of 2 allowed 4 connections over two replicas, a disconnect by an
administrator answered 503, and `/readyz` was 200 all the while.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import pytest

from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.harness.rights import documented_rights
from tests.harness.waiting import until
from tests.servers.standalone import Server
from tests.web.access.test_admission import ADMIN_TOKEN, guarded, refused, token, watch

SERVICE = "s" * 32


async def allow(server: Server, *rights: str, user: str = "gateway") -> None:
    async with server.client() as client:
        await client.execute_command("ACL", "SETUSER", user, "on", ">pass", *rights)


def limited(server: Server, *, pod: str = "pod-1", **groups: Any) -> Replica:
    """A replica that logs in as the user `gateway` and uses all that there is."""
    redis = {"username": "gateway", "password": "pass", **groups.pop("redis", {})}
    publish = {"token": SERVICE}
    more = {"publish": publish, "cancel": {"allow": "viewers"}, **groups}
    return guarded(server, pod=pod, redis=redis, slots={"limit": 2}, **more)


async def readyz(replica: Replica) -> tuple[int, str]:
    answer = await replica.admin("/readyz")
    return answer.status_code, answer.text


def says(replica: Replica, ready: bool) -> Callable[[], Any]:
    async def asked() -> bool:
        return ((await readyz(replica))[0] == 200) is ready

    return asked


async def ask(replica: Replica, method: str, path: str, bearer: str, **more: Any) -> Any:
    server = replica.settings.server
    port = server.admin_port if path.startswith("/admin") else server.port
    headers = {"Authorization": f"Bearer {bearer}", **more.pop("headers", {})}
    async with httpx.AsyncClient(verify=False, timeout=20) as client:
        url = f"http://127.0.0.1:{port}{path}"
        return await client.request(method, url, headers=headers, **more)


async def test_the_documented_rights_are_enough(any_server: Server) -> None:
    await allow(any_server, *documented_rights("gateway"))
    async with (
        limited(any_server) as one,
        limited(any_server, pod="pod-2") as two,
        any_server.client() as admin,
    ):
        for replica in (one, two):
            await until(says(replica, ready=True), "ready")
            rights = replica.runtime._rights
            await until(partial(getattr, rights, "once_complete"))
            assert rights.refused == ()
        backend = Backend(admin)
        async with watch(one, "42", token("u")) as here, watch(two, "42", token("u")) as there:
            await here.state()
            await there.state()
            third = watch(one, "42", token("u"))
            assert (await refused(third))[1].code == 4429, "slots are counted over replicas"
            written = await backend.publish("42")
            again = {"Idempotency-Key": "k"}
            body = {"type": "progress", "data": {}}
            path = "/operations/42/events"
            answers = [
                await ask(one, "POST", path, SERVICE, json=body, headers=again) for _ in range(2)
            ]
            assert [answer.status_code for answer in answers] == [201, 201], answers[-1].text
            assert answers[0].json() == answers[1].json()
            for viewer in (here, there):
                assert await viewer.ids(2) == [written, answers[0].json()["ids"][0]]
            cancelled = await ask(two, "POST", "/operations/42/cancel", token("u"))
            assert cancelled.status_code == 202, cancelled.text
            for viewer in (here, there):
                assert await viewer.ids(1) == [cancelled.json()["id"]]
            gone = await ask(two, "POST", "/admin/users/u/disconnect", ADMIN_TOKEN)
            assert gone.json() == {"replicas": 2}
            for viewer in (here, there):
                assert (await viewer.rest())[1].code == 4403
        taken_back = await ask(
            one, "POST", "/admin/users/u/disconnect", ADMIN_TOKEN, params={"issued_before": 1}
        )
        assert taken_back.is_success, taken_back.text
        removed = await ask(one, "DELETE", "/operations/42", SERVICE)
        assert removed.is_success, removed.text
        # What the trial of the rights makes is gone.
        await until(lambda: _no_traces(admin))
        counts = [replica.counts().get("error_forbidden", 0) for replica in (one, two)]
        assert counts == [0, 0]
    async with any_server.client() as admin:
        denied = await admin.execute_command("ACL", "LOG")
        assert denied == []


async def _no_traces(admin: Any) -> bool:
    return not [key for key in await admin.keys("*") if b"rights-" in key]


@pytest.mark.parametrize(
    ("taken", "where"),
    [
        (["-hset"], "hset on tidegate:slots:*"),
        (["-xreadgroup"], "xreadgroup on operation-progress:*"),
        (["-expireat"], "expireat on {tidegate}:revoked*"),
        (["-lpush"], "lpush on {operation-progress:*"),
        (["-set"], "set on {operation-progress:*"),
        (["resetchannels", "&operation-progress:*"], "spublish on {tidegate}:pod:*"),
        (["resetkeys", "~operation-progress:*", "~{tidegate}:*"], "eval on tidegate:slots:*"),
    ],
)
async def test_what_redis_refuses_is_said(
    redis_server: Server, taken: list[str], where: str
) -> None:
    await allow(redis_server, *documented_rights("gateway"), *taken)
    replica = limited(redis_server)
    async with replica:
        await until(lambda: bool(replica.runtime._rights.refused))
        status, text = await readyz(replica)
        assert status == 503
        assert where in text
        metrics = (await replica.admin("/metrics")).text
        assert "tidegate_redis_refused_commands{" in metrics


async def test_a_relay_that_may_not_be_heard_is_no_connection(redis_server: Server) -> None:
    await allow(redis_server, *documented_rights("gateway"), "-ssubscribe")
    replica = limited(redis_server)
    replica._wait_for_redis = False
    async with replica:
        await until(lambda: replica.counts().get("connect_failures"))
        assert (await readyz(replica))[0] == 503


async def test_rights_that_are_taken_away_later_leave_a_replica_ready(
    redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.redis.rights.TRY_AGAIN_S", 0.05)
    await allow(redis_server, *documented_rights("gateway"))
    async with limited(redis_server) as replica:
        rights = replica.runtime._rights
        await until(lambda: rights.once_complete)
        await allow(redis_server, "-hset")
        await until(lambda: bool(rights.refused))
        status, text = await readyz(replica)
        assert status == 200
        assert "hset on tidegate:slots:*" in text
        await allow(redis_server, "+hset")
        await until(lambda: not rights.refused)
        assert "serving" in (await readyz(replica))[1]
