"""Mode `keda` with a real KEDA, which asks a real Prometheus; the cases go on from one another.

The chart is installed first, and KEDA beside it, as it happens to people. Viewers number what they
get while the scale goes from hand to hand; that one hand writes at a time is looked at meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from tests.cluster import report
from tests.cluster.crowd import watching
from tests.cluster.kube import Cluster, CommandFailed
from tests.cluster.neighbours import prometheus
from tests.cluster.neighbours.install import Neighbour
from tests.cluster.patience import PATIENCE, until
from tests.cluster.release import NAME, Release, images, merge
from tidegate_operator.kube.permissions import PERMISSIONS

pytestmark = [pytest.mark.all_cases]

NAMESPACE = "tidegate-test-keda"
PER_POD = 50
#: Longer than the window and the period of a step down, below.
LONG_ENOUGH_S = 35.0
VALUES: dict[str, Any] = {
    "auth": {"mode": "none"},
    "settings": {"drain": {"delay_s": 1, "window_s": 4}, "server": {"allowed_hosts": ["*"]}},
    "gateway": {"minReadySeconds": 1, "preStopSeconds": 2},
    "operator": {"replicas": 1, "intervalSeconds": 1},
    "scaling": {"mode": "internal", "min": 2, "max": 5, "loopLagMs": 10_000},
    "rebalance": {"enabled": False},
}


def by_keda(address: str) -> dict[str, Any]:
    """Values of mode `keda`, asking this Prometheus."""
    metadata = {
        "serverAddress": address,
        "query": "sum(tidegate_connections)",
        "threshold": str(PER_POD),
        "ignoreNullValues": "false",
    }
    return {
        "scaling": {
            "mode": "keda",
            "min": 2,
            "keda": {"pollingS": 2, "triggers": [{"type": "prometheus", "metadata": metadata}]},
            "up": {"periodS": 15},
            "down": {"windowS": 15, "periodS": 15, "maxPercent": 100},
        }
    }


@pytest.fixture(scope="module")
def release() -> Iterator[Release]:
    """The chart in mode `internal`, and then KEDA; both are gone in the end."""
    cluster = Cluster(NAMESPACE)
    keda, asked = Neighbour(cluster, "keda"), Neighbour(cluster, "prometheus")
    release = Release(cluster)

    async def begin() -> None:
        await cluster.kubectl("create", "namespace", NAMESPACE)
        level = "pod-security.kubernetes.io/enforce=restricted"
        await cluster.kubectl("label", "namespace", NAMESPACE, level)
        await release.install(merge(images(), VALUES))
        await release.settled(2)
        began = time.monotonic()
        await keda.install()
        report.write({"name": "KEDA", "seconds_to_ready": round(time.monotonic() - began, 1)})
        await asked.load()

    async def end() -> None:
        await cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")
        await keda.remove()

    try:
        asyncio.run(begin())
        yield release
    finally:
        asyncio.run(end())


@pytest.fixture
def address() -> str:
    return f"http://{prometheus.NAME}.{NAMESPACE}.svc:{prometheus.PORT}"


# --- what there is


async def autoscalers(cluster: Cluster) -> set[str]:
    """Names of the HPAs."""
    found = (await cluster.get("horizontalpodautoscalers"))["items"]
    return {one["metadata"]["name"] for one in found}


async def scaled_objects(cluster: Cluster) -> set[str]:
    found = (await cluster.get("scaledobjects.keda.sh"))["items"]
    return {one["metadata"]["name"] for one in found}


def condition(found: Any, name: str) -> tuple[str, str, str]:
    """Status, reason and message; empty where there is none."""
    conditions = found.get("status", {}).get("conditions") or ()
    said = {one["type"]: one for one in conditions}
    one = said.get(name, {})
    return one.get("status", ""), one.get("reason", ""), one.get("message", "")


async def scales_by_keda(cluster: Cluster) -> bool:
    """KEDA has taken our ScaledObject, and Kubernetes gets the metric from it."""
    if await scaled_objects(cluster) != {NAME} or await autoscalers(cluster) != {KEDAS}:
        return False
    ready = condition(await cluster.get("scaledobjects.keda.sh", NAME), "Ready")
    hpa = condition(await cluster.get("horizontalpodautoscaler", KEDAS), "ScalingActive")
    return ready[0] == hpa[0] == "True"


KEDAS = f"keda-hpa-{NAME}"


@asynccontextmanager
async def one_hand(cluster: Cluster) -> AsyncIterator[set[str]]:
    """At any look there is one autoscaler at most; the names of all that were seen."""
    seen: set[str] = set()

    async def look() -> None:
        while True:
            found = await autoscalers(cluster)
            assert len(found) <= 1, found
            seen.update(found)
            await asyncio.sleep(0.2)

    async with asyncio.TaskGroup() as tasks:
        watcher = tasks.create_task(look())
        yield seen
        watcher.cancel()


# --- the cases


async def test_keda_is_installed_beside_the_chart(release: Release, cluster: Cluster) -> None:
    """The operator goes on as before: it does not use what it was not allowed to see."""
    await release.healthy()
    assert await autoscalers(cluster) == await scaled_objects(cluster) == set()


async def test_a_hand_over_to_keda_which_scales(
    release: Release, cluster: Cluster, address: str
) -> None:
    metrics = f"{NAME}-metrics"
    assert await prometheus.start(cluster, scraped=metrics) == address
    async with watching(release, "hand-over to KEDA, and scaling by it", viewers=60) as crowd:
        began = time.monotonic()
        await release.upgrade(by_keda(address))
        await until(lambda: scales_by_keda(cluster), "an autoscaler of KEDA's")
        crowd.note("seconds until KEDA scales", round(time.monotonic() - began, 1))
        scaling = condition(await release.gateway(), "ScalingActive")
        assert scaling[:2] == ("True", "Delegated")
        with pytest.raises(CommandFailed, match="replicas has no effect in modes hpa and keda"):
            await cluster.kubectl("scale", f"gateways.tidegate.dev/{NAME}", "--replicas=4")

        began = time.monotonic()
        await crowd.join(90)
        await release.settled(3)
        crowd.note("seconds to 3", round(time.monotonic() - began, 1))
        await crowd.recover()

        # No answer, then one without a value: neither means that there is no load.
        await prometheus.stop(cluster)
        await _stays(release, cluster, 3)
        await prometheus.start(cluster, scraped="nobody")
        await _stays(release, cluster, 3)
        await prometheus.stop(cluster)
        await prometheus.start(cluster, scraped=metrics)
        await until(lambda: scales_by_keda(cluster), "a metric again")

        began = time.monotonic()
        await crowd.finish_some(8)  # 30 viewers stay
        await release.settled(2)
        crowd.note("seconds to 2", round(time.monotonic() - began, 1))
        await crowd.recover()


async def _stays(release: Release, cluster: Cluster, pods: int) -> None:
    """The metric is missing, as the HPA says, and nobody is taken away."""

    async def missing() -> bool:
        hpa = await cluster.get("horizontalpodautoscaler", KEDAS)
        return condition(hpa, "ScalingActive")[0] == "False"

    await until(missing, "an HPA without its metric")
    end = time.monotonic() + LONG_ENOUGH_S
    while time.monotonic() < end:
        deployment = await cluster.get("deployment", f"{NAME}-gateway")
        assert deployment["spec"]["replicas"] == pods
        await asyncio.sleep(1)
    assert condition(await release.gateway(), "ScalingActive")[1] == "Delegated"


def somebodys(address: str) -> str:
    """A ScaledObject on the gateway's Deployment that is not the operator's."""
    trigger = by_keda(address)["scaling"]["keda"]["triggers"]
    return json.dumps(
        {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": {"name": "somebodys"},
            "spec": {
                "scaleTargetRef": {"name": f"{NAME}-gateway"},
                "minReplicaCount": 2,
                "maxReplicaCount": 2,
                "triggers": trigger,
            },
        }
    )


async def test_keda_refuses_a_second_scaled_object(cluster: Cluster, address: str) -> None:
    with pytest.raises(CommandFailed, match="is already managed by the"):
        await cluster.kubectl("apply", "--filename", "-", stdin=somebodys(address))


async def test_hand_overs_from_keda_and_back(
    release: Release, cluster: Cluster, address: str
) -> None:
    async with (
        watching(release, "from KEDA to an HPA, back, and to the operator", viewers=100) as crowd,
        one_hand(cluster) as seen,
    ):
        began = time.monotonic()
        await release.upgrade({"scaling": {"mode": "hpa", "hpa": {"cpuPercent": 300}}})

        async def by_hpa() -> bool:
            return await autoscalers(cluster) == {NAME} and not await scaled_objects(cluster)

        await until(by_hpa, "an HPA of the operator's alone")
        crowd.note("seconds to the HPA", round(time.monotonic() - began, 1))
        await crowd.recover()

        began = time.monotonic()
        await release.upgrade(by_keda(address))
        await until(lambda: scales_by_keda(cluster), "an autoscaler of KEDA's")
        crowd.note("seconds back to KEDA", round(time.monotonic() - began, 1))
        await crowd.recover()

        began = time.monotonic()
        await release.upgrade({"scaling": {"mode": "internal", "min": 3}})

        async def nobody() -> bool:
            return not await autoscalers(cluster) and not await scaled_objects(cluster)

        await until(nobody, "no autoscaler")
        await release.settled(3)
        crowd.note("seconds to a third pod by the operator", round(time.monotonic() - began, 1))
        await crowd.recover()
        assert seen == {NAME, KEDAS}


async def test_a_scaled_object_of_somebody_else(
    release: Release, cluster: Cluster, address: str
) -> None:
    await cluster.kubectl("apply", "--filename", "-", stdin=somebodys(address))

    async def told() -> bool:
        status, reason, message = condition(await release.gateway(), "ScalingActive")
        return (status, reason) == ("False", "ScalingConflict") and "ScaledObject/somebodys" in (
            message
        )

    await until(told, "a conflict that names it")
    await cluster.kubectl("delete", "scaledobjects.keda.sh", "somebodys")

    async def scales() -> bool:
        return condition(await release.gateway(), "ScalingActive")[0] == "True"

    await until(scales, "the operator that scales again")
    await release.settled(3)


async def test_the_role_allows_what_keda_needs(cluster: Cluster) -> None:
    """Asked for in the cases above, with the API server's log of it."""
    user = f"system:serviceaccount:{NAMESPACE}:{NAME}-operator"
    account = await cluster.get("serviceaccount", f"{NAME}-operator")
    used: set[str] = set()
    refused: set[tuple[str, str, str]] = set()
    for event in cluster.audit(since=account["metadata"]["creationTimestamp"]):
        if event["user"]["username"] != user or "objectRef" not in event:
            continue
        ref, code = event["objectRef"], event["responseStatus"]["code"]
        group = ref.get("apiGroup", "")
        if code == 403:
            refused.add((group, ref["resource"], event["verb"]))
        elif group == "keda.sh":
            used.add(event["verb"])
            if event["verb"] != "list":
                assert ref["name"] == NAME
    assert used == {"list", "patch", "delete"}  # an apply is a patch, also where it creates
    optional = {(one.group, one.resource, v) for one in PERMISSIONS if one.when for v in one.verbs}
    assert refused <= optional


async def test_an_uninstallation_takes_what_keda_made(
    release: Release, cluster: Cluster, address: str
) -> None:
    await release.upgrade(by_keda(address))
    await until(lambda: scales_by_keda(cluster), "an autoscaler of KEDA's")
    await cluster.helm("uninstall", NAME, "--wait", "--timeout", PATIENCE)

    async def nothing_left() -> bool:
        left = await autoscalers(cluster) | await scaled_objects(cluster)
        with suppress(CommandFailed):
            await cluster.get("deployment", f"{NAME}-gateway")
            return False
        return not left

    await until(nothing_left, "a namespace without autoscalers")
