"""A Gateway over time on real servers: conditions, losses, sweeps, its end."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.harness.waiting import until
from tests.operator.stage import STATUS_S, Operator, Stage
from tests.operator.test_operator_scaling import SCALING, begin, replicas_are
from tests.redis.pod import slot_settings
from tests.servers import binaries
from tests.servers.kubernetes import Kubernetes
from tests.servers.standalone import Options, Server
from tidegate.redis.address import parse_address
from tidegate.redis.control import Control, Message, Rebalance
from tidegate.redis.topology import Topology
from tidegate_operator.model.gateway import GROUP, PLURAL
from tidegate_operator.model.schema import crd
from tidegate_operator.model.status import SCHEMA_VERSION


async def test_redis_away_and_back(stage: Stage, redis_server: Server) -> None:
    await begin(stage, 900, 900, scaling={**SCALING, "max": 2})
    [operator] = stage.operators
    before = await stage.condition("RedisReachable", "True")
    await stage.condition("ScalingLimited", "True")
    redis_server.pause()
    away = await stage.condition("RedisReachable", "False", "Unreachable")
    assert away["lastTransitionTime"] >= before["lastTransitionTime"]
    await stage.condition("ScalingActive", "False", "FiguresUnknown")
    await stage.condition("LeasesAgree", "Unknown")
    assert await stage.replicas() == 2
    assert "connections" not in (await stage.gateway())["status"]
    # Told once, not at each round. Another one may follow: a machine that stands still looks alike.
    rounds = "tidegate_operator_loop_rounds_total"
    first = await operator.metric(rounds, loop="scale/main")

    async def later() -> bool:
        return await operator.metric(rounds, loop="scale/main") >= first + 2

    await until(later, operator.process.log_tail)
    told = [one for one in await stage.events() if one["reason"] == "Unreachable"]
    assert len(told) == 1
    redis_server.resume()
    await stage.condition("RedisReachable", "True")
    await stage.condition("ScalingActive", "True")
    assert (await operator.get("/healthz")).status_code == 200


async def test_a_condition_keeps_its_time_until_it_flips(stage: Stage) -> None:
    began = time.monotonic()
    await begin(stage, 10, 10)
    # Ready flips when the machine stands still for so long that Redis looks away. This one stays.
    first = await stage.condition("DefinitionCurrent", "True")
    rounds = "tidegate_operator_loop_rounds_total"
    [operator] = stage.operators

    async def later() -> bool:
        return await operator.metric(rounds, loop="scale/main") > 8

    await until(later, operator.process.log_tail)
    await stage.load(30)

    async def written() -> bool:
        return bool((await stage.gateway())["status"].get("connections") == 60)

    await until(written, operator.process.log_tail)
    last = await stage.condition("DefinitionCurrent", "True")
    assert last["lastTransitionTime"] == first["lastTransitionTime"]
    # Figures alone are written now and then: not at each of the rounds.
    writes = [
        one for one in stage.kubernetes.requests(stage.user) if one.resource == "gateways/status"
    ]
    often = 5 + (time.monotonic() - began) / STATUS_S
    assert len([one for one in writes if one.code == 200]) < often


async def test_a_definition_that_nobody_upgraded_and_its_upgrade(stage: Stage) -> None:
    """Helm leaves what is under `crds/` as it was."""
    old = crd()
    [version] = old["spec"]["versions"]
    del version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["schemaVersion"]
    await stage.apply_crd(old)
    try:
        await stage.grant()
        await stage.make_gateway(scaling=SCALING)

        async def served() -> bool:
            path = f"{stage.gateways}/main/status"
            answer = await stage.send("PATCH", path, {"status": {"selector": "x"}})
            return "schemaVersion" not in answer["status"]

        await until(served, "the old definition is served")
        operator = await stage.start_operator()
        told = await stage.condition("DefinitionCurrent", "False", "Outdated")
        assert "kubectl apply --server-side" in told["message"]

        async def event() -> bool:
            return "Outdated" in [one["reason"] for one in await stage.events()]

        await until(event, operator.process.log_tail)
    finally:
        await stage.apply_crd(crd())
    await stage.condition("DefinitionCurrent", "True", "Current")
    assert (await stage.gateway())["status"]["schemaVersion"] == SCHEMA_VERSION


async def test_a_gateway_without_its_deployment_and_with_it(stage: Stage) -> None:
    await stage.grant()
    await stage.make_gateway(scaling=SCALING)
    operator = await stage.start_operator()
    ready = await stage.condition("Ready", "False", "TargetNotFound")
    assert "there is no Deployment tidegate: make it" in ready["message"]
    await stage.make_deployment(2)
    await stage.settle_deployment()
    await stage.condition("Ready", "False", "NoReadyPods")
    await stage.make_pod("aaaaa", connections=900)
    await stage.make_pod("bbbbb", connections=900)
    await stage.condition("Ready", "True")
    await until(replicas_are(stage, 4), operator.process.log_tail)
    assert (await stage.gateway())["status"]["observedGeneration"] == 1


async def test_a_gateway_goes_without_a_finalizer_and_comes_again(stage: Stage) -> None:
    await begin(stage, 10, 10)
    [operator] = stage.operators
    await stage.condition("Ready", "True")
    assert "finalizers" not in (await stage.gateway())["metadata"]
    assert "annotations" not in (await stage.gateway())["metadata"]
    await stage.send("DELETE", f"{stage.gateways}/main")
    assert (await stage.api.get(f"{stage.gateways}/main")).status_code == 404

    async def let_go() -> bool:  # its loops end a moment after it is gone
        state = (await operator.get("/debug/state")).json()
        return not state["gateways"] and list(state["loops"]) == ["gateways"]

    await until(let_go, operator.process.log_tail)
    assert await operator.metric("tidegate_operator_gateways") == 0
    await stage.make_gateway(scaling=SCALING)
    await stage.condition("Ready", "True")
    counted = "tidegate_operator_decisions_total"
    assert await operator.metric(counted, reason="Steady") > 0  # counters went on


async def test_streams_are_swept_and_the_status_says_so(stage: Stage, redis_server: Server) -> None:
    async with redis_server.client() as redis:
        await redis.xadd("operation-progress:done", {"type": "operation_completed"})
        await redis.xadd("operation-progress:running", {"type": "progress"})
        await redis.set("other", "1")
        await begin(stage, 10, 10)
        [operator] = stage.operators
        healthy = await stage.condition("SweepHealthy", "True", "Swept")
        assert "2 streams" in healthy["message"]
        assert 0 < await redis.ttl("operation-progress:done") <= 3_600
        assert await redis.ttl("operation-progress:running") == -1
        assert await redis.ttl("other") == -1
        counts = (await stage.gateway())["status"]["lastSweep"]["counts"]
        assert (counts["finished"], counts["running"], counts["ttlSet"]) == (1, 1, 1)
        assert await operator.metric("tidegate_operator_streams", state="finished") == 1
        expired = "tidegate_operator_streams_expired_total"
        assert await operator.metric(expired, state="finished") == 1
        await stage.condition("MemoryPressure", "Unknown", "NoLimit")
        # Another pace, memory near its limit: seen by the next sweep.
        used = int((await redis.info("memory"))["used_memory"])
        streams = {"pace": {"intervalS": 10}, "memory": {"limitBytes": max(2**20, used + 1000)}}
        await stage.change_gateway(streams=streams)


@pytest.mark.full  # the sweep itself is proved by test_sweep.py
async def test_a_dry_run_changes_nothing(stage: Stage, redis_server: Server) -> None:
    async with redis_server.client() as redis:
        await redis.xadd("operation-progress:done", {"type": "operation_completed"})
        await begin(stage, 10, 10, streams={"dryRun": True})
        await stage.condition("SweepHealthy", "True", "DryRun")
        assert await redis.ttl("operation-progress:done") == -1
        last = (await stage.gateway())["status"]["lastSweep"]
        assert last["dryRun"] is True
        assert last["counts"]["ttlSet"] == 1


async def test_a_full_pod_is_asked_to_send_viewers_away(stage: Stage, redis_server: Server) -> None:
    settings = slot_settings(redis_server.url, "listener")
    topology = Topology(parse_address(settings.redis), settings.redis)
    told: list[Message] = []
    heard = asyncio.Event()

    def hear(message: Message) -> None:
        told.append(message)
        heard.set()

    control = Control(topology, settings, hear)
    listening = asyncio.create_task(control.run())
    try:
        await control.listening()
        await begin(stage, 900, 10, scaling={"mode": "none"}, replicas=2)
        async with asyncio.timeout(60):
            await heard.wait()
        message = told[0]
        assert isinstance(message, Rebalance)
        assert message.pod.endswith("-aaaaa")
        assert 0 < message.connections <= 445
        # At the most 50 in a second, as the spec says.
        assert message.connections / message.over_s <= 50
        shed = "tidegate_operator_shed_connections_total"

        async def counted() -> bool:
            return await stage.operators[0].metric(shed) >= message.connections

        await until(counted, stage.operators[0].process.log_tail)
    finally:
        listening.cancel()
        await asyncio.wait({listening})
        await topology.close()


async def _change_password(server: Server, before: str, after: str) -> None:
    async with Redis(host=server.host, port=server.port, password=before) as client:
        await client.config_set("requirepass", after)
        await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


@pytest.mark.real("valkey9")
async def test_a_rotated_password_is_picked_up(kubernetes: Kubernetes, tmp_path: Path) -> None:
    async with (
        Server(binaries.embedded(), Options(password="old-password")) as server,
        Stage(kubernetes, server.url, tmp_path) as stage,
    ):
        secret = {"metadata": {"name": "redis"}, "stringData": {"password": "old-password"}}
        await stage.send("POST", stage.path("secrets"), secret)
        await stage.grant(names=["redis"])
        await stage.make_deployment(1)
        await stage.settle_deployment()
        await stage.make_pod("aaaaa", connections=10)
        place = {"name": "redis", "key": "password"}
        redis = {"url": f"redis://{server.address}", "passwordSecret": place}
        await stage.make_gateway(redis=redis)
        operator = await stage.start_operator()
        await stage.condition("RedisReachable", "True")
        await _change_password(server, "old-password", "new-password")
        await stage.condition("RedisReachable", "False", "Unreachable")
        changed = {"stringData": {"password": "new-password"}}
        await stage.send("PATCH", stage.path("secrets", "redis"), changed)
        await stage.condition("RedisReachable", "True")
        log = operator.process.log_file.read_text()
        assert "old-password" not in log
        assert "new-password" not in log
        await stage.send("DELETE", stage.path("secrets", "redis"))
        await _change_password(server, "new-password", "newest")
        missing = await stage.condition("RedisReachable", "False", "SecretMissing")
        assert "there is no Secret redis" in missing["message"]


async def test_a_taken_port_ends_the_start(stage: Stage) -> None:
    await stage.grant()
    first = await stage.start_operator()
    port = first.url.rsplit(":", 1)[1]

    second = Operator(stage, "operator-1", {"PORT": port})
    stage.operators.append(second)
    second.process.spawn()
    assert await second.process.wait(60) == 1
    assert "give another port" in second.process.log_tail()


async def test_a_deleted_definition_is_waited_for(stage: Stage) -> None:
    """It ended both operators, with a traceback, again and again until it was back."""
    await begin(stage, 10, 10)
    second = await stage.start_operator("operator-1")
    await stage.condition("Ready", "True")
    definition = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{PLURAL}.{GROUP}"
    try:
        await stage.send("DELETE", definition)
        for operator in stage.operators:

            async def waits(operator: Operator = operator) -> bool:
                answer = await operator.get("/readyz")
                return answer.status_code == 503 and "waiting for it" in answer.json()["reason"]

            await until(waits, operator.process.log_tail)
            assert (await operator.get("/healthz")).status_code == 200
        first = stage.operators[0]
        assert await first.metric("tidegate_operator_gateways") == 0
    finally:
        await stage.apply_crd(crd())
    for operator in stage.operators:
        await operator.ready()
    # As before, and at once: what changes is watched again.
    await stage.make_gateway(scaling=SCALING)
    await stage.condition("Ready", "True")
    assert await stage.leader() == "operator-0"
    for operator in stage.operators:
        log = operator.process.log_file.read_text()
        assert "Traceback" not in log
        assert log.count('"definition missing"') == 1
        assert log.count('"definition installed"') == 1
    assert await second.process.stop(30) == 0


async def test_an_operator_that_comes_before_its_definition_waits_for_it(stage: Stage) -> None:
    definition = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{PLURAL}.{GROUP}"
    await stage.grant()
    await stage.make_deployment(1)
    await stage.settle_deployment()
    await stage.make_pod("aaaaa", connections=10)
    await stage.send("DELETE", definition)
    operator = Operator(stage, "operator-0", {"INTERVAL_S": "85"})
    stage.operators.append(operator)
    try:
        operator.process.spawn()

        async def waits() -> bool:
            return (
                operator.process.running and '"definition missing"' in operator.process.log_tail()
            )

        await until(waits, operator.process.log_tail)
    finally:
        await stage.apply_crd(crd())
    await operator.ready()
    # Rounds are further apart than anything is waited for: it is the watch that tells.
    await stage.make_gateway(scaling=SCALING)
    await stage.condition("Ready", "True")
    await stage.make_pod("bbbbb", connections=10)
    await stage.change_gateway(scaling={"min": 3})
    await until(replicas_are(stage, 3), operator.process.log_tail)
