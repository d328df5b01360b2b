"""Scaling on a real API server: what is written, in which order, and by whom.

Each operator here may exactly what `PERMISSIONS` lists; what it asked for is in the audit log.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import yaml

from tests.harness.waiting import until
from tests.operator.stage import TARGET, Stage
from tests.servers import kubernetes
from tidegate_operator.kube.permissions import PERMISSIONS

#: Down as soon as figures allow it, one pod in a second.
DOWN = {"windowS": 0, "afterUpS": 0, "periodS": 1, "maxPercent": 0}
SCALING = {"min": 2, "max": 6, "connectionsPerPod": 500, "loopLagMs": 10_000, "down": DOWN}
HPAS = "horizontalpodautoscalers"
AUTOSCALING = "/apis/autoscaling/v2"


def replicas_are(stage: Stage, number: int) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        return await stage.replicas() == number

    return holds


async def begin(stage: Stage, *connections: int, **spec: Any) -> None:
    """Pods with so many connections each, a Gateway, and an operator that looks after it."""
    await stage.grant()
    await stage.make_deployment(len(connections))
    await stage.settle_deployment()
    for end, number in zip("abcdefgh", connections, strict=False):
        await stage.make_pod(end * 5, connections=number)
    spec.setdefault("scaling", SCALING)
    await stage.make_gateway(**spec)
    await stage.start_operator()


async def test_load_adds_pods_at_once_and_says_so(stage: Stage) -> None:
    await begin(stage, 900, 900)
    [operator] = stage.operators
    await until(replicas_are(stage, 4), operator.process.log_tail)

    async def told() -> bool:
        return "lastScale" in (await stage.gateway())["status"]

    await until(told, operator.process.log_tail)
    status = (await stage.gateway())["status"]
    assert status["lastScale"]["before"] == 2
    assert status["lastScale"]["after"] == 4
    assert status["lastScale"]["reason"] == "LoadUp"
    assert status["connections"] == 1_800
    assert status["selector"] == f"app={TARGET}"
    await stage.condition("ScalingActive", "True")
    events: list[dict[str, Any]] = []

    async def reported() -> bool:
        events[:] = [one for one in await stage.events() if one["reason"] == "ScaledUp"]
        return bool(events)

    await until(reported, operator.process.log_tail)
    [event] = events
    assert event["note"].startswith("2 -> 4 pods: ")
    assert event["regarding"]["name"] == "main"
    labels = {"gateway": "main", "direction": "up"}
    assert await operator.metric("tidegate_operator_scales_total", **labels) == 1


async def test_the_emptiest_pods_get_their_deletion_cost_before_the_scale(stage: Stage) -> None:
    await begin(stage, 400, 10, 5, 300)
    [operator] = stage.operators
    await until(replicas_are(stage, 3), operator.process.log_tail)
    await until(writes_last(stage, "operator"), operator.process.log_tail)
    writes = [
        one
        for one in stage.kubernetes.requests(stage.user)
        if (one.verb, one.resource) in (("patch", "pods"), ("patch", "deployments/scale"))
    ]
    assert [one.resource for one in writes[:2]] == ["pods", "deployments/scale"]
    assert writes[0].name.endswith("-ccccc")
    assert await stage.costs() == {"ccccc": -1}
    # What its controllers would do now; then the next step.
    await stage.delete_pod(writes[0].name)
    await stage.end_lease(writes[0].name)
    await stage.settle_deployment()
    await until(replicas_are(stage, 2), operator.process.log_tail)
    assert (await stage.costs())["bbbbb"] == -1


async def test_without_the_right_to_write_costs_it_scales_all_the_same(stage: Stage) -> None:
    await stage.grant(
        [replace_verbs(one, ("list",)) if one.resource == "pods" else one for one in PERMISSIONS]
    )
    await stage.make_deployment(3)
    await stage.settle_deployment()
    for end in ("aaaaa", "bbbbb", "ccccc"):
        await stage.make_pod(end, connections=5)
    await stage.make_gateway(scaling=SCALING)
    operator = await stage.start_operator()
    await until(replicas_are(stage, 2), operator.process.log_tail)
    assert await stage.costs() == {}
    labels = {"failure": "DeletionCostFailed"}
    failures = 0.0

    async def told() -> bool:  # after it has scaled
        nonlocal failures
        failures = await operator.metric("tidegate_operator_action_failures_total", **labels)
        return failures > 0

    await until(told, operator.process.log_tail)
    assert failures == 1


def replace_verbs(permission: Any, verbs: tuple[str, ...]) -> Any:
    return permission._replace(verbs=verbs)


async def test_kubectl_scale_gateway_in_mode_none(stage: Stage) -> None:
    await begin(stage, 900, 900, scaling={"mode": "none"}, replicas=2)
    [operator] = stage.operators
    await stage.condition("ScalingActive", "True", "Steady")
    body = {"spec": {"replicas": 5}}
    await stage.send("PATCH", f"{stage.gateways}/main/scale", body)
    await until(replicas_are(stage, 5), operator.process.log_tail)
    await stage.settle_deployment()
    scale = await stage.send("GET", f"{stage.gateways}/main/scale")
    assert scale["status"]["selector"] == f"app={TARGET}"
    assert scale["status"]["replicas"] == 2  # pods there are


def writers(stage: Stage) -> list[str]:
    """Who was the writer of replicas, in the order of the audit log.

    Raises AssertionError at the first moment with two.
    """
    order: list[str] = []
    there: set[str] = set()
    for one in stage.kubernetes.requests(stage.user):
        if one.code >= 300:
            continue
        if one.resource in (HPAS, "scaledobjects") and one.verb == "patch":
            there.add(one.resource)
            assert len(there) == 1, order
            order.append(one.resource)
        elif one.resource in (HPAS, "scaledobjects") and one.verb == "delete":
            there.discard(one.resource)
            order.append(f"-{one.resource}")
        elif one.resource == "deployments/scale":
            assert not there, order
            order.append("operator")
    return order


def writes_last(stage: Stage, writer: str) -> Callable[[], Awaitable[bool]]:
    """What a request does can be seen before its line is in the audit log."""

    async def holds() -> bool:
        return writers(stage)[-1:] == [writer]

    return holds


async def test_a_change_of_the_mode_never_has_two_writers(stage: Stage) -> None:
    # The last step below is of the first one's period, however long this takes.
    await begin(stage, 900, 900, scaling={**SCALING, "up": {"periodS": 600}})
    [operator] = stage.operators
    await until(replicas_are(stage, 4), operator.process.log_tail)
    hpa = {"mode": "hpa", "min": 3, "max": 9, "hpa": {"cpuPercent": 60}}
    await stage.change_gateway(scaling=hpa)
    await stage.condition("ScalingActive", "True", "Delegated")

    path = stage.path(HPAS, "main", api=AUTOSCALING)

    async def made() -> bool:
        return (await stage.api.get(path)).status_code == 200

    await until(made, operator.process.log_tail)
    found = await stage.send("GET", path)
    assert (found["spec"]["minReplicas"], found["spec"]["maxReplicas"]) == (3, 9)
    assert found["spec"]["scaleTargetRef"]["name"] == TARGET
    assert found["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 0
    [owner] = found["metadata"]["ownerReferences"]
    assert owner["uid"] == (await stage.gateway())["metadata"]["uid"]
    # The bounds follow the spec.
    await stage.change_gateway(scaling={"max": 12})

    async def follows() -> bool:
        return int((await stage.send("GET", path))["spec"]["maxReplicas"]) == 12

    await until(follows, operator.process.log_tail)
    # More load, and another mode at the same moment: first the old writer goes.
    await stage.load(2_000)
    await stage.change_gateway(scaling={"mode": "internal", "max": 20, "hpa": None})
    await until(replicas_are(stage, 6), operator.process.log_tail)  # a step of this period
    assert (await stage.api.get(path)).status_code == 404
    await until(writes_last(stage, "operator"), operator.process.log_tail)
    order = writers(stage)
    assert order[0] == "operator"
    assert order[-2:] == [f"-{HPAS}", "operator"]
    assert set(order[1:-2]) == {HPAS}


async def test_another_ones_autoscaler_stops_ours_until_it_is_gone(stage: Stage) -> None:
    body = {
        "metadata": {"name": "theirs"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": TARGET},
            "minReplicas": 1,
            "maxReplicas": 3,
        },
    }
    await stage.send("POST", stage.path(HPAS, api=AUTOSCALING), body)
    await begin(stage, 900, 900)
    [operator] = stage.operators
    condition = await stage.condition("ScalingActive", "False", "ScalingConflict")
    assert "HorizontalPodAutoscaler/theirs" in condition["message"]
    assert await stage.replicas() == 2
    await stage.send("DELETE", stage.path(HPAS, "theirs", api=AUTOSCALING))
    await until(replicas_are(stage, 4), operator.process.log_tail)
    await until(writes_last(stage, "operator"), operator.process.log_tail)
    assert writers(stage) == ["operator"]
    warnings = [one["reason"] for one in await stage.events() if one["type"] == "Warning"]
    # A machine that stood still for seconds may have said so of Redis, too.
    assert warnings.count("ScalingConflict") == 1


async def test_an_autoscaler_with_our_name_is_not_taken_over(stage: Stage) -> None:
    body = {
        "metadata": {"name": "main"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "other"},
            "maxReplicas": 3,
        },
    }
    await stage.send("POST", stage.path(HPAS, api=AUTOSCALING), body)
    await begin(stage, 10, 10, scaling={"mode": "hpa", "hpa": {"cpuPercent": 60}})
    condition = await stage.condition("ScalingActive", "False", "NameTaken")
    assert "rename or delete" in condition["message"]
    found = await stage.send("GET", stage.path(HPAS, "main", api=AUTOSCALING))
    assert found["spec"]["scaleTargetRef"]["name"] == "other"


KEDA = {
    "mode": "keda",
    "keda": {"triggers": [{"type": "cron", "metadata": {"start": "0 8 * * *"}}]},
}


KEDAS_DEFINITION = "keda.sh_scaledobjects.yaml"


def scaled_object_definition() -> dict[str, Any]:
    """KEDA's own; where it is not here, a stand-in with its names that takes everything."""
    own = None if (folder := kubernetes.definitions()) is None else folder / KEDAS_DEFINITION
    if own is not None and own.is_file():
        found: dict[str, Any] = yaml.safe_load(own.read_text("utf-8"))
        return found
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1alpha1",
        "served": True,
        "storage": True,
        "schema": {
            "openAPIV3Schema": {"type": "object", "properties": {"spec": anything}},
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "scaledobjects.keda.sh"},
        "spec": {
            "group": "keda.sh",
            "scope": "Namespaced",
            "names": {
                "kind": "ScaledObject",
                "listKind": "ScaledObjectList",
                "plural": "scaledobjects",
                "singular": "scaledobject",
            },
            "versions": [version],
        },
    }


