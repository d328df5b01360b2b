"""The names of the worker processes of a pod: each is a replica, `<pod>/<number>`.

`server.pod` contains no slash, so a name with one is that of a worker. Kubernetes and the operator
deal with pods; leases, consumers and surveys with replicas.
"""

from __future__ import annotations

SEPARATOR = "/"


def worker_name(pod: str, number: int) -> str:
    """The replica name of worker `number` of this pod; workers are numbered from 1."""
    return f"{pod}{SEPARATOR}{number}"


def pod_of_replica(replica: str) -> str:
    """The pod that a replica runs in; without worker processes they have the same name."""
    return replica.partition(SEPARATOR)[0]


def share(total: int, number: int, workers: int) -> int:
    """The share of worker `number` in a total that is divided evenly. The first workers get one
    more each if there is a remainder.
    """
    return total // workers + (number <= total % workers)
