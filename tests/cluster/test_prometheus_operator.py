"""The chart's monitors and rules with a real Prometheus operator, which runs a real Prometheus.

Two releases in one namespace, one scraped by pod and one by Service. Prometheus is in another
namespace and selects by a label, as the usual stack of it does.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import report
from tests.cluster.kube import Cluster
from tests.cluster.neighbours import prometheus
from tests.cluster.neighbours.install import Neighbour
from tests.cluster.patience import PATIENCE, until
from tests.cluster.release import CHART, images, merge

pytestmark = [pytest.mark.all_cases]

NAMESPACE = "tidegate-test-monitors"
HOME = "prometheus-operator"
POD = "prometheus-lab-0"
LABELS = {"prometheus": "lab"}
FIRST, SECOND = "first", "second"
PODS = {FIRST: 1, SECOND: 2}


def values(name: str, monitor: str) -> dict[str, Any]:
    """Of a release that is scraped in this way."""
    scaling = {"mode": "internal", "min": PODS[name], "loopLagMs": 10_000}
    own = {
        "auth": {"mode": "none"},
        "operator": {"replicas": 1, "intervalSeconds": 1},
        "gateway": {"minReadySeconds": 0, "preStopSeconds": 0},
        "settings": {"drain": {"delay_s": 0, "window_s": 1}},
        "scaling": scaling,
        "networkPolicy": {"adminNamespaces": [HOME]},
        "monitoring": {
            monitor: {"enabled": True, "interval": "1s", "labels": LABELS},
            "prometheusRule": {"enabled": True, "labels": LABELS},
        },
    }
    return merge(images(), own)


def the_prometheus() -> dict[str, Any]:
    """The resource of which the Prometheus operator makes a StatefulSet."""
    selected: dict[str, Any] = {}
    for kind in ("podMonitor", "serviceMonitor", "rule"):
        selected[f"{kind}Selector"] = {"matchLabels": LABELS}
        selected[f"{kind}NamespaceSelector"] = {}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "Prometheus",
        "metadata": {"name": "lab"},
        "spec": {
            **selected,
            "version": "v3.5.0",
            "image": prometheus.IMAGE,
            "imagePullPolicy": "IfNotPresent",
            "serviceAccountName": "prometheus",
            "evaluationInterval": "2s",
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65534, "fsGroup": 65534},
        },
    }


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """The Prometheus operator and a Prometheus, and then both releases."""
    cluster = Cluster(NAMESPACE)
    operator, server = (
        Neighbour(cluster, "prometheus-operator"),
        Neighbour(cluster, "prometheus"),
    )

    async def begin() -> None:
        await server.load()
        await operator.install()
        home = Cluster(HOME)
        began = time.monotonic()
        await home.kubectl("apply", "--filename", "-", stdin=json.dumps(the_prometheus()))
        await home.kubectl(
            "wait", "prometheus/lab", "--for=condition=Available", f"--timeout={PATIENCE}"
        )
        took = time.monotonic() - began
        report.write({"name": "Prometheus by its operator", "seconds_to_ready": round(took, 1)})
        await cluster.kubectl("create", "namespace", NAMESPACE)
        await install(cluster, FIRST, values(FIRST, "podMonitor"))
        await install(cluster, SECOND, values(SECOND, "serviceMonitor"))

    async def end() -> None:
        await cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")
        await operator.remove()

    try:
        asyncio.run(begin())
        yield cluster
    finally:
        asyncio.run(end())


@pytest.fixture
def home() -> Cluster:
    return Cluster(HOME)


async def install(cluster: Cluster, name: str, given: dict[str, Any]) -> None:
    words = ("--values", "-", "--wait", "--timeout", PATIENCE)
    await cluster.helm("install", name, str(CHART), *words, stdin=yaml.safe_dump(given))


# --- what Prometheus says


async def targets(home: Cluster) -> list[Any]:
    return list((await prometheus.ask(home, "targets", pod=POD, state="active"))["activeTargets"])


async def rules(home: Cluster) -> list[Any]:
    groups = (await prometheus.ask(home, "rules", pod=POD))["groups"]
    return [rule for group in groups for rule in group["rules"]]


async def alerts(home: Cluster) -> set[tuple[str, str, str]]:
    """Name, release and state."""
    found = (await prometheus.ask(home, "alerts", pod=POD))["alerts"]
    return {
        (one["labels"]["alertname"], one["labels"].get("release", ""), one["state"])
        for one in found
    }


def expected_rules() -> int:
    """Of one release."""
    files = sorted((CHART / "files" / "rules").glob("*.yaml"))
    return sum(_rules_of(path) for path in files)


def _rules_of(path: Path) -> int:
    groups = yaml.safe_load(path.read_text("utf-8"))["groups"]
    return sum(len(group["rules"]) for group in groups)


# --- the cases


async def test_every_pod_of_both_releases_is_scraped(cluster: Cluster, home: Cluster) -> None:
    """Those of the gateways and of the operators, each under the name of its release."""
    wanted = Counter({(name, "gateway"): count for name, count in PODS.items()})
    wanted.update({(FIRST, "operator"): 1, (SECOND, "operator"): 1})

    async def scraped() -> bool:
        found = await targets(home)
        seen = Counter(
            (one["labels"]["release"], one["scrapePool"].split("-")[-1].split("/")[0])
            for one in found
            if one["health"] == "up"
        )
        return seen == wanted and len(found) == wanted.total()

    took = await until(scraped, "all targets up")
    for one in await targets(home):
        labels = one["labels"]
        assert labels["namespace"] == NAMESPACE
        assert labels["pod"].startswith(f"{labels['release']}-tidegate-"), labels
    report.write({"name": "targets of both releases", "seconds": round(took, 1)})
    found = await prometheus.by_release(home, "count by (release) (tidegate_build_info)", pod=POD)
    assert found == {FIRST: 1.0, SECOND: 2.0}
    leaders = "sum by (release) (tidegate_operator_leader)"
    assert await prometheus.by_release(home, leaders, pod=POD) == {FIRST: 1.0, SECOND: 1.0}


async def test_the_rules_of_both_are_evaluated(cluster: Cluster, home: Cluster) -> None:
    async def evaluated() -> bool:
        found = await rules(home)
        return len(found) == 2 * expected_rules() and all(
            one["health"] != "unknown" for one in found
        )

    await until(evaluated, "the rules of two releases")
    for one in await rules(home):
        assert one["health"] == "ok", one
        assert f'namespace="{NAMESPACE}"' in one["query"]
        assert (f'release="{FIRST}"' in one["query"]) != (f'release="{SECOND}"' in one["query"])
    assert not [one for one in await alerts(home) if one[2] == "firing"]
    # One that was pending before the first scrape is over.
    await until(lambda: _absent(home, set()), "that both are there")


async def _absent(home: Cluster, names: set[str]) -> bool:
    """Whether these releases are told to be absent, and no others."""
    found = {release for name, release, _ in await alerts(home) if name == "TidegateAbsent"}
    return found == names


async def test_the_absence_of_one_release_is_told(cluster: Cluster, home: Cluster) -> None:
    """The other lives, which hid it before the rules knew releases."""
    deployment = f"deployment/{FIRST}-tidegate-gateway"
    began = time.monotonic()
    await cluster.kubectl("scale", deployment, "--replicas=0")

    await until(lambda: _absent(home, {FIRST}), "the absence of the first")
    report.write({"name": "absence told", "seconds": round(time.monotonic() - began, 1)})
    await cluster.kubectl("scale", deployment, "--replicas=1")
    await until(lambda: _absent(home, set()), "that both are there")


async def test_recording_rules_tell_the_releases_apart(cluster: Cluster, home: Cluster) -> None:
    """`helm test` publishes five updates and watches them: in one release only."""
    await cluster.helm("test", SECOND)
    recorded = "release:tidegate_delivery_slow:ratio_rate5m"

    async def second_has() -> bool:
        found = await prometheus.by_release(home, f"{recorded} >= 0", pod=POD)
        return found.keys() == {SECOND}

    await until(second_has, "a share of slow deliveries of the second release")
    deliveries = "sum by (release) (increase(tidegate_deliveries_total[5m])) > 0"
    assert (await prometheus.by_release(home, deliveries, pod=POD)).keys() == {SECOND}


async def test_what_is_uninstalled_is_forgotten(cluster: Cluster, home: Cluster) -> None:
    await cluster.helm("uninstall", FIRST, "--wait", "--timeout", PATIENCE)

    async def only_second() -> bool:
        found = await targets(home)
        queries = [one["query"] for one in await rules(home)]
        return (
            len(queries) == expected_rules()
            and all(f'release="{SECOND}"' in one for one in queries)
            and {one["labels"]["release"] for one in found} == {SECOND}
        )

    await until(only_second, "the second release alone")