@pytest.fixture
async def no_keda(stage: Stage) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/scaledobjects.keda.sh"
    await stage.api.delete(path)

    async def gone() -> bool:
        return (await stage.api.get("/apis/keda.sh/v1alpha1")).status_code == 404

    await until(gone, "KEDA is not there")


async def test_mode_keda_without_keda_is_told(stage: Stage, no_keda: None) -> None:
    await begin(stage, 10, 10, scaling=KEDA)
    condition = await stage.condition("ScalingActive", "False", "KedaMissing")
    assert "install KEDA" in condition["message"]


async def test_mode_keda_makes_a_scaled_object_and_waits_for_the_hpa_of_it(
    stage: Stage, no_keda: None
) -> None:
    await stage.apply_crd(scaled_object_definition())
    await begin(stage, 900, 900, scaling=KEDA)
    [operator] = stage.operators
    api = "/apis/keda.sh/v1alpha1"
    path = stage.path("scaledobjects", "main", api=api)

    async def made() -> bool:
        return (await stage.api.get(path)).status_code == 200

    await until(made, operator.process.log_tail)
    found = await stage.send("GET", path)
    assert found["spec"]["triggers"] == [{"type": "cron", "metadata": {"start": "0 8 * * *"}}]
    # As KEDA does: an HPA that the ScaledObject owns.
    owner = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "main"}
    body = {
        "metadata": {
            "name": "keda-hpa-main",
            "ownerReferences": [{**owner, "uid": found["metadata"]["uid"]}],
        },
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": TARGET},
            "maxReplicas": 3,
        },
    }
    await stage.send("POST", stage.path(HPAS, api=AUTOSCALING), body)
    await stage.change_gateway(scaling={**SCALING, "mode": "internal", "keda": None})
    condition = await stage.condition("ScalingActive", "False", "HandOver")
    assert "ScaledObject" in condition["message"]

    async def gone() -> bool:
        return (await stage.api.get(path)).status_code == 404

    await until(gone, operator.process.log_tail)
    assert await stage.replicas() == 2  # KEDA's HPA is still there, and may write
    await stage.send("DELETE", stage.path(HPAS, "keda-hpa-main", api=AUTOSCALING))
    await until(replicas_are(stage, 4), operator.process.log_tail)
    await until(writes_last(stage, "operator"), operator.process.log_tail)
    assert writers(stage) == ["scaledobjects", "-scaledobjects", "operator"]


