"""Which pods go when replicas are taken away: the emptiest, said by deletion costs.

A ReplicaSet takes the pods with the lowest `controller.kubernetes.io/pod-deletion-cost` first, of
those that are ready; pods that are not ready go before all others, whatever their cost. Kubernetes
asks not to follow figures with the annotation all the time, so only the pods that are to go get
one, right before: -n, ..., -1, and what earlier ones have left over is set to 0.

Zones stay even: a pod is passed over while its going would leave the zones more than one pod apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tidegate_operator.decide.records import DeletionCost, Pod


def leaving(pods: Sequence[Pod], count: int) -> tuple[Pod, ...]:
    """The pods that should go when there are to be `count` fewer, the first one first."""
    staying = sorted((pod for pod in pods if not pod.terminating), key=_fullness)
    chosen: list[Pod] = []
    while staying and len(chosen) < count:
        pod = next(one for one in staying if _may_go(one, staying))
        staying.remove(pod)
        chosen.append(pod)
    return tuple(chosen)


def deletion_costs(pods: Sequence[Pod], count: int) -> tuple[DeletionCost, ...]:
    """The values to write before there are `count` fewer: each pod once, only what changes."""
    # Pods that are not ready go first without being told, and each spares a ready one.
    ready = [pod for pod in leaving(pods, count) if pod.ready]
    wanted = {pod.name: rank - len(ready) for rank, pod in enumerate(ready)}
    made = [
        DeletionCost(pod.name, wanted.get(pod.name, 0))
        for pod in pods
        if not pod.terminating and wanted.get(pod.name, 0) != (pod.cost or 0)
    ]
    return tuple(sorted(made, key=lambda one: (one.cost == 0, one.cost, one.pod)))


def conflicts(pods: Sequence[Pod]) -> tuple[str, ...]:
    """Pods that carry a deletion cost of someone else's: then it is not ours to write any."""
    return tuple(
        pod.name
        for pod in pods
        if not pod.terminating and pod.cost is not None and pod.cost != pod.own_cost
    )


def _fullness(pod: Pod) -> tuple[bool, bool, int, str]:
    """Those first that go first. A ready pod that tells nothing counts as full."""
    if pod.figures is None:
        return (pod.ready, True, 0, pod.name)
    return (pod.ready, False, pod.figures.connections, pod.name)


def _may_go(pod: Pod, staying: Sequence[Pod]) -> bool:
    if not pod.ready or any(one.zone is None for one in staying):
        return True
    zones = Counter(one.zone for one in staying)
    if zones[pod.zone] == max(zones.values()):
        return True
    zones[pod.zone] -= 1
    return max(zones.values()) - min(zones.values()) <= 1
