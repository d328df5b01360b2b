"""`GET /feeds/{id}`: the operations of a feed with their states, to those who may see them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.harness.backend import PREFIX, Backend
from tests.harness.replica import Replica
from tests.servers.standalone import Server
from tests.web.access.test_admission import guarded, token
from tests.web.access.test_admission_http import client_of
from tidegate.core.revocation import Revocation

FEED = "user:7"


async def listed(backend: Backend, *operations: str) -> list[str]:
    ids = []
    for one in operations:
        data = {"operation": one, "title": f"Title of {one}"}
        message = json.dumps({"type": "listed", "data": data})
        ids.append(await backend.add(FEED, {"message": message}))
    return ids


async def get(replica: Replica, path: str = f"/feeds/{FEED}", text: str | None = None) -> Any:
    async with client_of(replica, text) as client:
        return await client.get(path)


async def test_operations_newest_first_with_their_states(
    replica: Replica, backend: Backend
) -> None:
    await backend.publish("a", status="running")
    await backend.finish("b", "failed")
    ids = await listed(backend, "a", "b", "a", "c")
    async with replica.watch("a") as viewer:  # one that is followed, and two that are not
        await viewer.state()
        body = (await get(replica)).json()
    assert body["feed"] == FEED
    shown = [(o["operation"], o["listed"], o["status"], o["finished"]) for o in body["operations"]]
    assert shown == [
        ("c", ids[3], None, None),
        ("a", ids[2], "running", False),
        ("b", ids[1], "failed", True),
    ]
    assert body["operations"][0]["code"] == "no_stream"
    assert body["operations"][1]["title"] == "Title of a"
    state = (await get(replica, "/operations/a")).json()
    assert {name: body["operations"][1][name] for name in state} == state


async def test_a_feed_never_ends_and_is_bounded(replica: Replica, backend: Backend) -> None:
    await listed(backend, *(f"op-{n}" for n in range(250)))
    for query, count in (("", 20), ("?limit=1", 1), ("?limit=100", 100)):
        body = (await get(replica, f"/feeds/{FEED}{query}")).json()
        operations = [one["operation"] for one in body["operations"]]
        assert operations == [f"op-{249 - n}" for n in range(count)]
    for limit in ("0", "101", "x", "-1", "1.5"):
        assert (await get(replica, f"/feeds/{FEED}?limit={limit}")).status_code == 400
    state = (await get(replica, f"/operations/{FEED}")).json()
    assert (state["status"], state["finished"]) == ("running", False)


async def test_what_is_no_feed(replica: Replica, backend: Backend) -> None:
    assert (await get(replica)).status_code == 404
    assert (await get(replica, "/feeds/a%2Fb")).status_code in (400, 404)
    assert (await get(replica, "/feeds/*")).status_code == 400
    for data in ("[", '{"type":"listed"}', '{"type":"listed","data":{"operation":"../x"}}'):
        await backend.add(FEED, {"message": data})
    await backend.add(FEED, {"message": '{"type":"listed","data":{"operation":"\\udfff"}}'})
    await backend.add(FEED, {"type": "listed", "operation": "plain", "title": "By hand"})
    body = (await get(replica)).json()
    assert [(o["operation"], o["title"]) for o in body["operations"]] == [("plain", "By hand")]
    await backend.client.set(PREFIX + "user:8", "a text")
    assert (await get(replica, "/feeds/user:8")).json()["code"] == "not_a_stream"
    await backend.client.set(PREFIX + "plain", "a text")
    body = (await get(replica)).json()
    assert body["operations"][0]["code"] == "not_a_stream"


async def test_a_feed_and_each_operation_in_it_are_authorised(
    redis_server: Server, backend: Backend
) -> None:
    await listed(backend, "mine", "secret")
    for operation in ("mine", "secret"):
        await backend.publish(operation, status="running", message="secret words")
    async with guarded(redis_server, source={"kind": "claims"}) as replica:
        assert (await get(replica)).status_code == 401
        other = token("bob", operations=["mine", "secret"])
        assert (await get(replica, text=other)).json()["code"] == "forbidden"
        text = token("ann", operations=[FEED, "mine"])
        secret, mine = (await get(replica, text=text)).json()["operations"]
        assert mine["status"] == "running"
        assert (secret["status"], secret["code"]) == (None, "forbidden")
        assert set(secret) == {"operation", "title", "listed", "status", "finished", "code"}


async def test_the_state_of_the_source_counts(redis_server: Server, backend: Backend) -> None:
    await listed(backend, "queued", "unknown")
    for name in (FEED, "queued"):
        state = {"owner": "ann", "status": "waiting for a worker"}
        await backend.client.hset(f"operation:{name}", mapping=state)  # type: ignore[arg-type]
    async with guarded(redis_server, source={"kind": "redis"}) as replica:
        unknown, queued = (await get(replica, text=token("ann"))).json()["operations"]
        assert queued["status"] == "waiting for a worker"
        assert unknown["code"] == "not_found"


async def test_a_token_that_is_revoked_meanwhile(
    redis_server: Server, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    await listed(backend, "a")
    async with guarded(redis_server) as replica:
        reader = replica.hub.reader
        newest = reader.newest

        async def then_revoked(*args: Any, **named: Any) -> Any:
            found = await newest(*args, **named)
            revocation = Revocation("ann", issued_before_s=time.time())
            replica.runtime._admission.revocations.tell(revocation)
            return found

        monkeypatch.setattr(reader, "newest", then_revoked)
        answer = await get(replica, text=token("ann"))
        assert (answer.status_code, answer.json()["code"]) == (401, "token_revoked")
