"""`GET /debug/operations`: which operations are followed, the first ones of many, within bounds."""

from __future__ import annotations

import pytest

from tests.harness.backend import Backend
from tests.harness.plain_http import plain_client
from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers.standalone import Server


async def test_the_first_operations_by_viewers_and_by_entries(
    redis_server: Server, backend: Backend
) -> None:
    async with (
        Replica(redis_server.url) as replica,
        replica.watch("crowded") as one,
        replica.watch("crowded") as two,
        replica.watch("busy") as three,
    ):
        for viewer in (one, two, three):
            await viewer.state()
        ids = await backend.publish_many("busy", 5)
        await until(lambda: str(replica.channel("busy").topic.last) == ids[-1])  # type: ignore[union-attr]

        by_viewers = (await replica.admin("/debug/operations")).json()
        by_entries = (await replica.admin("/debug/operations?order=entries&limit=1")).json()

    assert (by_viewers["count"], by_viewers["omitted"]) == (2, 0)
    assert [row["operation"] for row in by_viewers["operations"]] == ["crowded", "busy"]
    crowded, busy = by_viewers["operations"]
    assert (crowded["live"], crowded["entries"]) == (2, 0)
    assert (busy["live"], busy["entries"], busy["cursor"]) == (1, 5, ids[-1])
    assert (by_entries["count"], by_entries["omitted"]) == (2, 1)
    assert [row["operation"] for row in by_entries["operations"]] == ["busy"]


async def test_a_list_longer_than_a_turn_is_in_order(
    redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.gateway.inventory.TURN", 2)
    async with Replica(redis_server.url) as replica:
        viewers = [replica.watch(f"op-{n}") for n in (1, 2, 2, 3, 3, 3, 4, 4, 4, 4)]
        for viewer in viewers:
            await viewer.__aenter__()
            await viewer.state()

        found = (await replica.admin("/debug/operations?limit=3")).json()

        for viewer in viewers:
            await viewer.__aexit__(None, None, None)

    assert found["omitted"] == 1
    assert [row["operation"] for row in found["operations"]] == ["op-4", "op-3", "op-2"]


async def test_what_is_out_of_bounds_is_refused(redis_server: Server) -> None:
    async with Replica(redis_server.url) as replica:
        for query in ("limit=0", "limit=501", "limit=x", "order=name", "order="):
            answer = await replica.admin(f"/debug/operations?{query}")
            assert answer.status_code == 422, query


async def test_the_list_is_for_who_has_the_token(redis_server: Server) -> None:
    token = "a token of some length for the admin port"
    async with Replica(redis_server.url, server={"admin_token": token}) as replica:
        port = replica.settings.server.admin_port
        async with plain_client(f"http://127.0.0.1:{port}") as client:
            without = await client.get("/debug/operations")
            wrong = await client.get(
                "/debug/operations", headers={"Authorization": "Bearer another"}
            )
            right = await client.get(
                "/debug/operations", headers={"Authorization": f"Bearer {token}"}
            )

    assert [answer.status_code for answer in (without, wrong, right)] == [401, 401, 200]
