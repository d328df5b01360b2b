"""What the operator does with its rights for whoever may write a Gateway: on a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.harness.waiting import until
from tests.operator.secrets import settings
from tests.operator.stage import TARGET, Stage
from tests.operator.test_operator_scaling import SCALING, replicas_are
from tests.servers.standalone import Server
from tidegate_operator.loops.scope import OutOfScope, Scope
from tidegate_operator.model.gateway import read_spec

FOREIGN = "payments-api"


@pytest.mark.parametrize(
    ("target", "prefix", "reason"),
    [
        ("gw", "jobs:", None),
        ("gw", "jobs:night:", None),
        ("payments-api", "jobs:", "TargetNotAllowed"),
        ("gw", "jobs", "PrefixNotAllowed"),
        ("gw", "bill", "PrefixNotAllowed"),
        ("gw", "operation-progress:", "PrefixNotAllowed"),
    ],
)
def test_what_goes_beyond_the_scope_is_refused(
    target: str, prefix: str, reason: str | None
) -> None:
    spec = read_spec({"target": {"name": target}, "streams": {"prefix": prefix}})
    Scope.of(settings()).check(spec)  # nothing is named: everything will do
    scope = Scope.of(settings(gateway="main", target="gw", key_prefix="jobs:"))
    if reason is None:
        scope.check(spec)
    else:
        with pytest.raises(OutOfScope) as told:
            scope.check(spec)
        assert told.value.reason == reason


async def foreign_deployment(stage: Stage) -> None:
    """Of another team, in the same namespace."""
    labels = {"app": FOREIGN}
    containers = [{"name": "api", "image": "payments"}]
    body = {
        "metadata": {"name": FOREIGN},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    }
    await stage.send("POST", stage.deployments, body)


async def scale_of_foreign(stage: Stage) -> int:
    found = await stage.send("GET", f"{stage.deployments}/{FOREIGN}")
    return int(found["spec"]["replicas"])


def told(stage: Stage, reason: str) -> Callable[[], Awaitable[bool]]:
    """Whether there is an event with this reason."""

    async def holds() -> bool:
        return any(one["reason"] == reason for one in await stage.events())

    return holds


TO_ZERO: dict[str, Any] = {"target": {"name": FOREIGN}, "replicas": 0, "scaling": {"mode": "none"}}


async def test_a_gateway_scaled_the_deployment_of_another_team(stage: Stage) -> None:
    """The Role names the one Deployment, so the API server refuses, whatever the operator does."""
    await stage.grant()
    await foreign_deployment(stage)
    await stage.make_gateway(**TO_ZERO)
    operator = await stage.start_operator()
    condition = await stage.condition("ScalingActive", "False", "Forbidden")
    assert FOREIGN in condition["message"]
    assert await scale_of_foreign(stage) == 3

    def asked() -> set[int]:
        every = stage.kubernetes.requests(stage.user)
        return {one.code for one in every if one.name == FOREIGN}

    await until(asked, operator.process.log_tail)
    assert asked() == {403}
    # Nor by its sub-resource, were the operator to be led to it.
    async with stage.kubernetes.client(stage.user) as client:
        for name, code in ((FOREIGN, 403), (TARGET, 404)):
            answer = await client.patch(
                f"{stage.deployments}/{name}/scale",
                json={"spec": {"replicas": 0}},
                headers={"Content-Type": "application/merge-patch+json"},
            )
            assert answer.status_code == code, answer.text
    assert await scale_of_foreign(stage) == 3


async def test_an_autoscaler_is_made_under_the_gateways_name_only(stage: Stage) -> None:
    """Kubernetes cannot narrow `create` by name, but for an apply, which names the object."""
    await stage.grant()
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": FOREIGN},
        "maxReplicas": 1,
    }
    api = "autoscaling/v2"
    path = stage.path("horizontalpodautoscalers", api=f"/apis/{api}")
    async with stage.kubernetes.client(stage.user) as client:
        for name, code in (("other", 403), ("main", 201)):
            body = {"apiVersion": api, "kind": "HorizontalPodAutoscaler", "spec": spec}
            body["metadata"] = {"name": name}
            posted = await client.post(path, json=body)
            assert posted.status_code == 403, posted.text
            applied = await client.patch(
                f"{path}/{name}",
                json=body,
                params={"fieldManager": "test"},
                headers={"Content-Type": "application/apply-patch+yaml"},
            )
            assert applied.status_code == code, applied.text


async def test_a_gateway_with_another_target_is_told_and_left_alone(
    stage: Stage, redis_server: Server
) -> None:
    await stage.grant()
    await foreign_deployment(stage)
    async with redis_server.client() as client:
        await client.xadd("operation-progress:1", {"status": "completed"})
    await stage.make_gateway(**TO_ZERO)
    operator = await stage.start_operator(TARGET=TARGET)
    condition = await stage.condition("ScalingActive", "False", "TargetNotAllowed")
    assert f"scales the Deployment {TARGET} and no other one" in condition["message"]
    await stage.condition("Ready", "False", "TargetNotAllowed")
    await stage.condition("SweepHealthy", "Unknown", "TargetNotAllowed")
    await until(told(stage, "TargetNotAllowed"), operator.process.log_tail)
    assert not [one for one in stage.kubernetes.requests(stage.user) if one.name == FOREIGN]
    assert await scale_of_foreign(stage) == 3
    assert await operator.metric("tidegate_operator_sweep_commands_total") == 0


@asynccontextmanager
async def listener() -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server of whoever wrote the Gateway, with all that it was sent."""
    heard: list[bytes] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(4_096))
        writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1") as server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", heard


