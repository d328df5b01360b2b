"""What is made of what Kubernetes and the leases tell: hostile figures, scalers, disagreements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.operator.secrets import Clock, Secrets, settings
from tests.servers.standalone import Server
from tidegate.redis.pods import PodRecord
from tidegate_operator.decide.records import PodLoad, Scaler
from tidegate_operator.kube.errors import ApiForbidden, ApiUnreachable
from tidegate_operator.kube.objects import Autoscaler, DeploymentState, Match, PodState
from tidegate_operator.model.gateway import GatewaySpec, read_spec
from tidegate_operator.observe.leases import (
    DISAGREE_S,
    Comparison,
    Disagreement,
    figures_of,
)
from tidegate_operator.observe.observer import KEDA_S, Observer
from tidegate_operator.observe.redis_connection import RedisConnector
from tidegate_operator.observe.scalers import sort_scalers
from tidegate_operator.observe.zones import ZONE_S

SPEC = read_spec({"target": {"name": "gw"}})


def deployment(**fields: Any) -> DeploymentState:
    state: dict[str, Any] = {
        "name": "gw",
        "uid": "u",
        "version": "7",
        "replicas": 2,
        "selector": (Match("app", "In", ("gw",)), Match("tier", "Exists")),
        "generation": 3,
        "observed_generation": 3,
        "current": 2,
        "updated": 2,
        "ready": 2,
        "available": 2,
    }
    return DeploymentState(**(state | fields))


def pod(name: str, **fields: Any) -> PodState:
    state: dict[str, Any] = {
        "name": name,
        "uid": f"uid-{name}",
        "phase": "Running",
        "ready": True,
        "terminating": False,
        "replica_set": "abc",
        "node": "node-1",
        "zone": None,
        "cost": None,
        "own_cost": None,
    }
    return PodState(**(state | fields))


def autoscaler(**fields: Any) -> Autoscaler:
    state: dict[str, Any] = {
        "api": "hpa",
        "name": "main",
        "uid": "s",
        "version": "1",
        "owner": "",
        "via": "",
        "target": ("Deployment", "gw"),
    }
    return Autoscaler(**(state | fields))


def record(incarnation: str, left_ms: int = 10_000, **figures: str) -> PodRecord:
    return PodRecord(incarnation, left_ms, figures)


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"connections": ""},
        {"connections": "many"},
        {"connections": "-1"},
        {"connections": "nan"},
        {"connections": "inf"},
        {"connections": "1e300"},
    ],
)
def test_figures_that_make_no_sense_are_unknown(told: dict[str, str]) -> None:
    assert figures_of([PodRecord("gw-1.5.x", 10_000, told)]) == {}


def test_a_bad_side_figure_counts_as_none_and_the_longer_lease_wins() -> None:
    rows = [
        record("gw-1.9.y", 14_000, connections="7", loop_lag_ms="nan", deliveries_per_s="2.5"),
        record("gw-1.5.x", 2_000, connections="400"),
    ]
    assert figures_of(rows) == {"gw-1": PodLoad(7, 2.5, 0.0)}
    assert figures_of(rows[::-1]) == {"gw-1": PodLoad(7, 2.5, 0.0)}


def test_the_workers_of_a_pod_are_taken_together() -> None:
    rows = [
        record("gw-1/1.9.y", connections="7", loop_lag_ms="1", deliveries_per_s="2.5"),
        record("gw-1/2.8.z", connections="5", loop_lag_ms="30", deliveries_per_s="1"),
        record("gw-1/2.5.x", 2_000, connections="400"),  # it died and was replaced
        record("gw-2.7.w", connections="1"),
    ]
    assert figures_of(rows) == {"gw-1": PodLoad(12, 3.5, 30.0), "gw-2": PodLoad(1)}


def test_a_pod_with_workers_agrees_with_kubernetes() -> None:
    name = "gw-5d4f8c7b9-abcde"
    comparison = Comparison()
    roster = [record(f"{name}/1.1.x"), record(f"{name}/2.2.y")]
    pods = {name: pod(name)}
    for now in (0.0, DISAGREE_S + 1):
        assert comparison.look("gw", pods, roster, now) == Disagreement()


def test_scalers_are_ours_by_their_owner_and_not_by_their_name() -> None:
    ours = autoscaler(owner="me")
    keda = autoscaler(api="keda", owner="me")
    of_keda = autoscaler(name="keda-hpa-main", via="main")
    theirs = autoscaler(name="main", owner="")
    assert sort_scalers("main", "me", [ours]) == (frozenset({Scaler.HPA}), ())
    assert sort_scalers("main", "me", [keda, of_keda]) == (frozenset({Scaler.KEDA}), ())
    # Our ScaledObject is gone, what KEDA made of it is not yet.
    assert sort_scalers("main", "me", [of_keda]) == (frozenset({Scaler.KEDA}), ())
    assert sort_scalers("main", "me", [theirs]) == (
        frozenset(),
        ("HorizontalPodAutoscaler/main",),
    )
    foreign = autoscaler(api="keda", name="main", owner="somebody")
    assert sort_scalers("main", "me", [foreign, of_keda]) == (
        frozenset(),
        ("HorizontalPodAutoscaler/keda-hpa-main", "ScaledObject/main"),
    )


@pytest.mark.parametrize(
    ("fields", "rolling"),
    [
        ({}, False),
        ({"updated": 1}, True),
        ({"observed_generation": 2}, True),
        ({"replicas": 5, "current": 2, "updated": 2}, False),  # being scaled, not rolled
    ],
)
def test_a_rollout_is_told_from_a_change_of_replicas(fields: Any, rolling: bool) -> None:
    assert deployment(**fields).is_rolling is rolling


class Cluster:
    """What Kubernetes tells in a test."""

    def __init__(self) -> None:
        self.pods_there: list[PodState] = []
        self.keda: list[Autoscaler] | None = None
        self.keda_error: Exception | None = None
        self.zones: dict[str, str] = {}
        self.zone_error: Exception | None = None
        self.asked: list[str] = []

    async def deployment(self, name: str) -> DeploymentState:
        return deployment(name=name)

    async def pods(self, selector: Sequence[Match]) -> list[PodState]:
        self.asked.append(",".join(map(str, selector)))
        return self.pods_there

    async def autoscalers(self) -> list[Autoscaler]:
        return []

    async def scaled_objects(self) -> list[Autoscaler] | None:
        self.asked.append("scaledobjects")
        if self.keda_error is not None:
            raise self.keda_error
        return self.keda

    async def zone_of(self, node: str) -> str | None:
        self.asked.append(f"zone of {node}")
        if self.zone_error is not None:
            raise self.zone_error
        return self.zones.get(node)


class Scene:
    def __init__(self, url: str | None) -> None:
        self.cluster, self.clock, self.secrets = Cluster(), Clock(), Secrets()
        fields = {} if url is None else {"redis_url": url}
        self.connector = RedisConnector(self.secrets, settings(**fields), self.clock)
        self.observer = Observer(self.cluster, self.connector, self.clock)

    async def look(self, spec: GatewaySpec = SPEC) -> Any:
        return await self.observer.look("main", "me", spec, None)


async def test_without_an_address_figures_are_unknown_and_the_rest_is_seen() -> None:
    scene = Scene(None)
    scene.cluster.pods_there = [pod("gw-abc-aaaaa"), pod("gw-abc-bbbbb", phase="Failed")]
    snapshot = await scene.look()
    assert snapshot.redis_reason == "NoAddress"
    assert "spec.redis.url" in snapshot.redis_text
    assert not snapshot.observation.redis_reachable
    assert [(one.name, one.figures) for one in snapshot.observation.pods] == [
        ("gw-abc-aaaaa", None)
    ]
    assert scene.cluster.asked[0] == "app=gw,tier"
    assert snapshot.selector == "app=gw,tier"


async def test_disagreements_are_told_after_a_while_and_forgotten_when_healed(
    redis_server: Server,
) -> None:
    scene = Scene(redis_server.url)
    scene.cluster.pods_there = [
        pod("gw-abc-aaaaa"),
        pod("gw-abc-start", ready=False),
        pod("gw-abc-leave", terminating=True),
    ]
    try:
        async with redis_server.client() as redis:
            for name in ("gw-abc1-ghost", "gw-x-abc1-ghost", "elsewhere"):
                await redis.zadd("{tidegate}:pods", {f"{name}.5.x": 2e13})
            snapshot = await scene.look()
            assert snapshot.observation.redis_reachable
            assert not snapshot.disagreement.pods_without_lease
            scene.clock.now += DISAGREE_S
            snapshot = await scene.look()
            assert snapshot.disagreement.pods_without_lease == ("gw-abc-aaaaa",)
            # Only what carries this Deployment's names: others may share the Redis.
            assert snapshot.disagreement.leases_without_pod == ("gw-abc1-ghost",)
            await redis.zadd("{tidegate}:pods", {"gw-abc-aaaaa.6.y": 2e13})
            await redis.zrem("{tidegate}:pods", "gw-abc1-ghost.5.x")
            snapshot = await scene.look()
            assert not snapshot.disagreement.pods_without_lease
            assert not snapshot.disagreement.leases_without_pod
    finally:
        await scene.connector.close()


async def test_a_role_without_nodes_is_not_asked_again_and_again() -> None:
    scene = Scene(None)
    scene.cluster.pods_there = [pod("gw-a", zone="north"), pod("gw-b", node="n2"), pod("gw-c")]
    scene.cluster.zone_error = ApiForbidden("no", 403)
    zones = {one.name: one.zone for one in (await scene.look()).observation.pods}
    assert zones == {"gw-a": "north", "gw-b": None, "gw-c": None}
    await scene.look()
    assert [one for one in scene.cluster.asked if one.startswith("zone")] == ["zone of n2"]
    scene.clock.now += ZONE_S
    scene.cluster.zone_error = None
    scene.cluster.zones = {"n2": "south", "node-1": "east"}
    zones = {one.name: one.zone for one in (await scene.look()).observation.pods}
    assert zones == {"gw-a": "north", "gw-b": "south", "gw-c": "east"}
    scene.cluster.asked.clear()
    scene.cluster.zone_error = ApiUnreachable("away")
    await scene.look()  # known for ten minutes
    assert not [one for one in scene.cluster.asked if one.startswith("zone")]


@pytest.mark.parametrize("error", [None, ApiForbidden("no", 403)])
async def test_a_cluster_without_keda_is_asked_once_in_a_while(error: Exception | None) -> None:
    scene = Scene(None)
    scene.cluster.keda_error = error
    for _ in range(3):
        assert not (await scene.look()).has_keda
    assert scene.cluster.asked.count("scaledobjects") == 1
    scene.clock.now += KEDA_S
    scene.cluster.keda_error, scene.cluster.keda = None, []
    assert (await scene.look()).has_keda
