"""Tokens taken back before their end: their connections close everywhere, and they do not come back
on any replica, also one that was not there when it was said.
"""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

import tidegate.redis.revoked as revoked_list
from tests.harness.names import NAMES
from tests.harness.plain_http import plain_client
from tests.harness.replica import Replica, quick_settings
from tests.harness.viewer import Viewer
from tests.harness.waiting import until
from tests.servers.standalone import Server
from tests.web.access.test_admission import ADMIN_TOKEN, AUTH, guarded, refused, token, watch
from tests.web.sse.test_sse import EventReader, url
from tidegate.core.revocation import REVOCATIONS_MAX, Revocation
from tidegate.model.errors import InvalidRequest


async def revoke(
    replica: Replica, user: str = "u", *, admin_token: str = ADMIN_TOKEN, **query: Any
) -> httpx.Response:
    base = f"http://127.0.0.1:{replica.settings.server.admin_port}"
    async with plain_client(base) as client:
        return await client.post(
            f"/admin/users/{user}/disconnect",
            params=query,
            headers={"Authorization": f"Bearer {admin_token}"},
        )


async def close_of(viewer: Viewer) -> tuple[str, int]:
    """The code of the last error frame, and of the close."""
    frames, close = await viewer.rest()
    return frames[-1]["data"]["code"], close.code


async def is_let_in(replica: Replica, text: str) -> bool:
    async with watch(replica, "42", text) as viewer:
        frame = (await viewer.next())["type"]
        if frame == "current_state":
            return True
        assert (await viewer.closed()).code == 4401
        return False


async def test_the_connections_of_one_token_close_on_all_replicas(redis_server: Server) -> None:
    """Within a second; of several, because the machine may stand still during one of them."""
    lost, kept = "", token("u", jti="kept")
    took_s: list[float] = []
    async with (
        guarded(redis_server, pod="pod-1") as one,
        guarded(redis_server, pod="pod-2") as two,
        watch(two, "42", kept) as other,
        watch(one, "42", token("v", jti="lost-0")) as namesake,
    ):
        for viewer in (other, namesake):
            await viewer.state()
        for number in range(5):
            lost = token("u", jti=f"lost-{number}")
            async with watch(one, "42", lost) as here, watch(two, "42", lost) as there:
                for viewer in (here, there):
                    await viewer.state()
                started = time.monotonic()
                answer = await revoke(one, token_id=f"lost-{number}")
                assert answer.json() == {"replicas": 2}
                for viewer in (here, there):
                    assert await close_of(viewer) == ("token_revoked", 4401)
                took_s.append(time.monotonic() - started)
        assert min(took_s) < 1.0, took_s
        for viewer in (other, namesake):
            await viewer.ping()
        for replica in (one, two):
            assert (await refused(watch(replica, "42", lost)))[0] == "token_revoked"
            assert not await is_let_in(replica, lost)
            assert await is_let_in(replica, kept)


async def test_a_stream_and_a_request_go_by_the_same_book(redis_server: Server) -> None:
    lost = token("u", jti="lost")
    headers = {"Authorization": f"Bearer {lost}"}
    async with (
        guarded(redis_server) as replica,
        plain_client(headers=headers) as client,
        client.stream("GET", url(replica, "42")) as response,
    ):
        events = EventReader(response)
        await events.next()
        await revoke(replica, token_id="lost")
        found = await events.rest()
        assert found[-2].data["data"]["code"] == "token_revoked"
        assert found[-1].data["data"]["code"] == 4401
        base = f"http://127.0.0.1:{replica.settings.server.port}"
        for path in ("/operations/42", "/operations/42/events?wait=9", "/sse/operations/42"):
            answer = await client.get(base + path)
            assert (answer.status_code, answer.json()["code"]) == (401, "token_revoked")


async def test_all_that_were_issued_before_a_time(redis_server: Server) -> None:
    now = int(time.time())
    old, mute = token("u", iat=now - 100), token("u")
    new = token("u", iat=now - 50)
    async with (
        guarded(redis_server) as replica,
        watch(replica, "42", old) as first,
        watch(replica, "42", mute) as second,
        watch(replica, "42", new) as third,
    ):
        for viewer in (first, second, third):
            await viewer.state()
        await revoke(replica, issued_before=now - 50)
        for viewer in (first, second):
            assert (await close_of(viewer))[1] == 4401
        await third.ping()
        assert not await is_let_in(replica, old)
        assert not await is_let_in(replica, mute), "it does not say that it is newer"
        assert await is_let_in(replica, new)
        assert await is_let_in(replica, token("v", iat=now - 100))