async def test_every_right_is_used_and_none_is_missing(stage: Stage) -> None:
    await stage.apply_crd(scaled_object_definition())
    await stage.send(
        "POST",
        stage.path("secrets"),
        {"metadata": {"name": "redis"}, "stringData": {"url": stage.redis_url}},
    )
    await stage.grant(names=["redis"])
    await stage.make_deployment(3)
    await stage.settle_deployment()
    for end in ("aaaaa", "bbbbb", "ccccc"):
        await stage.make_pod(end, connections=5)
    from_secret = {"url": None, "urlSecret": {"name": "redis", "key": "url"}}
    await stage.make_gateway(scaling=SCALING, redis=from_secret)
    operator = await stage.start_operator()
    await until(replicas_are(stage, 2), operator.process.log_tail)
    hpa = {"mode": "hpa", "hpa": {"cpuPercent": 60}}
    for scaling, writer in (
        (hpa, HPAS),
        (KEDA, "scaledobjects"),
        (hpa, HPAS),
        ({"mode": "none"}, "operator"),
    ):
        await stage.change_gateway(scaling=scaling)
        await until(writes_last(stage, writer), operator.process.log_tail)
    asked = stage.kubernetes.requests(stage.user)
    refused = {(one.verb, one.resource) for one in asked if one.code in (401, 403)}
    assert not refused
    used = {(one.verb, one.resource) for one in asked if one.resource}
    granted = {
        (verb, one.resource) for one in PERMISSIONS if one.when != "zones" for verb in one.verbs
    }
    # Server-side apply makes an object with `patch`, and the API server asks for `create` too.
    unseen = {("create", HPAS), ("create", "scaledobjects")}
    assert used - granted == set()
    assert granted - used - unseen == set()
