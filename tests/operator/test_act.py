"""Carrying a decision out: order, fence, what is told of failures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.operator.test_observe import autoscaler, deployment, pod
from tidegate_operator.act.actor import KEEP_AGAIN_S, ActionResult, Actor, NoLongerLeading
from tidegate_operator.decide.records import (
    Decision,
    DeletionCost,
    Observation,
    Reason,
    Scale,
    Scaler,
)
from tidegate_operator.kube.errors import (
    ApiConflict,
    ApiForbidden,
    ApiNotFound,
    ApiUnreachable,
    KubeError,
)
from tidegate_operator.kube.objects import MARK, DeploymentState, Reference
from tidegate_operator.model.gateway import read_spec
from tidegate_operator.observe.leases import Disagreement
from tidegate_operator.observe.observer import ClusterSnapshot

GATEWAY = Reference("tidegate.dev/v1alpha1", "Gateway", "main", "me")
SPEC = read_spec({"target": {"name": "gw"}})
HPA_SPEC = read_spec(
    {
        "target": {"name": "gw"},
        "scaling": {
            "mode": "hpa",
            "min": 2,
            "max": 9,
            "down": {"maxPercent": 0},
            "hpa": {
                "cpuPercent": 70,
                "external": [{"metric": "conns", "labels": {"app": "gw"}, "perPod": 500}],
            },
        },
    }
)
KEDA_SPEC = read_spec(
    {
        "target": {"name": "gw"},
        "scaling": {
            "mode": "keda",
            "keda": {
                "pollingS": 20,
                "triggers": [
                    {"type": "prometheus", "metadata": {"query": "q"}, "authentication": "auth"}
                ],
            },
        },
    }
)


class Writer:
    """Writes down what it was asked for; `errors` are raised by the call of that name, in turn."""

    def __init__(self, now: DeploymentState | None = None) -> None:
        self.now = now or deployment()
        self.calls: list[tuple[Any, ...]] = []
        self.errors: dict[str, list[KubeError]] = {}
        self.manifests: list[Mapping[str, Any]] = []

    def _call(self, name: str, *what: Any) -> None:
        self.calls.append((name, *what))
        if self.errors.get(name):
            raise self.errors[name].pop(0)

    async def deployment(self, name: str) -> DeploymentState:
        self._call("deployment", name)
        return self.now

    async def scale(self, name: str, version: str, replicas: int) -> None:
        self._call("scale", name, version, replicas)

    async def set_deletion_cost(self, pod: str, uid: str, cost: int) -> None:
        self._call("cost", pod, uid, cost)

    async def apply_autoscaler(self, api: str, manifest: Mapping[str, Any]) -> None:
        self.manifests.append(manifest)
        self._call("apply", api, manifest["metadata"]["name"])

    async def delete_autoscaler(self, api: str, name: str) -> None:
        self._call("delete", api, name)


def snapshot(**fields: Any) -> ClusterSnapshot:
    pods = {name: pod(name) for name in ("gw-a", "gw-b", "gw-c")}
    state: dict[str, Any] = {
        "observation": Observation(0.0, datetime(2026, 11, 23, tzinfo=UTC), 3, ()),
        "deployment": deployment(replicas=3),
        "pods": pods,
        "scalers": (),
        "names_taken": frozenset(),
        "has_keda": True,
        "disagreement": Disagreement(),
        "connection": None,
    }
    return ClusterSnapshot(**(state | fields))


def decision(**fields: Any) -> Decision:
    return Decision(3, Reason.LOAD_DOWN, "", **fields)


DOWN = Scale(3, 1, (DeletionCost("gw-b", -2), DeletionCost("gw-a", -1)))


async def act(
    writer: Writer,
    decided: Decision,
    *,
    look: ClusterSnapshot | None = None,
    spec: Any = SPEC,
    may_continue: Callable[[], bool] = lambda: True,
) -> ActionResult:
    actor = Actor(writer, may_continue, lambda: 0.0)
    return await actor.carry_out(GATEWAY, spec, look or snapshot(), decided)


async def test_costs_go_before_the_scale_each_to_its_own_pod() -> None:
    writer = Writer()
    result = await act(writer, decision(scale=DOWN))
    assert writer.calls == [
        ("cost", "gw-b", "uid-gw-b", -2),
        ("cost", "gw-a", "uid-gw-a", -1),
        ("scale", "gw", "7", 1),
    ]
    assert result.scaled == DOWN
    assert result.costs == 2


async def test_a_pod_that_went_by_itself_needs_no_cost() -> None:
    writer = Writer()
    writer.errors["cost"] = [ApiNotFound("gone", 404)]
    result = await act(writer, decision(scale=DOWN))
    assert result.scaled == DOWN
    assert (result.costs, result.failures) == (1, {})


async def test_costs_that_cannot_be_written_do_not_stop_the_scale() -> None:
    writer = Writer()
    writer.errors["cost"] = [ApiForbidden("pods may not be patched", 403)]
    result = await act(writer, decision(scale=DOWN))
    assert [call[0] for call in writer.calls] == ["cost", "scale"]  # the second is not tried
    assert result.failures == {"DeletionCostFailed": "pods may not be patched"}
    assert result.scaled == DOWN


async def test_a_deployment_that_changed_otherwise_is_scaled_by_its_new_version() -> None:
    writer = Writer(deployment(replicas=3, version="8"))
    writer.errors["scale"] = [ApiConflict("changed", 409)]
    result = await act(writer, decision(scale=Scale(3, 4)))
    assert writer.calls == [
        ("scale", "gw", "7", 4),
        ("deployment", "gw"),
        ("scale", "gw", "8", 4),
    ]
    assert result.scaled is not None


@pytest.mark.parametrize(
    "now", [deployment(replicas=5, version="8"), deployment(replicas=3, version="8", uid="other")]
)
async def test_a_number_that_somebody_else_wrote_is_left_alone(now: DeploymentState) -> None:
    writer = Writer(now)
    writer.errors["scale"] = [ApiConflict("changed", 409)]
    result = await act(writer, decision(scale=Scale(3, 4)))
    assert result.scaled is None
    assert "another client" in result.failures["ScaleFailed"]
    assert [call[0] for call in writer.calls] == ["scale", "deployment"]


async def test_a_deployment_that_never_rests_is_left_for_the_next_round() -> None:
    writer = Writer(deployment(replicas=3, version="8"))
    writer.errors["scale"] = [ApiConflict("changed", 409)] * 9
    result = await act(writer, decision(scale=Scale(3, 4)))
    assert result.scaled is None
    assert "too quickly" in result.failures["ScaleFailed"]


@pytest.mark.parametrize("steps", range(4))
async def test_the_fence_is_asked_before_each_step(steps: int) -> None:
    writer, left = Writer(), iter([True] * steps + [False] * 9)
    look = snapshot(scalers=(autoscaler(owner="me"),))
    decided = decision(remove=frozenset({Scaler.HPA}), scale=DOWN)
    with pytest.raises(NoLongerLeading):
        await act(writer, decided, look=look, may_continue=lambda: next(left))
    assert [call[0] for call in writer.calls] == ["delete", "cost", "cost"][:steps]


async def test_only_our_own_autoscaler_is_removed_and_once() -> None:
    look = snapshot(
        scalers=(
            autoscaler(owner="me"),
            autoscaler(name="theirs", owner="somebody"),
            autoscaler(api="keda", owner="me"),
            autoscaler(name="old", owner="me", deleting=True),
        )
    )
    writer = Writer()
    result = await act(writer, decision(remove=frozenset({Scaler.HPA})), look=look)
    assert writer.calls == [("delete", "hpa", "main")]
    assert result.removed == ("HorizontalPodAutoscaler/main",)


async def test_a_failed_removal_is_told() -> None:
    writer = Writer()
    writer.errors["delete"] = [ApiUnreachable("no answer")]
    look = snapshot(scalers=(autoscaler(owner="me"),))
    result = await act(writer, decision(remove=frozenset({Scaler.HPA})), look=look)
    assert result.failures == {"RemoveFailed": "no answer"}
    assert result.removed == ()


async def test_an_hpa_as_the_spec_describes_it() -> None:
    writer = Writer()
    result = await act(writer, decision(keep=Scaler.HPA), spec=HPA_SPEC)
    assert result.kept == "HorizontalPodAutoscaler/main"
    [made] = writer.manifests
    spec = made["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 9)
    assert spec["metrics"] == [
        {
            "type": "Resource",
            "resource": {
                "name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": 70},
            },
        },
        {
            "type": "External",
            "external": {
                "metric": {"name": "conns", "selector": {"matchLabels": {"app": "gw"}}},
                "target": {"type": "AverageValue", "averageValue": "500"},
            },
        },
    ]
    down = spec["behavior"]["scaleDown"]
    assert down["stabilizationWindowSeconds"] == 600
    # A policy of 0 % is one that the API server refuses.
    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 60}]
    [owner] = made["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == ("me", True, False)


async def test_a_scaled_object_as_the_spec_describes_it() -> None:
    writer = Writer()
    await act(writer, decision(keep=Scaler.KEDA), spec=KEDA_SPEC)
    spec = writer.manifests[0]["spec"]
    assert spec["pollingInterval"] == 20
    assert spec["triggers"] == [
        {
            "type": "prometheus",
            "metadata": {"query": "q"},
            "authenticationRef": {"name": "auth"},
        }
    ]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, 10)


async def test_an_autoscaler_is_written_when_it_differs_and_now_and_then() -> None:
    writer, now = Writer(), 0.0
    actor = Actor(writer, lambda: True, lambda: now)
    keep = decision(keep=Scaler.HPA)

    async def look(mark: str) -> ActionResult:
        there = snapshot(scalers=(autoscaler(owner="me", mark=mark),))
        return await actor.carry_out(GATEWAY, HPA_SPEC, there, keep)

    await look("other")
    mark = writer.manifests[0]["metadata"]["annotations"][MARK]
    assert (await look(mark)).kept == ""
    assert len(writer.manifests) == 1
    now += KEEP_AGAIN_S
    assert (await look(mark)).kept == ""  # no news, but somebody may have changed it by hand
    assert len(writer.manifests) == 2


async def test_an_autoscaler_with_our_name_is_left_alone() -> None:
    writer = Writer()
    look = snapshot(names_taken=frozenset({("hpa", "main")}))
    result = await act(writer, decision(keep=Scaler.HPA), spec=HPA_SPEC, look=look)
    assert writer.calls == []
    assert "NameTaken" in result.failures


async def test_keda_that_is_missing_is_told() -> None:
    writer = Writer()
    look = snapshot(has_keda=False)
    result = await act(writer, decision(keep=Scaler.KEDA), spec=KEDA_SPEC, look=look)
    assert writer.calls == []
    assert "install KEDA" in result.failures["KedaMissing"]