async def test_who_renews_with_a_revoked_token_is_refused(redis_server: Server) -> None:
    async with (
        guarded(redis_server) as replica,
        watch(replica, "42", token("u", jti="good")) as viewer,
    ):
        await viewer.state()
        await revoke(replica, token_id="lost")
        # It has been told, and is heard by a connection of its own.
        await until(lambda: len(replica.runtime._admission.revocations) == 1)
        await viewer.say(f'{{"type":"refresh","token":"{token("u", jti="lost")}"}}')
        frame = await viewer.until(type="error")
        assert frame["data"]["code"] == "token_revoked"
        await viewer.ping()
        await viewer.say(f'{{"type":"refresh","token":"{token("u", jti="other")}"}}')
        await viewer.until(type="refreshed")
        await revoke(replica, token_id="other")
        assert (await close_of(viewer))[1] == 4401


async def test_a_replica_that_starts_later_knows(redis_server: Server) -> None:
    lost = token("u", jti="lost")
    async with guarded(redis_server, pod="pod-1") as one:
        assert (await revoke(one, token_id="lost")).status_code == 200
    async with guarded(redis_server, pod="pod-2") as two:
        await until(lambda: len(two.runtime._admission.revocations) == 1, "the list is read")
        assert not await is_let_in(two, lost)
        assert await is_let_in(two, token("u", jti="kept"))


async def test_who_missed_the_message_learns_from_the_list(
    redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revoked_list, "READ_AGAIN_S", 0.3)
    async with (
        guarded(redis_server, pod="pod-1") as one,
        watch(one, "42", token("u", jti="lost")) as viewer,
    ):
        await viewer.state()
        # On the list, and nobody was told.
        await one.runtime._revoked.add(Revocation("u", "lost"))
        assert await close_of(viewer) == ("token_revoked", 4401)


async def test_it_is_in_force_while_redis_is_away(redis_server: Server) -> None:
    lost = token("u", jti="lost")
    async with guarded(redis_server, slots={"wait_s": 10}) as replica:
        await revoke(replica, token_id="lost")
        await until(lambda: len(replica.runtime._admission.revocations) == 1)
        # Only from now on: the first may take longer on a busy machine.
        short = quick_settings(redis_server.url, slots={"wait_s": 0.3})
        replica.runtime._revoked._settings = short
        redis_server.pause()
        try:
            assert not await is_let_in(replica, lost)
            assert (await revoke(replica, token_id="another")).status_code == 503
        finally:
            redis_server.resume()
        await until(lambda: replica.feed.is_connected)


async def test_the_list_is_bounded_and_forgets(redis_server: Server) -> None:
    async with (
        guarded(redis_server, auth={**AUTH, "revoked_keep_s": 60}) as replica,
        redis_server.client() as client,
    ):
        await replica.runtime._revoked.add(Revocation("u", "first"))
        assert 0 < await client.ttl(NAMES.revoked) <= 61
        rows: dict[Any, float] = {f'["u","{n}",null]': 9e9 for n in range(REVOCATIONS_MAX - 1)}
        await client.zadd(NAMES.revoked, rows)
        with pytest.raises(InvalidRequest, match="issued_before"):
            await replica.runtime._revoked.add(Revocation("u", "one more"))
        await replica.runtime._revoked.add(Revocation("u", "first"))  # said again
        await client.zadd(NAMES.revoked, dict.fromkeys(list(rows)[:5], 1.0))  # ended long ago
        await replica.runtime._revoked.add(Revocation("u", "one more"))
        assert await client.zcard(NAMES.revoked) == REVOCATIONS_MAX - 4


async def test_what_others_left_in_the_list_is_passed_over(redis_server: Server) -> None:
    async with redis_server.client() as client:
        rows: dict[Any, float] = {b"\xff": 9e9, "{}": 9e9, '["u"]': 9e9, '["u",3,null]': 9e9}
        await client.zadd(NAMES.revoked, {**rows, '["u","lost",null]': 9e9})
    async with guarded(redis_server) as replica:
        await until(lambda: len(replica.runtime._admission.revocations) == 1)
        assert not await is_let_in(replica, token("u", jti="lost"))
        assert replica.runtime._revoked.counts["unreadable"] == 4


async def test_what_cannot_be_meant_is_refused(redis_server: Server) -> None:
    wrong: list[dict[str, Any]] = [
        {"token_id": ""},
        {"token_id": "x" * 257},
        {"issued_before": "yesterday"},
        {"issued_before": "nan"},
        {"issued_before": -1},
        {"issued_before": time.time() * 1000},  # milliseconds
        {"issued_before": time.time() + 86_400},
    ]
    async with guarded(redis_server) as replica, watch(replica, "42", token("u")) as viewer:
        await viewer.state()
        for query in wrong:
            assert (await revoke(replica, **query)).status_code in (400, 422), query
            await viewer.ping()
        assert (await revoke(replica, admin_token="wrong", token_id="a")).status_code == 401
        assert len(replica.runtime._admission.revocations) == 0
