"""What `tidegate doctor` finds at a Redis: real servers, each with one thing wrong."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness.rights import documented_rights
from tests.servers.cluster import Cluster
from tests.servers.ports import free_port
from tests.servers.standalone import Server
from tests.servers.tls import Certificates
from tidegate.model.findings import Finding, FindingLevel, worst
from tidegate.model.settings import Settings
from tidegate.redis.examination import examine_redis
from tidegate.redis.examined_limits import clock, eviction, latency, output_buffer

GB = "1073741824"


async def examined(url: str, **redis: Any) -> dict[str, Finding]:
    settings = Settings.model_validate(
        {"server": {"auth": "none"}, "redis": {"url": url, "connect_timeout_s": 10} | redis}
    )
    return {one.check: one for one in await examine_redis(settings)}


async def test_a_server_with_its_defaults_is_well_and_keeps_nothing(any_server: Server) -> None:
    found = await examined(any_server.url)

    assert {one.verdict for one in found.values()} <= {FindingLevel.OK, FindingLevel.WARNING}, found
    assert found["version"].found.split()[0] in ("redis", "valkey")
    for check in ("connection", "cluster", "tracking", "relay", "eviction", "output buffer", "acl"):
        assert found[check].verdict is FindingLevel.OK, found[check]
    async with any_server.client() as client:
        assert await client.keys("operation-progress:*") == []


async def test_a_cluster_is_tried_on_each_primary(cluster: Cluster) -> None:
    settings = Settings.model_validate({"server": {"auth": "none"}, "redis": {"url": cluster.url}})
    found = await examine_redis(settings)
    assert worst(found) is not FindingLevel.FAILED, found
    assert len([one for one in found if one.check == "connection"]) == 3


async def test_the_wrong_kind_of_address_is_named(redis_server: Server) -> None:
    found = await examined(redis_server.url.replace("redis://", "redis+cluster://"))
    assert found["connection"].verdict is FindingLevel.FAILED
    assert "starts with redis://" in found["connection"].advice


@pytest.mark.full
async def test_a_node_of_a_cluster_wants_another_address(cluster: Cluster) -> None:
    node = cluster.url.replace("redis+cluster://", "redis://").partition(",")[0]
    found = await examined(node)
    assert found["cluster"].verdict is FindingLevel.FAILED
    assert "redis+cluster://" in found["cluster"].advice


async def test_the_documented_acl_is_enough_and_less_is_not(redis_server: Server) -> None:
    async with redis_server.client() as client:
        rights = documented_rights("gateway")
        await client.execute_command("ACL", "SETUSER", "gateway", "on", ">secret", *rights)
        url = redis_server.url.replace("redis://", "redis://gateway:secret@")

        found = await examined(url)
        assert found["acl"].verdict is FindingLevel.OK, found
        assert found["tracking"].verdict is FindingLevel.OK
        # It needs no CONFIG, so it cannot look.
        assert found["output buffer"].verdict is FindingLevel.UNKNOWN

        for less in ("-client|tracking", "-ssubscribe", "-hset", "-time"):
            await client.execute_command("ACL", "SETUSER", "gateway", less)
        found = await examined(url)
        assert found["tracking"].verdict is FindingLevel.WARNING
        assert "client|tracking" in found["tracking"].advice
        assert found["relay"].verdict is FindingLevel.FAILED
        assert found["clock"].verdict is FindingLevel.UNKNOWN
        assert found["acl"].verdict is FindingLevel.FAILED
        assert "hset" in found["acl"].found
        await client.execute_command("ACL", "DELUSER", "gateway")


async def test_a_login_that_is_refused(redis_server: Server) -> None:
    found = await examined(redis_server.url.replace("redis://", "redis://nobody:wrong@"))
    assert found["connection"].verdict is FindingLevel.FAILED
    assert "redis.password" in found["connection"].advice
    assert "wrong@" not in str(found)


async def test_nobody_listens() -> None:
    found = await examined(f"redis://127.0.0.1:{free_port()}")
    assert list(found) == ["connection"]
    assert "no server listens" in found["connection"].advice


async def test_a_port_without_tls(redis_server: Server, certificates: Certificates) -> None:
    url = redis_server.url.replace("redis://", "rediss://")
    found = await examined(url, tls_ca_file=str(certificates.ca_file), connect_timeout_s=1)
    assert found["connection"].verdict is FindingLevel.FAILED
    assert "TLS" in found["connection"].advice


async def test_limits_are_read_from_the_server(redis_server: Server) -> None:
    async with redis_server.client() as client:
        await client.config_set("maxmemory", GB)
        await client.config_set("maxmemory-policy", "allkeys-lru")
        await client.config_set("client-output-buffer-limit", "pubsub 1mb 1mb 1")
        found = await examined(redis_server.url)
        await client.config_set("maxmemory", "0")
        await client.config_set("maxmemory-policy", "noeviction")
        await client.config_set("client-output-buffer-limit", "pubsub 32mb 8mb 60")
    assert found["eviction"].verdict is FindingLevel.FAILED
    assert "1 GiB" in found["eviction"].found
    assert found["output buffer"].verdict is FindingLevel.WARNING


@pytest.mark.parametrize(
    ("policy", "limit", "used", "verdict"),
    [
        ("noeviction", "0", "5", FindingLevel.OK),
        ("allkeys-lru", "0", "5", FindingLevel.OK),
        ("noeviction", GB, "5", FindingLevel.OK),
        ("noeviction", GB, "900000000", FindingLevel.WARNING),
        ("volatile-ttl", GB, "5", FindingLevel.WARNING),
        ("allkeys-lfu", GB, "5", FindingLevel.FAILED),
        ("", GB, "5", FindingLevel.UNKNOWN),
        ("noeviction", "much", "5", FindingLevel.UNKNOWN),
        ("noeviction", "9" * 30, "5", FindingLevel.UNKNOWN),
    ],
)
def test_eviction(policy: str, limit: str, used: str, verdict: FindingLevel) -> None:
    info = {"maxmemory_policy": policy, "maxmemory": limit, "used_memory": used}
    assert eviction("here", info).verdict is verdict


@pytest.mark.parametrize(
    ("limits", "verdict"),
    [
        ("normal 0 0 0 slave 1 1 1 pubsub 33554432 8388608 60", FindingLevel.OK),
        ("pubsub 0 0 0", FindingLevel.OK),
        ("pubsub 33554432 1048576 60", FindingLevel.WARNING),
        ("pubsub 1048576 0 0", FindingLevel.WARNING),
        ("normal 0 0 0", FindingLevel.UNKNOWN),
        ("pubsub x y z", FindingLevel.UNKNOWN),
        ("", FindingLevel.UNKNOWN),
        (None, FindingLevel.UNKNOWN),
    ],
)
def test_output_buffer(limits: str | None, verdict: FindingLevel) -> None:
    assert output_buffer("here", limits).verdict is verdict


def test_clock_and_latency() -> None:
    assert clock("here", -0.9).verdict is FindingLevel.OK
    assert clock("here", -1.1).verdict is FindingLevel.WARNING
    assert clock("here", None).verdict is FindingLevel.UNKNOWN
    assert latency("here", [0.001, 0.002, 9.0]).verdict is FindingLevel.OK  # a pause is none
    assert "same zone" in latency("here", [0.01, 0.01, 0.02]).advice
    assert "same region" in latency("here", [0.2, 0.2, 0.2]).advice


def test_the_verdict_over_all() -> None:
    one = Finding("here", "x", FindingLevel.OK, "")
    assert worst([one]) is FindingLevel.OK
    assert worst([one, one._replace(verdict=FindingLevel.UNKNOWN)]) is FindingLevel.WARNING
    assert worst([one, one._replace(verdict=FindingLevel.FAILED)]) is FindingLevel.FAILED
