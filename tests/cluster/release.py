"""The chart, installed under test: its values, its pods' figures, and the ways in from outside.

`Release.upgrade` lays values over those of the release; what a test changes stays for the next one,
as in a cluster that people run.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import redis.asyncio
import yaml
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.cluster.kube import Cluster, CommandFailed, is_ready
from tests.cluster.patience import PATIENCE, until
from tests.faults.viewer import Address

CHART = Path(__file__).parents[2] / "helm" / "tidegate"
NAME = "tidegate"
#: Values with which 300 viewers make three pods of one, within seconds.
SCALING_BY_LOAD: dict[str, Any] = {
    "scaling": {
        "mode": "internal",
        "min": 1,
        "max": 5,
        # 300 need three pods; so would 400, as which they may be counted for a moment while a new
        # pod fills: the figures of the pods are not of the same second.
        "connectionsPerPod": 135,
        # A shared machine lags for reasons of its own.
        "loopLagMs": 10_000,
        "up": {"periodS": 5},
        "down": {"windowS": 10, "afterUpS": 10, "periodS": 5},
    },
    # While a viewer moves, both pods count it until their next figures: few may be on the way.
    "rebalance": {"enabled": True, "ratePerS": 20},
}


def images() -> dict[str, Any]:
    """Values that name the images under test."""
    repository, _, tag = os.environ["CLUSTER_IMAGE"].rpartition(":")
    values: dict[str, Any] = {"image": {"repository": repository, "tag": tag}}
    if valkey := os.environ.get("CLUSTER_VALKEY_IMAGE"):
        repository, _, tag = valkey.rpartition(":")
        values["valkey"] = {"image": {"repository": repository, "tag": tag}}
    return values


class Release:
    """One release in one namespace, which has no other unless the cluster names an instance."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        #: With "tidegate" in it, it is also that of the release's objects.
        self.name = cluster.instance or NAME
        self.address = Address("", 0)
        self._redis_address = Address("", 0)

    # --- helm

    async def install(self, values: Mapping[str, Any]) -> str:
        """`helm install`; its notes."""
        return await self._helm("install", {}, values)

    async def upgrade(self, values: Mapping[str, Any]) -> None:
        """`helm upgrade` over the values that hold now, and wait until all pods are ready."""
        current = await self.cluster.helm("get", "values", self.name, "--output", "yaml")
        await self._helm("upgrade", yaml.safe_load(current) or {}, values)

    async def _helm(self, verb: str, under: Mapping[str, Any], values: Mapping[str, Any]) -> str:
        merged = yaml.safe_dump(merge(under, values))
        words = ("--values", "-", "--wait", "--timeout", PATIENCE)
        return await self.cluster.helm(verb, self.name, str(CHART), *words, stdin=merged)

    # --- the ways in

    async def open_ports(self) -> None:
        """NodePorts of our own; the chart's Services stay as they are."""
        if self.address.port:
            return
        host = await self.cluster.address()
        ways = (("viewers", "gateway", 8080), ("publishers", "valkey", 6379))
        for name, component, port in ways:
            service = {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": f"test-{self.name}-{name}"},
                "spec": {
                    "type": "NodePort",
                    "selector": {
                        "app.kubernetes.io/instance": self.name,
                        "app.kubernetes.io/component": component,
                    },
                    "ports": [{"port": port}],
                },
            }
            await self.cluster.kubectl("apply", "--filename", "-", stdin=yaml.safe_dump(service))
        self.address = Address(host, await self._node_port(f"test-{self.name}-viewers"))
        self._redis_address = Address(host, await self._node_port(f"test-{self.name}-publishers"))

    async def close_ports(self) -> None:
        """Delete them."""
        names = (f"test-{self.name}-viewers", f"test-{self.name}-publishers")
        await self.cluster.kubectl("delete", "service", *names)
        self.address = Address("", 0)

    async def _node_port(self, service: str) -> int:
        found = await self.cluster.get("service", service)
        return int(found["spec"]["ports"][0]["nodePort"])

    async def password(self) -> str:
        """Of the built-in Valkey."""
        secret = await self.cluster.get("secret", f"{self.name}-valkey")
        return base64.b64decode(secret["data"]["redis-password"]).decode()

    def redis(self, password: str) -> redis.asyncio.Redis:
        """A client that notices a dead server soon and does not retry by itself."""
        return redis.asyncio.Redis(
            host=self._redis_address.host,
            port=self._redis_address.port,
            password=password,
            socket_timeout=2.0,
            socket_connect_timeout=2.0,
            retry=Retry(NoBackoff(), 0),
        )

    # --- pods

    async def settled(self, gateways: int) -> float:
        """Wait until exactly so many gateway pods are there, all ready, and all others gone."""

        async def done() -> bool:
            if not await self.cluster.ready("gateway", gateways, leaving=0):
                return False
            deployment = await self.cluster.get("deployment", f"{self.name}-gateway")
            status = deployment["status"]
            return bool(
                status.get("observedGeneration") == deployment["metadata"]["generation"]
                and status.get("updatedReplicas") == gateways
            )

        return await until(done, f"{gateways} gateway pods")

    async def pods(self) -> list[Any]:
        """All of the release, on their way out or not."""
        selector = f"app.kubernetes.io/instance={self.name}"
        return list((await self.cluster.get("pods", "--selector", selector))["items"])

    async def connections(self) -> dict[str, int]:
        """Open connections by ready pod, as the pods say themselves."""
        found_pods = await self.cluster.pods("gateway")
        pods = [pod["metadata"]["name"] for pod in found_pods if is_ready(pod)]
        found = await asyncio.gather(*(self._figure(pod, "tidegate_connections") for pod in pods))
        return dict(zip(pods, found, strict=True))

    async def _figure(self, pod: str, name: str) -> int:
        """A metric of a pod, summed over its labels."""
        path = f"/api/v1/namespaces/{self.cluster.namespace}/pods/{pod}:9090/proxy/metrics"
        text = await self.cluster.kubectl("get", "--raw", path)
        lines = [line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
        assert lines, f"{pod} has no metric {name}"
        return round(sum(float(line.rpartition(" ")[2]) for line in lines))

    async def gateway(self) -> Any:
        """The Gateway resource."""
        return await self.cluster.get("gateways.tidegate.dev", self.name)

    async def healthy(self) -> None:
        """Wait for the condition Ready of the Gateway."""

        async def is_healthy() -> bool:
            return is_ready(await self.gateway())

        await until(is_healthy, "the condition Ready of the Gateway")

    async def leader(self) -> str:
        """Who holds the operator's Lease; empty: nobody."""
        try:
            lease = await self.cluster.get("lease", f"{self.name}-operator")
        except CommandFailed:  # it goes with the pod that made it, and the next one makes it again
            return ""
        return str(lease["spec"].get("holderIdentity") or "")

    async def led_since(self) -> float:
        """When the leader took the Lease, by its clock (seconds since the epoch)."""
        lease = await self.cluster.get("lease", f"{self.name}-operator")
        return datetime.fromisoformat(lease["spec"]["acquireTime"]).timestamp()


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """As Helm lays values over others."""
    made = dict(under)
    for key, value in over.items():
        old = made.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = merge(old, value)
        made[key] = value
    return made
