"""Three nodes: zones, a network that enforces policies, and a node that loses its power.

The lab's node0 has the API server; node1 and node2 are zones of their own, and take the pods. The
cases go on from one another. What leaves such a node passes this machine, which can be asked.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import report
from tests.cluster.crowd import watching
from tests.cluster.kube import Cluster, CommandFailed, command, is_ready
from tests.cluster.patience import PATIENCE, until
from tests.cluster.release import NAME, Release, images, merge
from tests.cluster.sniffer import Sniffer, devices_out

pytestmark = [pytest.mark.all_cases]

NODE_SH = Path(__file__).parent / "lab" / "node.sh"
NAMESPACE, OUTSIDE = "tidegate-test-nodes", "tidegate-test-outside"
ZONE = "topology.kubernetes.io/zone"
#: Valkey stays; the node without power is the other one.
LASTING, LOST = "node1", "node2"
#: node0 on its devices: as whom NodePorts lead viewers and publishers from this machine to pods.
MACHINE = "10.99.0.1/32"
#: Kubernetes waits 300 s by default before it replaces the pods of a node that is not heard of.
GIVEN_UP = [
    {
        "key": f"node.kubernetes.io/{what}",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": 5,
    }
    for what in ("unreachable", "not-ready")
]
VALUES: dict[str, Any] = {
    "auth": {"mode": "none"},
    "settings": {"drain": {"delay_s": 0, "window_s": 4}, "server": {"allowed_hosts": ["*"]}},
    "gateway": {
        "replicas": 2,
        "minReadySeconds": 1,
        "preStopSeconds": 1,
        "tolerations": GIVEN_UP,
    },
    "operator": {"intervalSeconds": 1, "tolerations": GIVEN_UP},
    "valkey": {"nodeSelector": {"kubernetes.io/hostname": LASTING}},
    "scaling": {"mode": "none"},
    "rebalance": {"enabled": False},
}
POLICIES: dict[str, Any] = {
    "networkPolicy": {
        "enabled": True,
        "viewersFrom": [
            {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": OUTSIDE}},
                "podSelector": {"matchLabels": {"app": "viewer"}},
            },
            {"ipBlock": {"cidr": MACHINE}},
        ],
        "publishersFrom": [
            {"podSelector": {"matchLabels": {"app": "backend"}}},
            {"ipBlock": {"cidr": MACHINE}},
        ],
    }
}


def _node(verb: str, node: str) -> None:
    subprocess.run([NODE_SH, verb, node.removeprefix("node")], check=True)


@pytest.fixture(scope="module", autouse=True)
def nodes() -> Iterator[None]:
    """Two nodes more, for this file."""
    if "CLUSTER_LAB" not in os.environ:
        pytest.skip("needs the lab, where nodes can be added and lose their power")
    if not (Path(os.environ["CLUSTER_LAB"]).parent / "kube" / "kube-router").exists():
        pytest.skip("needs kube-router: tests/cluster/lab/build.sh kube-router")
    try:
        for node in (LASTING, LOST):
            _node("up", node)
        yield
    finally:
        if "CLUSTER_KEEP" not in os.environ:
            for node in (LASTING, LOST):
                _node("remove", node)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(NAMESPACE)


@pytest.fixture
def release(cluster: Cluster) -> Release:
    return Release(cluster)


async def _scale(release: Release, pods: int) -> float:
    began = time.monotonic()
    await release.cluster.kubectl("scale", f"gateways.tidegate.dev/{NAME}", f"--replicas={pods}")
    await release.settled(pods)
    return round(time.monotonic() - began, 1)


async def _zones(cluster: Cluster, component: str) -> dict[str, int]:
    """How many pods of a component are in each zone."""
    found = (await cluster.get("nodes"))["items"]
    zones = {one["metadata"]["name"]: one["metadata"]["labels"].get(ZONE, "") for one in found}
    return dict(Counter(zones[pod["spec"]["nodeName"]] for pod in await cluster.pods(component)))


async def test_pods_are_spread_over_zones(release: Release, cluster: Cluster) -> None:
    began = time.monotonic()
    for namespace in (NAMESPACE, OUTSIDE):
        await cluster.kubectl("create", "namespace", namespace)
    level = "pod-security.kubernetes.io/enforce=restricted"
    await cluster.kubectl("label", "namespace", NAMESPACE, level)
    try:
        await release.install(merge(images(), VALUES))
        await release.settled(2)
        await release.healthy()
    except (CommandFailed, AssertionError) as error:
        pytest.fail(f"{error}\n{await cluster.events()}")
    took = round(time.monotonic() - began, 1)
    report.write({"name": "three nodes: install", "seconds_to_ready": took})
    for component in ("gateway", "operator"):
        assert await _zones(cluster, component) == {"zone-1": 1, "zone-2": 1}
    async with watching(release, "two zones: 2 to 4 to 2", viewers=60) as crowd:
        crowd.note("seconds to 4", await _scale(release, 4))
        assert await _zones(cluster, "gateway") == {"zone-1": 2, "zone-2": 2}
        await crowd.recover()
        crowd.note("seconds to 2", await _scale(release, 2))
        # The one that goes first is of any zone, the one after it of the other.
        assert await _zones(cluster, "gateway") == {"zone-1": 1, "zone-2": 1}
        await crowd.recover()


# --- NetworkPolicies

PROBE = """
import json, socket, sys
found = []
for host, port in json.loads(sys.argv[1]):
    try:
        socket.create_connection((host, port), timeout=float(sys.argv[2])).close()
        found.append("open")
    except OSError as error:
        found.append(type(error).__name__)
