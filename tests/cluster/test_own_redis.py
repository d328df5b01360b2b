"""The chart on a Redis of one's own: by TLS, by Sentinel and as a Cluster; Helm 4 and Helm 3.

Each has a namespace and a release of its own. `helm test` publishes and watches; the operator must
say that it reaches Redis. Runs after `test_cluster`, whose cases hurt viewers.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.cluster import own_redis, report
from tests.cluster.kube import Cluster, CommandFailed
from tests.cluster.patience import PATIENCE
from tests.cluster.release import NAME, Release, images, merge

#: A pod's end is short; two operators are the other cases' subject.
VALUES: dict[str, Any] = {
    "settings": {"drain": {"delay_s": 0, "window_s": 1}},
    "gateway": {"minReadySeconds": 0, "preStopSeconds": 0},
    "operator": {"replicas": 1, "intervalSeconds": 1},
    "networkPolicy": {"enabled": True, "redisPorts": [6379, 6380, 26379, 7001, 7002, 7003]},
}


CASES = [("tls", "helm"), ("sentinel", "helm3"), ("cluster", "helm")]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, BaseException | None]:
    """What came of each: all at once, for they mostly wait, each for pods of its own."""

    async def all_of_them() -> list[BaseException | None]:
        work = (_on_a_redis_of_ones_own(kind, helm) for kind, helm in CASES)
        return await asyncio.gather(*work, return_exceptions=True)

    found = asyncio.run(all_of_them())
    return {kind: outcome for (kind, _), outcome in zip(CASES, found, strict=True)}


@pytest.mark.parametrize("kind", [pytest.param(kind, id=f"{kind}-{helm}") for kind, helm in CASES])
def test_the_chart_on_a_redis_of_ones_own(
    outcomes: dict[str, BaseException | None], kind: str
) -> None:
    if (wrong := outcomes[kind]) is not None:
        raise wrong


async def _on_a_redis_of_ones_own(kind: str, helm: str) -> None:
    cluster = Cluster(f"tidegate-test-{kind}", helm=helm)
    release = Release(cluster)
    await cluster.kubectl("create", "namespace", cluster.namespace)
    try:
        level = "pod-security.kubernetes.io/enforce=restricted"
        await cluster.kubectl("label", "namespace", cluster.namespace, level)
        values = merge(VALUES, await own_redis.start(cluster, kind))
        began = time.monotonic()
        try:
            await release.install(merge(images(), values))
            await release.settled(2)
        except (CommandFailed, TimeoutError) as error:
            pytest.fail(f"{error}\n{await cluster.events()}\n{await cluster.logs('gateway')}")
        took = time.monotonic() - began
        assert await cluster.pods("valkey") == []
        # Helm 3 takes the pod away before it asks for its log, so there `--logs` is for failures.
        shown = await cluster.helm("test", NAME, *(["--logs"] if helm == "helm" else []))
        assert shown.count("Succeeded") == 2
        if helm == "helm":
            assert "5 updates arrived, each once and in order" in shown
        await release.healthy()
        # The same values again: an upgrade by this Helm finds nothing to quarrel about.
        await release.upgrade({})
        await cluster.helm("uninstall", NAME, "--wait", "--timeout", PATIENCE)
        await own_redis.nothing_left(cluster, kind)
        report.write({"name": f"own Redis: {kind}, {helm}", "seconds_to_ready": round(took, 1)})
    finally:
        await cluster.kubectl("delete", "namespace", cluster.namespace, "--wait=false")
