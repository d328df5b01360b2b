"""What the operator reads from Kubernetes, as small records. Nothing here does I/O."""

from __future__ import annotations

from dataclasses import dataclass

#: Which pod of a ReplicaSet goes first: the one with the lowest (beta since Kubernetes 1.22).
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
#: What we wrote there last: a value that differs is someone else's.
OWN_COST = "tidegate.dev/pod-deletion-cost"
#: On an autoscaler of ours: a digest of what was wanted when it was written.
MARK = "tidegate.dev/wanted"
TEMPLATE_HASH = "pod-template-hash"
#: On pods since Kubernetes 1.35, on nodes before.
ZONE_LABEL = "topology.kubernetes.io/zone"


@dataclass(frozen=True, slots=True)
class Reference:
    """An object as an event or an owner names it."""

    api_version: str
    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Match:
    """One requirement of a label selector; `operator` as Kubernetes writes it: `In`, `Exists`..."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        match self.operator:
            case "In" if len(self.values) == 1:
                return f"{self.key}={self.values[0]}"
            case "In":
                return f"{self.key} in ({','.join(self.values)})"
            case "NotIn":
                return f"{self.key} notin ({','.join(self.values)})"
            case "DoesNotExist":
                return f"!{self.key}"
            case _:
                return self.key


@dataclass(frozen=True, slots=True)
class StallReason:
    """Why something does not come about, as Kubernetes says it: a word, and a text for people."""

    reason: str
    message: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}" if self.message else self.reason


@dataclass(frozen=True, slots=True)
class DeploymentState:
    """A Deployment: what is wanted, and how far its controller has come.

    Attributes:
        version: `resourceVersion`, which a write of the scale must name.
        replicas: what is wanted (`spec.replicas`).
        selector: which pods are its own.
        stalled: its controller gave up for now: the progress deadline has passed, or the API server
            refuses its pods (quota, admission). None: it has not.
    """

    name: str
    uid: str
    version: str
    replicas: int
    selector: tuple[Match, ...]
    generation: int
    observed_generation: int
    current: int
    updated: int
    ready: int
    available: int
    paused: bool = False
    stalled: StallReason | None = None

    @property
    def is_rolling(self) -> bool:
        """Whether pods are being replaced by others, or its controller has not looked yet."""
        return self.observed_generation < self.generation or self.updated < self.current


@dataclass(frozen=True, slots=True)
class PodState:
    """A pod of the gateway.

    Attributes:
        replica_set: its template's hash; deletion costs are compared within it.
        cost: the deletion cost that is written on it; None if there is none.
        own_cost: the one that the operator wrote last.
        trouble: why it does not start, as the kubelet or the scheduler says it; None: nothing is
            said, as also for a moment of each round of a crash loop.
    """

    name: str
    uid: str
    phase: str
    ready: bool
    terminating: bool
    replica_set: str | None
    node: str
    zone: str | None
    cost: int | None
    own_cost: int | None
    trouble: StallReason | None = None


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """An HorizontalPodAutoscaler or ScaledObject that writes the scale of `target`.

    Attributes:
        api: `hpa` or `keda`.
        owner: uid of the Gateway that owns it; empty if none does.
        via: name of the ScaledObject that KEDA made it of; else empty.
        target: kind and name of what it scales.
        mark: what we wrote on it to know whether it is as we want it; empty: nothing.
    """

    api: str
    name: str
    uid: str
    version: str
    owner: str
    via: str
    target: tuple[str, str]
    mark: str = ""
    desired: int | None = None
    deleting: bool = False