print(json.dumps(found))
"""
Asked = list[tuple[str, int]]
#: Policies refuse at once, so that only a busy machine makes one wait; what is dropped is given up.
ANSWER_S, DROPPED_S = 30.0, 3.0


async def _start(cluster: Cluster, name: str, node: str, app: str) -> None:
    """A pod to ask from."""
    container = {
        "name": "probe",
        "image": os.environ["CLUSTER_IMAGE"],
        "command": ["python", "-c", "import signal; signal.pause()"],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": app}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
        },
    }
    await cluster.kubectl("apply", "--filename", "-", stdin=json.dumps(pod))
    await cluster.kubectl("wait", f"pod/{name}", "--for=condition=Ready", f"--timeout={PATIENCE}")


async def _ask(
    cluster: Cluster, pod: str, asked: Asked, *, within_s: float = ANSWER_S
) -> list[str]:
    """Connect from this pod to each address: `open`, or the error."""
    words = ("exec", pod, "--", "python", "-c", PROBE, json.dumps(asked), str(within_s))
    return list(json.loads(await cluster.kubectl(*words)))


async def _addresses(cluster: Cluster, component: str) -> dict[str, str]:
    """The address of a pod of the component on each node."""
    pods = await cluster.pods(component)
    return {pod["spec"]["nodeName"]: pod["status"]["podIP"] for pod in pods}


async def test_policies_of_the_chart_are_enforced(release: Release, cluster: Cluster) -> None:
    """Each refusal was a connection before, or is one for somebody else."""
    outside = Cluster(OUTSIDE)
    for node in (LASTING, LOST):
        await _start(outside, f"viewer-{node}", node, "viewer")
        await _start(outside, f"stranger-{node}", node, "stranger")
        await _start(cluster, f"backend-{node}", node, "backend")
    (valkey,) = (await _addresses(cluster, "valkey")).values()

    async def seen_by(where: Cluster, pod: str) -> dict[str, list[str]]:
        gateways = list((await _addresses(cluster, "gateway")).values())
        ways = (("viewers", gateways, 8080), ("admin", gateways, 9090), ("redis", [valkey], 6379))
        return {
            way: await _ask(where, pod, [(host, port) for host in hosts])
            for way, hosts, port in ways
        }

    open_, refused = ["open"] * 2, ["ConnectionRefusedError"] * 2
    # Without `enabled` only the admin ports are closed, to other namespaces.
    for node in (LASTING, LOST):
        found = await seen_by(outside, f"stranger-{node}")
        assert found == {"viewers": open_, "admin": refused, "redis": ["open"]}, node
        found = await seen_by(cluster, f"backend-{node}")
        assert found == {"viewers": open_, "admin": open_, "redis": ["open"]}, node
    before = await _ask(cluster, f"deploy/{NAME}-gateway", await _elsewhere(cluster))
    assert before == ["open", "open", "open"]

    async with watching(release, "network policies", viewers=60) as crowd:
        await release.upgrade(POLICIES)
        for node in (LASTING, LOST):
            found = await seen_by(outside, f"viewer-{node}")
            assert found == {"viewers": open_, "admin": refused, "redis": refused[:1]}, node
            found = await seen_by(outside, f"stranger-{node}")
            assert found == {"viewers": refused, "admin": refused, "redis": refused[:1]}, node
            found = await seen_by(cluster, f"backend-{node}")
            assert found == {"viewers": refused, "admin": open_, "redis": ["open"]}, node
        # A gateway asks DNS and Redis, and neither the API server nor the operator.
        after = await _ask(cluster, f"deploy/{NAME}-gateway", await _elsewhere(cluster))
        assert after == ["open", *refused]
        # The operator reaches all that it needs, and so does the pod of `helm test`.
        await _scale(release, 3)
        await _scale(release, 2)
        await release.healthy()
        await cluster.helm("test", NAME)
        await crowd.recover()


async def _elsewhere(cluster: Cluster) -> Asked:
    """DNS, the API server and an operator."""
    operators = await _addresses(cluster, "operator")
    return [("10.96.0.10", 53), ("10.96.0.1", 443), (operators[LASTING], 9091)]


# --- what nobody has

#: Addresses of Services and pods that are none, on a node and on none, and of documentation.
NOBODY = ["10.96.200.200", "fd00:96::c8", "10.244.200.7", "198.51.100.7", "2001:db8::7"]
_RANGES = ("10.96.0.0/16", "10.99.0.0/16", "10.244.0.0/16")
_RANGES6 = ("fd00:96::/112", "fd00:99::/64", "fd00:244::/56")
LAB = [ipaddress.ip_network(one) for one in (*_RANGES, *_RANGES6)]


async def _dropped() -> int:
    """Packets that LAB-NOBODY has dropped on this machine."""
    total = 0
    for program in ("iptables", "ip6tables"):
        words = (program, "-w", "-t", "mangle", "-nvxL", "LAB-NOBODY")
        lines = (await command(*words)).splitlines()[2:]
        total += sum(int(line.split()[0]) for line in lines if line.split()[2] == "DROP")
    return total


async def test_packets_to_nobody_stay_in_the_lab(cluster: Cluster) -> None:
    outside = Cluster(OUTSIDE)
    pod = await outside.get("pod", f"stranger-{LASTING}")
    own = pod["status"]["podIP"].rpartition(".")[0]
    asked = [(host, 80) for host in (*NOBODY, f"{own}.251")]
    before = await _dropped()
    with ExitStack() as stack:
        out = [stack.enter_context(Sniffer(device, LAB)) for device in devices_out()]
        inside = stack.enter_context(Sniffer("lab1", LAB))
        found = await _ask(outside, f"stranger-{LASTING}", asked, within_s=DROPPED_S)
        # This machine asks, too: its way out is another chain.
        for host in NOBODY[:3]:
            with pytest.raises((OSError, TimeoutError)):
                async with asyncio.timeout(2):
                    await asyncio.open_connection(host, 80)
        left = [packet for sniffer in out for packet in sniffer.seen()]
        sent = {str(packet.destination) for packet in inside.seen()}
    assert "open" not in found
    assert left == []
    # They came as far as this machine, which dropped them, or answered that there is no such way.
    assert set(NOBODY) <= sent
    dropped = await _dropped() - before
    assert dropped >= len(NOBODY)
    report.write({"name": "packets to nobody", "dropped": dropped, "left the machine": len(left)})


# --- power


async def test_a_node_without_power(release: Release, cluster: Cluster) -> None:
    async with watching(release, "power off of a node", viewers=100) as crowd:
        await _led_from(release, LOST)
        lost = {pod["metadata"]["name"] for pod in await _pods_on(release, LOST)}
        crowd.blow()
        began = time.monotonic()

        def since() -> float:
            return round(time.monotonic() - began, 1)

        await asyncio.to_thread(_node, "off", LOST)
        await crowd.recover()
        crowd.note("seconds until every viewer has news", since())

        async def replaced() -> bool:
            pods = [pod for pod in await cluster.pods("gateway") if is_ready(pod)]
            return [pod["spec"]["nodeName"] for pod in pods] == [LASTING, LASTING]

        await until(replaced, "gateway pods on the node that is left")
        crowd.note("seconds until its pod is replaced", since())

        async def one_leads() -> bool:
            return await release.leader() not in ("", *lost)

        await until(one_leads, "an operator that leads")
        crowd.note("seconds until an operator leads", since())
        await release.healthy()
        crowd.note("seconds until the Gateway is Ready", since())
        await crowd.recover()
        began = time.monotonic()
        await asyncio.to_thread(_node, "up", LOST)
        crowd.note("seconds until the node is back", since())
        await release.settled(2)
        await _scale(release, 4)
        assert await _zones(cluster, "gateway") == {"zone-1": 2, "zone-2": 2}
        await crowd.recover()


async def _pods_on(release: Release, node: str) -> list[Any]:
    return [pod for pod in await release.pods() if pod["spec"]["nodeName"] == node]


async def _led_from(release: Release, node: str) -> None:
    """The operator's leader is on this node."""

    async def is_there() -> bool:
        leader = await release.leader()
        return leader in {pod["metadata"]["name"] for pod in await _pods_on(release, node)}

    if not await is_there():
        await release.cluster.kubectl("delete", "pod", await release.leader(), "--wait=false")
        await until(is_there, f"a leader on {node}")


async def test_the_end(release: Release, cluster: Cluster) -> None:
    await release.close_ports()
    await cluster.helm("uninstall", NAME, "--wait", "--timeout", PATIENCE)
    for namespace in (NAMESPACE, OUTSIDE):
        await cluster.kubectl("delete", "namespace", namespace)
