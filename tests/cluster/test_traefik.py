"""The chart's Ingress and HTTPRoute with a real Traefik, which serves both.

Half of the viewers have WebSockets and half event streams. They come through a port of the node to
Traefik, which knows the pods by their EndpointSlices. The gateway accepts the host because the
chart tells it of the Ingress and the HTTPRoute.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.cluster.crowd import Crowd, TimedViewer, watching
from tests.cluster.event_stream import TimedEventStream
from tests.cluster.kube import Cluster
from tests.cluster.neighbours.install import Neighbour
from tests.cluster.patience import PATIENCE, until
from tests.cluster.release import NAME, Release, images, merge
from tests.faults.viewer import Address
from tidegate.cli.doctor_gateway import examine_gateway
from tidegate.model.findings import FindingLevel

pytestmark = [pytest.mark.all_cases]

NAMESPACE = "tidegate-test-traefik"
HOME = "traefik"
HOST = "localhost"
KINDS = (TimedViewer, TimedEventStream)
REQUEST_S = 30.0
#: Of an object that a reload brings, by entry point.
OTHER = {"ingress": "ingress.example", "gateway": "gateway.example"}
VALUES: dict[str, Any] = {
    "auth": {"mode": "none"},
    "settings": {
        "drain": {"delay_s": 1, "window_s": 4},
        "server": {"allowed_hosts": list(OTHER.values())},
    },
    "gateway": {"minReadySeconds": 1, "preStopSeconds": 2},
    "operator": {"replicas": 1, "intervalSeconds": 1},
    "scaling": {"mode": "internal", "min": 2, "loopLagMs": 10_000},
    "rebalance": {"enabled": False},
    "ingress": {"enabled": True, "className": "traefik", "hosts": [HOST]},
    "httpRoute": {
        "enabled": True,
        "parentRefs": [{"name": "lab", "namespace": HOME}],
        "hostnames": [HOST],
    },
}
#: Of the Gateway API: the operator of the chart has nothing to do with them.
GATEWAY: list[dict[str, Any]] = [
    {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": "traefik"},
        "spec": {"controllerName": "traefik.io/gateway-controller"},
    },
    {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "lab"},
        "spec": {
            "gatewayClassName": "traefik",
            "listeners": [
                {
                    "name": "http",
                    "protocol": "HTTP",
                    "port": 8001,
                    "allowedRoutes": {"namespaces": {"from": "All"}},
                }
            ],
        },
    },
]


@pytest.fixture(scope="module")
def installed() -> Iterator[Release]:
    """Traefik, a Gateway of the Gateway API, and the chart; all are gone in the end."""
    cluster, home = Cluster(NAMESPACE), Cluster(HOME)
    traefik = Neighbour(cluster, "traefik")
    release = Release(cluster)

    async def begin() -> None:
        await traefik.install()
        listed = {"apiVersion": "v1", "kind": "List", "items": GATEWAY}
        await home.kubectl("apply", "--filename", "-", stdin=json.dumps(listed))
        await cluster.kubectl("create", "namespace", NAMESPACE)
        await release.install(merge(images(), VALUES))
        await release.settled(2)

    async def end() -> None:
        await cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")
        await traefik.remove()

    try:
        asyncio.run(begin())
        yield release
    finally:
        asyncio.run(end())


@pytest.fixture(params=["ingress", "gateway"], ids=["Ingress", "Gateway API"])
def way(request: pytest.FixtureRequest) -> str:
    """The entry point of Traefik."""
    return str(request.param)


@pytest.fixture
async def release(installed: Release, way: str) -> Release:
    """Its viewers come that way."""
    await installed.open_ports()
    service = await Cluster(HOME).get("service", "traefik")
    (port,) = (one["nodePort"] for one in service["spec"]["ports"] if one["name"] == way)
    installed.address = Address(HOST, int(port))
    return installed


def url(release: Release, path: str = "") -> str:
    return f"http://{release.address.host}:{release.address.port}{path}"


async def serves(release: Release, host: str) -> bool:
    """Whether a request for this host reaches the gateway."""
    async with httpx.AsyncClient(trust_env=False, timeout=REQUEST_S) as client:
        headers = {"Host": f"{host}:{release.address.port}"}
        try:
            answer = await client.get(url(release, "/openapi.json"), headers=headers)
        except httpx.TransportError:
            return False
    return answer.status_code == 200


async def test_the_doctor_finds_nothing_wrong(release: Release, cluster: Cluster, way: str) -> None:
    await until(lambda: serves(release, HOST), "the gateway through Traefik")
    if way == "gateway":
        route = await cluster.get("httproute", NAME)
        (parent,) = route["status"]["parents"]
        assert {one["type"]: one["status"] for one in parent["conditions"]} == {
            "Accepted": "True",
            "ResolvedRefs": "True",
        }
    found = {one.check: one for one in await examine_gateway(url(release), None)}
    assert found["http"].verdict is found["websocket"].verdict is FindingLevel.OK, found
    assert found["event stream"].verdict is not FindingLevel.FAILED, found


async def test_pods_that_are_replaced(release: Release, cluster: Cluster, way: str) -> None:
    """Each drains: its viewers are told to come back, and Traefik sends them elsewhere."""
    before = {pod["metadata"]["name"] for pod in await cluster.pods("gateway")}
    async with watching(
        release, f"pods replaced behind Traefik, {way}", viewers=100, kinds=KINDS
    ) as crowd:
        await cluster.kubectl("rollout", "restart", f"deployment/{NAME}-gateway")
        await release.settled(2)
        await crowd.recover()
    assert not before & {pod["metadata"]["name"] for pod in await cluster.pods("gateway")}


async def test_a_killed_pod(release: Release, cluster: Cluster, way: str) -> None:
    async with watching(
        release, f"kill -9 behind Traefik, {way}", viewers=100, kinds=KINDS
    ) as crowd:
        # All may be at one pod: the other was killed before, and came back after they had come.
        counts = await release.connections()
        fullest = max(counts, key=lambda name: counts[name])
        pods = {pod["metadata"]["name"]: pod for pod in await cluster.pods("gateway")}
        crowd.blow()
        await cluster.kill_container(pods[fullest])
        await until(lambda: _some_cut(crowd), "viewers that were cut")
        await release.settled(2)
        await crowd.recover()


async def _some_cut(crowd: Crowd) -> bool:
    return bool(crowd.left())


async def test_a_reload_keeps_connections(release: Release, cluster: Cluster, way: str) -> None:
    """Another object with another host changes its configuration, and tells when it is in force."""
    other = OTHER[way]
    async with watching(release, f"a reload of Traefik, {way}", viewers=100, kinds=KINDS) as crowd:
        assert await serves(release, HOST)
        assert not await serves(release, other)
        kind = {"ingress": "ingress", "gateway": "httproute"}[way]
        made = await cluster.get(kind, NAME)
        made = {"apiVersion": made["apiVersion"], "kind": made["kind"], "spec": made["spec"]}
        if way == "ingress":
            made["spec"]["rules"][0]["host"] = other
        else:
            made["spec"]["hostnames"] = [other]
        made["metadata"] = {"name": "other"}
        await cluster.kubectl("apply", "--filename", "-", stdin=json.dumps(made))
        took = await until(lambda: serves(release, other), "the other host")
        crowd.note("seconds until it is in force", round(took, 1))
        await crowd.recover()
        assert crowd.left() == 0


async def test_a_traefik_that_is_replaced(release: Release, way: str) -> None:
    home = Cluster(HOME)
    async with watching(
        release, f"Traefik itself replaced, {way}", viewers=100, kinds=KINDS
    ) as crowd:
        await home.kubectl("rollout", "restart", "deployment/traefik")
        await home.kubectl("rollout", "status", "deployment/traefik", f"--timeout={PATIENCE}")
        await until(lambda: _all_cut(crowd), "viewers that were cut")
        await crowd.recover()


async def _all_cut(crowd: Crowd) -> bool:
    return crowd.left() >= len(crowd.viewers)
