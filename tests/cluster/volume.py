"""A volume for the built-in Valkey: a directory of a node of the lab, which outlives every pod.

Nothing in the lab makes volumes on demand, so this one is made by hand and bound by its class. In
another cluster Valkey has no volume, and its data lives as long as its pod.
"""

from __future__ import annotations

import json
import shutil
from typing import Any

from tests.cluster.kube import Cluster

NAME = "test-valkey"


async def make(cluster: Cluster) -> dict[str, Any]:
    """The volume, and the values of the chart that take it; none outside of the lab."""
    if cluster.lab is None:
        return {}
    path = cluster.lab / "volumes" / NAME
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    nodes = (await cluster.get("nodes"))["items"]
    node = next(one for one in nodes if not one["spec"].get("taints"))
    label = "kubernetes.io/hostname"
    here = {"key": label, "operator": "In", "values": [node["metadata"]["labels"][label]]}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": NAME},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": NAME,
            "local": {"path": str(path)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }
    await cluster.kubectl("delete", "persistentvolume", NAME, "--ignore-not-found")
    await cluster.kubectl("apply", "--filename", "-", stdin=json.dumps(volume))
    # `keep: false`, so that the end of the release can be seen to leave nothing.
    persistence = {"enabled": True, "keep": False, "storageClass": NAME}
    return {"valkey": {"persistence": persistence}}


async def remove(cluster: Cluster) -> None:
    """After the release."""
    if cluster.lab is not None:
        await cluster.kubectl("delete", "persistentvolume", NAME, "--ignore-not-found")
        shutil.rmtree(cluster.lab / "volumes" / NAME, ignore_errors=True)
