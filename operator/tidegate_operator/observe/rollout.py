"""Whether the pods of a Deployment start: a rollout that is stuck, and the reason of its pods.

Kubernetes says so by itself after the progress deadline (10 minutes by default), and never for a
pod that is added without a rollout. What the kubelet says of a pod comes earlier: it counts once
the pod has not been ready for `STUCK_S` without a break, by our own clock, or once the controller
of the Deployment has given up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tidegate_operator.kube.objects import DeploymentState, PodState, StallReason

#: A pod may take so long to get over what the kubelet complains of: a registry that answers late, a
#: Secret that comes after the Deployment, a node that is being added.
STUCK_S = 60.0
#: As long as the progress deadline of a Deployment is by default.
LATE_S = 600.0
LATE = StallReason("NotReady", "it has not become ready in 10 minutes; its log has the reason")


@dataclass(frozen=True, slots=True)
class Rollout:
    """How far the Deployment is, and what keeps its pods from starting.

    Attributes:
        stalled: what its controller says: the progress deadline passed, or pods are refused.
        pods: those that do not start, by name, with what the kubelet or scheduler last said.
        is_complete: all pods are of the newest template and available.
        updated, wanted: pods of the newest template, and how many there should be.
    """

    stalled: StallReason | None = None
    pods: tuple[tuple[str, StallReason], ...] = ()
    is_complete: bool = True
    updated: int = 0
    wanted: int = 0

    @property
    def is_stuck(self) -> bool:
        """Whether it does not go on by itself."""
        return self.stalled is not None or bool(self.pods)


NO_TROUBLE = Rollout()


class RolloutWatch:
    """Looks again and again, and remembers since when a pod is not ready."""

    def __init__(self) -> None:
        #: By uid: since when it is not ready, and the last trouble. A container in a crash loop
        #: runs now and then, and has no trouble for that moment.
        self._unready: dict[str, tuple[float, StallReason | None]] = {}
        #: By uid: those that were ready once. That they are not any more is no matter of a rollout.
        self._started: frozenset[str] = frozenset()

    def look(
        self, deployment: DeploymentState, pods: Mapping[str, PodState], now: float
    ) -> Rollout:
        """What is known at `now`, by a clock that never steps."""
        before, self._unready = self._unready, {}
        self._started = frozenset(
            pod.uid for pod in pods.values() if pod.ready or pod.uid in self._started
        )
        stuck: list[tuple[str, StallReason]] = []
        for name, pod in sorted(pods.items()):
            if pod.ready or pod.terminating:
                continue
            since, last = before.get(pod.uid, (now, None))
            trouble = pod.trouble or last
            self._unready[pod.uid] = (since, trouble)
            if trouble is None and pod.uid not in self._started and now - since >= LATE_S:
                trouble = LATE
            if trouble is not None and (deployment.stalled or now - since >= STUCK_S):
                stuck.append((name, trouble))
        return Rollout(
            stalled=deployment.stalled,
            pods=tuple(stuck),
            is_complete=not deployment.is_rolling and deployment.available >= deployment.replicas,
            updated=deployment.updated,
            wanted=deployment.replicas,
        )
