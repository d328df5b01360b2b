"""`external_metrics.py` as a pod behind the API server, for as long as a test needs it."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.cluster.kube import Cluster
from tests.cluster.patience import until
from tests.cluster.release import NAME

SCRIPT = Path(__file__).with_name("external_metrics.py")
APP = "test-external-metrics"
API = "v1beta1.external.metrics.k8s.io"


def manifests(namespace: str) -> list[dict[str, Any]]:
    """ConfigMap, Pod, Service, and the API that the API server hands to it."""
    container = {
        "name": "adapter",
        "image": os.environ["CLUSTER_IMAGE"],
        "command": ["python", "/app/external_metrics.py"],
        "env": [{"name": "PODS", "value": f"{NAME}-metrics"}],
        "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
        "volumeMounts": [
            {"name": "app", "mountPath": "/app"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod = {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "app", "configMap": {"name": APP}}, {"name": "tmp", "emptyDir": {}}],
    }
    api = {
        "group": "external.metrics.k8s.io",
        "version": "v1beta1",
        "service": {"name": APP, "namespace": namespace},
        "insecureSkipTLSVerify": True,
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
    }
    named: dict[str, Any] = {"name": APP, "labels": {"app": APP}}
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": named,
            "data": {SCRIPT.name: SCRIPT.read_text()},
        },
        {"apiVersion": "v1", "kind": "Pod", "metadata": named, "spec": pod},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": named,
            "spec": {"selector": {"app": APP}, "ports": [{"port": 443, "targetPort": 8443}]},
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": API, "labels": {"app": APP}},
            "spec": api,
        },
    ]


@asynccontextmanager
async def external_metrics(cluster: Cluster) -> AsyncIterator[None]:
    """The API answers inside. Raises LookupError where the cluster has one: it keeps it."""
    apis = (await cluster.kubectl("get", "apiservices", "--output", "name")).split()
    if any(API in one for one in apis):
        raise LookupError(f"the cluster has {API}, and can have only one")
    made = {"apiVersion": "v1", "kind": "List", "items": manifests(cluster.namespace)}
    await cluster.kubectl("apply", "--filename", "-", stdin=json.dumps(made))
    try:

        async def available() -> bool:
            found = await cluster.get("apiservice", API)
            conditions = found.get("status", {}).get("conditions", ())
            return any(one["type"] == "Available" and one["status"] == "True" for one in conditions)

        await until(available, "the API of external metrics")
        yield
    finally:
        await cluster.kubectl(
            *("delete", "--filename", "-", "--ignore-not-found", "--grace-period=0", "--force"),
            stdin=json.dumps(made),
        )
