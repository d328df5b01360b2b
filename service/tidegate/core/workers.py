"""The worker processes of one pod: each is a replica with a name of its own, `<pod>/<number>`.

`server.pod` has no slash, so a name with one is a worker's and tells its pod. Kubernetes and who
speaks to Kubernetes know pods; leases, consumers and surveys know replicas.
"""

from __future__ import annotations

SEPARATOR = "/"


def worker_name(pod: str, number: int) -> str:
    """The replica that worker `number` of this pod is; they are numbered from 1."""
    return f"{pod}{SEPARATOR}{number}"


def pod_of_replica(replica: str) -> str:
    """The pod that a replica runs in: the replica itself where it is no worker."""
    return replica.partition(SEPARATOR)[0]


def share(total: int, number: int, workers: int) -> int:
    """What worker `number` has of a total that is split evenly; the first ones have the rest."""
    return total // workers + (number <= total % workers)