async def test_a_gateway_had_the_password_sent_to_a_server_of_its_writers(stage: Stage) -> None:
    secret = {"metadata": {"name": "redis"}, "stringData": {"password": "geheim"}}
    await stage.send("POST", stage.path("secrets"), secret)
    await stage.grant(names=["redis"])
    await stage.make_deployment(1)
    await stage.settle_deployment()
    async with listener() as (url, heard):
        redis = {"url": url, "passwordSecret": {"name": "redis", "key": "password"}}
        await stage.make_gateway(redis=redis)
        operator = await stage.start_operator(REDIS_HOSTS="", REDIS_URL=stage.redis_url)
        condition = await stage.condition("RedisReachable", "False", "HostNotAllowed")
        assert url.removeprefix("redis://") in condition["message"]
        assert "redis_hosts" in condition["message"]
        await stage.condition("ScalingActive", "False", "FiguresUnknown")
        await until(told(stage, "HostNotAllowed"), operator.process.log_tail)
        assert heard == []
        # Where the operator's settings allow it, it is asked.
        await stage.change_gateway(redis={"url": stage.redis_url.removesuffix("/0")})
        await stage.condition("RedisReachable", "True")
        assert heard == []


async def test_two_operators_in_one_namespace_fought_over_each_others_gateways(
    stage: Stage,
) -> None:
    """Each served both: conditions flapped. Now each has a Gateway, and a Lease, of its own."""
    await stage.grant(
        gateways=["main", "second"],
        leases=["first-operator", "second-operator"],
        targets=[TARGET, "second"],
    )
    await stage.make_deployment(2)
    await stage.settle_deployment()
    for end in ("aaaaa", "bbbbb"):
        await stage.make_pod(end, connections=900)
    await stage.make_gateway("main", scaling=SCALING)
    await stage.make_gateway("second", scaling=SCALING, target={"name": "second"})
    operators = [
        await stage.start_operator(
            f"{name}-0", LEASE=f"{name}-operator", GATEWAY=gateway, TARGET=to
        )
        for name, gateway, to in (("first", "main", TARGET), ("second", "second", "second"))
    ]
    await until(replicas_are(stage, 4), operators[0].process.log_tail)
    missing = await stage.condition("Ready", "False", "TargetNotFound", gateway="second")
    assert "there is no Deployment second" in missing["message"]
    for operator, other in zip(operators, ("second", "main"), strict=True):
        metrics = (await operator.get("/metrics")).text
        assert f'gateway="{other}"' not in metrics
        log = operator.process.log_file.read_text()
        assert log.count("gateway not served by this operator") == 1
