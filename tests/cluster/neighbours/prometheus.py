"""A Prometheus in the lab, asked through the API server.

`start` runs one by itself, which scrapes the gateways of a namespace: what a trigger of KEDA asks.
With the Prometheus operator it is that one's doing, and only `ask` is used.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import yaml

from tests.cluster.kube import Cluster
from tests.cluster.patience import PATIENCE

NAME = "test-prometheus"
IMAGE = "docker.io/lab/prometheus:3"
PORT = 9090
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


async def start(cluster: Cluster, *, scraped: str) -> str:
    """One that scrapes each pod behind this headless Service every second; its address."""
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [
            {
                "job_name": "tidegate",
                "dns_sd_configs": [
                    {"names": [scraped], "type": "A", "port": 9090, "refresh_interval": "1s"}
                ],
            }
        ],
    }
    container = {
        "name": "prometheus",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "args": ["--config.file=/config/prometheus.yml", "--storage.tsdb.path=/data"],
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": PORT}, "periodSeconds": 1},
        "volumeMounts": [
            {"name": "config", "mountPath": "/config"},
            {"name": "data", "mountPath": "/data"},
        ],
        "securityContext": RESTRICTED,
    }
    pod = {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65534,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "config", "configMap": {"name": NAME}},
            {"name": "data", "emptyDir": {}},
        ],
    }
    named: dict[str, Any] = {"name": NAME, "labels": {"app": NAME}}
    made = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": named,
            "data": {"prometheus.yml": yaml.safe_dump(config)},
        },
        {"apiVersion": "v1", "kind": "Pod", "metadata": named, "spec": pod},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": named,
            "spec": {"selector": {"app": NAME}, "ports": [{"port": PORT}]},
        },
    ]
    listed = {"apiVersion": "v1", "kind": "List", "items": made}
    await cluster.kubectl("apply", "--filename", "-", stdin=json.dumps(listed))
    await cluster.kubectl("wait", "--for=condition=Ready", f"pod/{NAME}", f"--timeout={PATIENCE}")
    return f"http://{NAME}.{cluster.namespace}.svc:{PORT}"


async def stop(cluster: Cluster) -> None:
    """Nobody answers at its address any more."""
    for kind in ("pod", "configmap"):
        await cluster.kubectl("delete", kind, NAME, "--grace-period=1", "--ignore-not-found")


async def ask(cluster: Cluster, path: str, *, pod: str = NAME, **query: str) -> Any:
    """`data` of an answer of its API, such as `query` or `rules`."""
    words = f"?{urlencode(query)}" if query else ""
    where = f"/api/v1/namespaces/{cluster.namespace}/pods/{pod}:{PORT}/proxy/api/v1/{path}{words}"
    answer = json.loads(await cluster.kubectl("get", "--raw", where))
    assert answer["status"] == "success", answer
    return answer["data"]


async def by_release(cluster: Cluster, expression: str, *, pod: str = NAME) -> dict[str, float]:
    """The value of an instant query for each `release`."""
    found = (await ask(cluster, "query", pod=pod, query=expression))["result"]
    return {one["metric"].get("release", ""): float(one["value"][1]) for one in found}
