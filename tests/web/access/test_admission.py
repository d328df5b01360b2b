"""Who is let in, how many, and for how long: tokens, origins, slots, expiry and revocation, end to
end.

Every refusal is seen as a client sees it: an `error` frame, then the close code of the table.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx
import jwt
import pytest
from websockets.asyncio.client import connect

from tests.harness.backend import Backend
from tests.harness.plain_http import plain_client
from tests.harness.replica import Replica
from tests.harness.viewer import Close, Viewer
from tests.harness.waiting import until
from tests.servers.standalone import Server
from tidegate.core.slots import Victim

SECRET = "a secret of 32 bytes, or more....."
AUTH = {"secret": SECRET, "leeway_s": 0}
ADMIN_TOKEN = "admin-token-of-a-test"


def token(user: str, ttl_s: float = 300.0, **claims: Any) -> str:
    """A signed token of this user."""
    return jwt.encode(
        {"sub": user, "exp": int(time.time() + ttl_s), **claims}, SECRET, algorithm="HS256"
    )


def guarded(server: Server, *, pod: str = "pod-1", **groups: Mapping[str, Any]) -> Replica:
    """A replica that wants tokens; every user may watch everything unless a test says otherwise."""
    own = {"auth": "jwt", "admin_token": ADMIN_TOKEN}
    settings: dict[str, Any] = {"auth": AUTH, **groups}
    # A busy machine may take longer than the usual 2 s, after which Redis or a source is away.
    settings["slots"] = {"wait_s": 30, **groups.get("slots", {})}
    settings["source"] = {"timeout_s": 30, **groups.get("source", {"kind": "none"})}
    return Replica(server.url, pod=pod, server=own, **settings)


def ends_soon(replica: Replica, user: str) -> None:
    """The tokens with which this user is inside have a moment left. One that is made with so short
    a life may be over before it is looked at.
    """
    admission = replica.runtime._admission
    for guest in admission._by_user[user].values():
        assert guest.expiry is not None
        guest.expiry.expires_at = time.time() + 0.2
        admission.watch_the_clock(guest)


def watch(replica: Replica, operation: str, text: str | None, **options: Any) -> Viewer:
    """A viewer with this token in its `Authorization` header."""
    headers = {} if text is None else {"Authorization": f"Bearer {text}"}
    return Viewer(replica.url(operation), additional_headers=headers, **options)


async def refused(viewer: Viewer) -> tuple[str, Close]:
    """The code in the error frame, and the close."""
    async with viewer:
        frames, close = await viewer.rest()
        assert frames[-1]["type"] == "error"
        assert not any(frame["type"] == "current_state" for frame in frames)
        return str(frames[-1]["data"]["code"]), close


async def test_without_a_good_token_the_close_is_4401(redis_server: Server) -> None:
    another = jwt.encode({"sub": "u", "exp": 9e9}, "another secret of 32 bytes or more", "HS256")
    async with guarded(redis_server) as replica:
        for text, code in (
            (None, "token_missing"),
            ("not.a.token", "bad_token"),
            (another, None),
            (token("u", ttl_s=-10), None),
            (jwt.encode({"sub": "u", "exp": int(9e9)}, "", algorithm="none"), None),
        ):
            said, close = await refused(watch(replica, "42", text))
            assert close.code == 4401, text
            assert code is None or said == code
            assert replica.viewers == 0


async def test_a_page_of_another_origin_is_refused(redis_server: Server) -> None:
    async with guarded(redis_server) as replica:
        evil = watch(replica, "42", token("u"), origin="http://evil.example")
        assert (await refused(evil))[1].code == 4403


async def test_a_token_may_come_in_the_sub_protocols(redis_server: Server) -> None:
    async with guarded(redis_server) as replica:
        viewer = Viewer(replica.url("42"))
        viewer._options["subprotocols"] = ["tidegate.v1", f"access_token.{token('u')}"]
        socket = await _connect(viewer)
        assert socket.subprotocol == "tidegate.v1"
        assert json.loads(await socket.recv())["type"] == "current_state"
        await socket.close()


async def _connect(viewer: Viewer) -> Any:
    return await connect(viewer.url, **viewer._options)


async def test_the_limit_holds_over_replicas_and_a_freed_slot_can_be_taken(
    redis_server: Server, backend: Backend
) -> None:
    slots = {"limit": 2}
    async with (
        guarded(redis_server, pod="pod-1", slots=slots) as one,
        guarded(redis_server, pod="pod-2", slots=slots) as two,
        watch(one, "42", token("u")) as first,
    ):
        await first.state()
        async with watch(two, "42", token("u")) as second:
            await second.state()
            third = watch(one, "42", token("u"))
            async with third:
                frames, close = await third.rest()
            assert frames[-1]["data"] | {"message": ""} == {
                "code": "connection_limit",
                "count": 2,
                "limit": 2,
                "message": "",
                "retry": True,
            }
            assert close.code == 4429
            async with watch(one, "42", token("another")) as other:
                await other.state()
        async with redis_server.client() as client:

            async def released() -> bool:
                return bool(await client.hlen("tidegate:slots:u") == 1)

            await until(released, "the release is on its way")
        async with watch(two, "42", token("u")) as again:
            await again.state()


async def test_the_oldest_makes_room_where_the_policy_says_so(redis_server: Server) -> None:
    slots = {"limit": 1, "policy": "replace_oldest"}
    async with (
        guarded(redis_server, pod="pod-1", slots=slots) as one,
        guarded(redis_server, pod="pod-2", slots=slots) as two,
        watch(one, "42", token("u")) as oldest,
    ):
        await oldest.state()
        async with watch(two, "42", token("u")) as newest:
            await newest.state()
            assert (await oldest.rest())[1].code == 4409


async def test_that_nobody_can_be_told_who_is_replaced_is_a_line_of_the_log(
    redis_server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    async with guarded(redis_server) as replica:
        await redis_server.kill()
        replica.runtime._node.say_replaced((Victim("c1", "pod-2.1.a"),))
        said: list[str] = []

        def told() -> bool:
            said.append(capsys.readouterr().out)
            return "replaced connections on other replicas not closed yet" in "".join(said)

        await until(told)
        assert "background task failed" not in "".join(said)


async def test_the_end_of_a_token_closes_and_a_refresh_of_the_same_user_prevents_it(
    redis_server: Server,
) -> None:
    async with guarded(redis_server) as replica:
        async with watch(replica, "42", token("u", ttl_s=50)) as ends:
            await ends.state()
            assert 0 < (await ends.next())["data"]["in_s"] <= 50
            ends_soon(replica, "u")
            frames, close = await ends.rest()
            assert close.code == 4401
            assert [f["type"] for f in frames] == ["error"]
        async with watch(replica, "42", token("u", ttl_s=50)) as stays:
            await stays.state()
            await stays.socket.send(json.dumps({"type": "refresh", "token": token("v")}))
            await stays.socket.send(json.dumps({"type": "refresh", "token": token("u")}))
            said = []
            while "refreshed" not in said:
                frame = json.loads(await stays.socket.recv())
                said.append(frame["type"])
            assert "error" in said  # the other user's token
            await stays.socket.send('{"type":"ping"}')
            assert json.loads(await stays.socket.recv())["type"] == "pong"


async def test_who_may_watch_what_is_told_by_the_token(
    redis_server: Server, backend: Backend
) -> None:
    await backend.publish("mine-1", "note")
    source = {"kind": "claims"}
    async with guarded(redis_server, source=source) as replica:
        mine = token("u", operations=["mine-*"])
        async with watch(replica, "mine-1", mine) as viewer:
            assert (await viewer.state())["data"]["status"] == "running"
        assert (await refused(watch(replica, "yours", mine)))[1].code == 4403


async def test_a_renewed_token_that_allows_less_ends_what_it_does_not_allow(
    redis_server: Server,
) -> None:
    async with (
        guarded(redis_server, source={"kind": "claims"}) as replica,
        watch(replica, "42", token("u", operations=["42"])) as viewer,
    ):
        await viewer.state()
        narrower = token("u", operations=["43"])
        await viewer.socket.send(json.dumps({"type": "refresh", "token": narrower}))
        frames, close = await viewer.rest()
        assert close.code == 4403
        assert frames[0]["type"] == "refreshed"


async def test_a_token_without_an_end_can_be_renewed_too(redis_server: Server) -> None:
    """It was refused with a text about another user."""
    endless = jwt.encode({"sub": "u"}, SECRET, algorithm="HS256")
    auth = AUTH | {"require_exp": False}
    async with (
        guarded(redis_server, auth=auth) as replica,
        watch(replica, "42", endless) as viewer,
    ):
        await viewer.state()
        await viewer.socket.send(json.dumps({"type": "refresh", "token": token("v")}))
        assert (await viewer.next())["data"]["code"] == "refresh_refused"
        await viewer.socket.send(json.dumps({"type": "refresh", "token": token("u", ttl_s=50)}))
        assert [(await viewer.next())["type"] for _ in range(2)] == ["refreshed", "expiring"]
        ends_soon(replica, "u")
        frames, close = await viewer.rest()
        assert [f["type"] for f in frames] == ["error"]
        assert close.code == 4401


async def test_what_is_no_longer_watched_is_forgotten(redis_server: Server) -> None:
    """All that a socket had ever watched was kept, and asked about again with each new token."""
    mine = token("u", operations=["op-*"])
    async with guarded(redis_server, source={"kind": "claims"}) as replica:
        address = f"ws://127.0.0.1:{replica.settings.server.port}/ws"
        async with connect(
            address, additional_headers={"Authorization": f"Bearer {mine}"}
        ) as socket:
            for number in range(50):
                for kind in ("watch", "unwatch"):
                    message = {"type": kind, "operation": f"op-{number}"}
                    await socket.send(json.dumps(message))
                while json.loads(await socket.recv())["type"] != "unwatched":
                    pass
            await socket.send('{"type":"watch","operation":"op-still"}')
            while json.loads(await socket.recv())["type"] != "current_state":
                pass
            (guest,) = replica.runtime._admission._by_user["u"].values()
            assert guest.operations == {"op-still"}


async def test_what_the_source_knows_is_shown_while_there_is_no_stream(
    redis_server: Server,
) -> None:
    async with redis_server.client() as client:
        key = "operation:42"
        await client.hset(key, mapping={"users": "*", "status": "completed", "state": '{"n":1}'})
    source = {"kind": "redis", "redis_prefix": "operation:"}
    async with guarded(redis_server, source=source) as replica:
        async with watch(replica, "42", token("u")) as viewer:
            assert (await viewer.state())["data"] == {"status": "completed", "n": 1}
            assert (await viewer.rest())[1].code == 1000
        assert (await refused(watch(replica, "43", token("u"))))[1].code == 4404


async def test_an_admin_disconnects_a_user_everywhere(
    redis_server: Server,
) -> None:
    async with (
        guarded(redis_server, pod="pod-1") as one,
        guarded(redis_server, pod="pod-2") as two,
        watch(one, "42", token("u")) as here,
        watch(two, "42", token("u")) as there,
        watch(two, "42", token("v")) as other,
    ):
        for viewer in (here, there, other):
            await viewer.state()
        path = "/admin/users/u/disconnect"
        assert (await _post(one, path, "wrong")).status_code == 401
        assert (await _post(one, path, ADMIN_TOKEN)).json() == {"replicas": 2}
        for viewer in (here, there):
            assert (await viewer.rest())[1].code == 4403
        await other.socket.send('{"type":"ping"}')
        assert json.loads(await other.socket.recv())["type"] == "pong"
        await _post(two, "/admin/operations/42/disconnect", ADMIN_TOKEN)
        assert (await other.rest())[1].code == 4403


async def test_a_user_whose_id_has_slashes_can_be_disconnected(redis_server: Server) -> None:
    """It was no such page."""
    user = "https://id.example/u/7?x=1 y"
    async with guarded(redis_server) as replica, watch(replica, "42", token(user)) as viewer:
        await viewer.state()
        path = f"/admin/users/{quote(user, safe='')}/disconnect"
        assert (await _post(replica, path, ADMIN_TOKEN)).json() == {"replicas": 1}
        assert (await viewer.rest())[1].code == 4403


async def _post(replica: Replica, path: str, text: str) -> httpx.Response:
    base = f"http://127.0.0.1:{replica.settings.server.admin_port}"
    async with plain_client(base) as client:
        return await client.post(path, headers={"Authorization": f"Bearer {text}"})


@pytest.mark.parametrize("policy", ["open", "closed"])
async def test_slots_while_redis_is_away(redis_server: Server, policy: str) -> None:
    """`open` counts on this replica and says so; `closed` asks to come back."""
    slots = {"limit": 1, "when_redis_away": policy, "wait_s": 0.3}
    async with (
        guarded(redis_server, slots=slots) as replica,
        # Without a limit it needs no slot, for which Redis might be too slow before it is away.
        watch(replica, "42", token("known", connection_limit=0)) as known,
    ):
        await known.state()
        redis_server.pause()
        try:
            if policy == "closed":
                assert (await refused(watch(replica, "42", token("u"))))[1].code == 1013
            else:
                async with watch(replica, "42", token("u")) as viewer:
                    state = await viewer.state()
                    assert state["data"]["connection_limit"] == "this replica only"
                    over = watch(replica, "42", token("u"))
                    assert (await refused(over))[1].code == 4429
        finally:
            redis_server.resume()
        await until(lambda: replica.feed.is_connected)


async def test_slots_and_lease_are_given_back_at_the_end(redis_server: Server) -> None:
    async with guarded(redis_server) as replica, watch(replica, "42", token("u")) as viewer:
        await viewer.state()
        async with redis_server.client() as client:
            assert await client.hlen("tidegate:slots:u") == 1
            assert await client.zcard("{tidegate}:pods") == 1
            await replica.stop()
            assert await client.hlen("tidegate:slots:u") == 0
            assert await client.zcard("{tidegate}:pods") == 0
        assert (await viewer.rest())[1].code == 1012
