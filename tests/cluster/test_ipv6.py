"""The chart in a cluster without IPv4: `run.sh` starts such a lab for this file, after all others.

Pods, Services, the API server and DNS have IPv6 addresses only, and viewers and publishers come by
one. The values say nothing of it. The cases go on from one another.
"""

from __future__ import annotations

import ipaddress
import os
from typing import Any

import pytest

from tests.cluster.crowd import TimedViewer, watching
from tests.cluster.event_stream import TimedEventStream
from tests.cluster.kube import Cluster
from tests.cluster.patience import PATIENCE, until
from tests.cluster.release import NAME, Release, images, merge

pytestmark = [pytest.mark.all_cases]

NAMESPACE = "tidegate-test-ipv6"
KINDS = (TimedViewer, TimedEventStream)
VALUES: dict[str, Any] = {
    "settings": {"drain": {"delay_s": 1, "window_s": 4}, "server": {"allowed_hosts": ["*"]}},
    "gateway": {"replicas": 2, "minReadySeconds": 1, "preStopSeconds": 2},
    "operator": {"intervalSeconds": 1},
    "scaling": {"mode": "none"},
    "rebalance": {"enabled": False},
    "networkPolicy": {"enabled": True},
}


@pytest.fixture(scope="module")
def release() -> Release:
    if os.environ.get("CLUSTER_FAMILY") != "ipv6":
        pytest.skip("needs a cluster without IPv4: tests/cluster/lab/up.sh --ipv6")
    return Release(Cluster(NAMESPACE))


def is_ipv6(address: str) -> bool:
    return ipaddress.ip_address(address).version == 6


async def test_everything_gets_ready(release: Release, cluster: Cluster) -> None:
    """With a token, as it is installed; all addresses are of IPv6."""
    await cluster.kubectl("create", "namespace", NAMESPACE)
    level = "pod-security.kubernetes.io/enforce=restricted"
    await cluster.kubectl("label", "namespace", NAMESPACE, level)
    await release.install(merge(images(), VALUES))
    await release.settled(2)
    await release.healthy()
    pods = await release.pods()
    assert len(pods) == 5
    for pod in pods:
        assert [is_ipv6(one["ip"]) for one in pod["status"]["podIPs"]] == [True], pod
    for service in (await cluster.get("services"))["items"]:
        assert service["spec"]["ipFamilies"] == ["IPv6"]


async def test_helm_test_publishes_and_watches_with_a_token(
    release: Release, cluster: Cluster
) -> None:
    shown = await cluster.helm("test", NAME, "--logs")
    assert "5 updates arrived, each once and in order" in shown


async def test_viewers_while_pods_come_go_and_die(release: Release, cluster: Cluster) -> None:
    await release.upgrade({"auth": {"mode": "none"}})
    await release.settled(2)
    async with watching(
        release, "IPv6 only: 2 to 3 pods, kill -9, and back to 2", viewers=100, kinds=KINDS
    ) as crowd:
        gateway = f"gateways.tidegate.dev/{NAME}"
        await cluster.kubectl("scale", gateway, "--replicas=3")
        await release.settled(3)
        await crowd.recover()
        crowd.blow()
        await cluster.kill_container((await cluster.pods("gateway"))[0])
        await until(crowd.left, "viewers that were cut")
        await release.settled(3)
        await crowd.recover()
        await cluster.kubectl("scale", gateway, "--replicas=2")
        await release.settled(2)
        await crowd.recover()


async def test_the_end(release: Release, cluster: Cluster) -> None:
    await cluster.helm("uninstall", NAME, "--wait", "--timeout", PATIENCE)
    await cluster.kubectl("delete", "namespace", NAMESPACE)
