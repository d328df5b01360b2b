"""Two gateways on one Redis, which differ in database, key prefix or group, do not hear, count or
close each other. Viewers of database 1 got the entries of database 0, a disconnect in one closed
viewers of the other, and slots of one user were counted together.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import pytest
import redis.asyncio

from tests.harness.backend import PREFIX
from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers.cluster import Cluster
from tests.servers.standalone import Server
from tests.web.access.test_admission import ADMIN_TOKEN, guarded, token, watch
from tidegate.redis.names import Names, same_slot

#: What the second one has other than the defaults.
OTHERS: dict[str, dict[str, Any]] = {
    "database": {"db": 1},
    "key prefix": {"key_prefix": "jobs:"},
    "group": {"group": "second"},
    "all three": {"db": 2, "key_prefix": "jobs/", "group": "a/b"},
}


def with_db(url: str, db: int) -> str:
    return f"{url.removesuffix('/0')}/{db}"


@pytest.fixture(params=OTHERS)
async def pair(
    request: pytest.FixtureRequest, redis_server: Server
) -> AsyncIterator[tuple[Replica, Replica]]:
    own = dict(OTHERS[request.param])
    own["url"] = with_db(redis_server.url, own.pop("db", 0))
    limit = {"limit": 1}
    async with (
        guarded(redis_server, slots=limit) as one,
        # The same pod name: leases must not be taken for each other's either.
        guarded(redis_server, slots=limit, redis=own) as other,
    ):
        yield one, other


async def add(replica: Replica, n: int, operation: str = "42") -> str:
    """An entry of the stream that this gateway watches."""
    settings = replica.settings.redis
    async with redis.asyncio.Redis.from_url(settings.url.get_secret_value()) as client:
        text = json.dumps({"type": "progress", "data": {"n": n}})
        added = await client.xadd(settings.key_prefix + operation, {"message": text})
        return _text(added)


def _text(entry_id: bytes | str) -> str:
    return entry_id.decode() if isinstance(entry_id, bytes) else entry_id


async def disconnect(replica: Replica, user: str) -> dict[str, Any]:
    base = f"http://127.0.0.1:{replica.settings.server.admin_port}"
    async with httpx.AsyncClient(base_url=base, verify=False) as client:
        answer = await client.post(
            f"/admin/users/{user}/disconnect",
            headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
        )
        body: dict[str, Any] = answer.json()
        return body


async def test_viewers_get_the_entries_of_their_own_gateway_only(
    pair: tuple[Replica, Replica],
) -> None:
    one, other = pair
    # A group on the same stream is the only case in which both have the same entries.
    shared = one.settings.redis.url == other.settings.redis.url and (
        one.settings.redis.key_prefix == other.settings.redis.key_prefix
    )
    async with watch(one, "42", token("u")) as here, watch(other, "42", token("v")) as there:
        await here.state()
        await there.state()
        for n in range(20):
            mine = await add(one, n)
            assert (await here.ids(1)) == [mine]
            if shared:
                assert (await there.ids(1)) == [mine]
            else:
                theirs = await add(other, n)
                assert (await there.ids(1)) == [theirs]
        assert "relay_foreign" not in {name for name, n in one.counts().items() if n}


async def test_a_disconnect_is_heard_in_its_own_gateway_only(
    pair: tuple[Replica, Replica],
) -> None:
    one, other = pair
    async with watch(one, "42", token("u")) as here, watch(other, "42", token("u")) as there:
        await here.state()
        await there.state()  # with a limit of one: slots are counted apart, too
        await until(lambda: other.runtime._node.control.stats().listening)
        await until(lambda: one.runtime._node.control.stats().listening)
        assert await disconnect(one, "u") == {"replicas": 1}
        assert (await here.rest())[1].code == 4403
        await there.ping()
        await there.until_id(await add(other, 1))
        assert await disconnect(other, "u") == {"replicas": 1}
        assert (await there.rest())[1].code == 4403


async def test_each_has_a_lease_among_its_own(pair: tuple[Replica, Replica]) -> None:
    for replica in pair:
        pods = replica.runtime._node.pods
        await until(partial(getattr, pods, "is_held"))
        roster = await pods.roster()
        assert [record.incarnation for record in roster] == [pods.stats().incarnation]


async def test_two_groups_on_a_cluster(cluster: Cluster) -> None:
    """The relay channel of a group lies in the slot of the stream."""
    async with (
        Replica(cluster.url) as one,
        Replica(cluster.url, redis={"group": "second", "key_prefix": "jobs:"}) as other,
        Replica(cluster.url, redis={"group": "third"}) as third,
        cluster.client() as client,
    ):
        for n in range(8):
            operation = f"op-{n}"
            async with (
                one.watch(operation) as a,
                other.watch(operation) as b,
                third.watch(operation) as c,
            ):
                for viewer in (a, b, c):
                    await viewer.state()
                both = _text(await client.xadd(PREFIX + operation, {"n": n}))
                jobs = _text(await client.xadd("jobs:" + operation, {"n": n}))
                assert (await a.ids(1), await b.ids(1), await c.ids(1)) == ([both], [jobs], [both])


def test_the_defaults_keep_their_names() -> None:
    names = Names(0, "operation-progress:", "tidegate")
    assert (names.pods, names.pods_clock) == (b"{tidegate}:pods", b"{tidegate}:pods:clock")
    assert (names.control, names.revoked) == (b"{tidegate}:control", b"{tidegate}:revoked")
    assert names.slots_prefix == b"tidegate:slots:"
    assert names.relay(b"operation-progress:42") == b"operation-progress:42"


@pytest.mark.parametrize("prefix", ["jobs:", "{jobs}:", "a/b{c}", "operation-progress:"])
@pytest.mark.parametrize(("db", "group"), [(0, "second"), (3, "tidegate"), (3, "a/b%")])
def test_a_channel_says_which_stream_it_relays(db: int, prefix: str, group: str) -> None:
    names = Names(db, prefix, group)
    stream = f"{prefix}42".encode()
    channel = names.relay(stream)
    assert channel != stream
    assert names.stream(channel) == stream
    assert channel.startswith(same_slot(stream.decode()).encode())


def test_no_two_gateways_share_a_name() -> None:
    kinds = [
        Names(db, prefix, group)
        for db in (0, 1, 11)
        for prefix in ("a", "a/b", "operation-progress:", "1/a")
        for group in ("a", "b/a", "tidegate", "a%2Fb", "1/tidegate")
    ]
    assert len({names.pods for names in kinds}) == len(kinds)
    assert len({names.slots_prefix for names in kinds}) == len(kinds)
