"""What `sweep --uninstall` takes out of a real Redis, and what it must leave there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from tests.cli.command import Done, invoke_app
from tests.harness.backend import GROUP, PREFIX
from tests.harness.names import NAMES
from tests.harness.rights import documented_rights
from tests.harness.waiting import until
from tests.operator.sweeping import DAY_S, HOUR_S, MARK, Streamer, live, now_ms
from tests.servers.cluster import Cluster
from tests.servers.standalone import Server
from tidegate_operator.cli.main import app
from tidegate_operator.redis.leases import GatewayRuns

#: By the quickest pace that a spec allows.
QUICK = ("--uninstall", "--json", "--commands-per-s", "100000")


@pytest.fixture
async def backend(any_server: Server) -> AsyncIterator[Streamer]:
    async with any_server.client() as client:
        yield Streamer(client)


async def uninstall(url: str, *arguments: str, **env: str) -> Done:
    return await invoke_app(app, "sweep", *QUICK, "--redis", url, *arguments, **env)


async def lapse(backend: Streamer) -> None:
    """The pods were killed a moment ago: their leases have lapsed, and nobody took them away."""
    await backend.client.zadd(NAMES.pods, {"a.1.abc": 1, "b.2.abc": await now_ms(backend.client)})


async def everything(backend: Streamer) -> None:
    await backend.ended("finished")
    await backend.watch("finished", "a", "b")
    await backend.ended("kept", age_s=60, status="failed")
    await backend.watch("kept", "a")
    await backend.publish("running")
    await backend.watch("running", "a")
    await backend.aged("idle", 2 * DAY_S)
    await backend.watch("idle", "b")
    await backend.publish("never-watched")
    await backend.publish("foreign")
    await backend.client.xgroup_create(PREFIX + "foreign", "theirs", "0")
    await backend.publish("both")
    await backend.client.xgroup_create(PREFIX + "both", "theirs", "0")
    await backend.watch("both", "a")
    await backend.client.hset("tidegate:slots:ann", "c1", "a.1.abc 1700000000000")
    await backend.client.hset("tidegate:slots:bob", "c2", "of another program")
    await backend.client.set("other", "1")


async def test_what_a_gateway_left_goes_and_nothing_else(
    any_server: Server, backend: Streamer
) -> None:
    """Finished streams, the groups and the leases' clock stayed for ever."""
    await everything(backend)
    await live(backend.client)
    await lapse(backend)
    done = await uninstall(any_server.url)
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["expiring"] == {"finished": 1, "failed": 1, "idle": 1, "orphan": 0}
    assert report["done"] == {"groups": 5, "own_keys": 2, "slot_users": 1, "slots": 1}
    assert report["left"] == {}
    # What has ended goes by its TTL, as always; entries of what runs are the backend's.
    assert await backend.ttl_s("finished") == pytest.approx(HOUR_S, abs=30)
    for one in ("running", "never-watched", "foreign", "both"):
        assert await backend.ttl_s(one) is None
        assert await backend.client.xlen(PREFIX + one) == 1
    assert await backend.group_names("finished") == {MARK}  # it goes with the stream
    assert await backend.group_names("running") == set()
    assert await backend.group_names("foreign") == await backend.group_names("both") == {"theirs"}
    kept = {key async for key in backend.client.scan_iter() if not key.startswith(PREFIX.encode())}
    assert kept == {b"tidegate:slots:bob", b"other"}
    # Once more finds nothing; without a gateway there is nothing to wait for.
    again = json.loads((await uninstall(any_server.url)).out)
    assert not any(again["done"].values())
    assert again["expiring"] == {"finished": 0, "failed": 0, "idle": 0, "orphan": 0}


async def test_a_mark_without_its_ttl_goes_too(any_server: Server, backend: Streamer) -> None:
    await backend.publish("again")
    await backend.client.xgroup_create(PREFIX + "again", MARK, "$")
    assert (await uninstall(any_server.url)).code == 0
    assert await backend.group_names("again") == set()


async def test_nothing_is_removed_while_a_replica_has_a_lease(
    any_server: Server, backend: Streamer
) -> None:
    await everything(backend)
    await live(backend.client, "a", "\x1b[31mx\n")
    done = await uninstall(any_server.url, "--wait", "0s")
    assert done.code == 1
    assert "2 replicas have a lease ([31mx, a): stop the gateway first" in done.err
    assert "\x1b[31m" not in done.err
    assert await backend.ttl_s("finished") is None
    assert await backend.group_names("running") == {GROUP}


async def test_the_last_replicas_are_waited_for(any_server: Server, backend: Streamer) -> None:
    await everything(backend)
    [one] = await live(backend.client, "a")
    waiting = asyncio.create_task(uninstall(any_server.url))
    before = await _calls(backend)

    async def looked() -> bool:
        return await _calls(backend) > before + 1

    await until(looked, "it looks at the leases again")
    assert not waiting.done()
    assert await backend.group_names("running") == {GROUP}
    await backend.client.zrem(NAMES.pods, one)
    done = await waiting
    assert done.code == 0, done.err
    assert await backend.group_names("running") == set()


async def _calls(backend: Streamer) -> int:
    stats = await backend.client.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {"calls": 0})["calls"])


async def test_a_dry_run_of_it_changes_nothing(any_server: Server, backend: Streamer) -> None:
    await everything(backend)
    await lapse(backend)
    done = await uninstall(any_server.url, "--dry-run")
    assert done.code == 0, done.err
    assert json.loads(done.out)["done"]["groups"] == 5
    assert await backend.group_names("running") == {GROUP}
    assert await backend.client.exists(NAMES.pods) == 1


async def test_the_minimal_rights_and_one_more_are_enough(
    any_server: Server, backend: Streamer
) -> None:
    await everything(backend)
    await lapse(backend)
    rights = [*documented_rights("sweeper", "operator.md"), "+unlink"]
    await backend.client.execute_command("ACL", "SETUSER", "sweeper", "on", ">s3cret", *rights)
    login = {"TIDEGATE_REDIS__USERNAME": "sweeper", "TIDEGATE_REDIS__PASSWORD": "s3cret"}
    done = await uninstall(any_server.url, **login)
    assert done.code == 0, done.err
    assert json.loads(done.out)["done"]["own_keys"] == 1


async def test_on_a_cluster(cluster: Cluster) -> None:
    async with cluster.client() as client:
        for number in range(20):
            await client.xadd(f"{PREFIX}{number}", {"status": "completed"})
            await client.xgroup_create(f"{PREFIX}{number}", GROUP, "0")
        await client.hset(NAMES.pods_clock, "since", 1)
    done = await uninstall(cluster.url)
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["expiring"]["finished"] == 20
    assert report["done"]["groups"] == 20
    assert report["done"]["own_keys"] == 1


def test_whoever_has_a_lease_is_named_within_bounds() -> None:
    text = str(GatewayRuns([f"{'x' * 10_000}{number}.1.a" for number in range(1_000)]))
    assert text.startswith("1000 replicas have a lease")
    assert len(text) < 700
