"""What observing gives, and what acting gets.

`None` means unknown wherever a figure may be unknown; it never stands for zero. An `Observation` is
one snapshot of one gateway; a `Decision` is complete, so that acting needs no judgement: what is
not in it is not to be done.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class PodLoad:
    """What a pod told about itself at its last renewal of its lease."""

    connections: int
    deliveries_per_s: float = 0.0
    loop_lag_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod of the target Deployment that Kubernetes knows.

    Attributes:
        ready: its Ready condition; False while it starts.
        terminating: it has a deletion timestamp: it drains.
        figures: None without a lease that holds (unknown, not empty).
        replica_set: its `pod-template-hash`.
        zone: of its node, where that is known.
        cost: the value of its deletion-cost annotation.
        own_cost: the value that we wrote there last, as our own annotation beside it remembers.
    """

    name: str
    ready: bool = True
    terminating: bool = False
    figures: PodLoad | None = None
    replica_set: str | None = None
    zone: str | None = None
    cost: int | None = None
    own_cost: int | None = None

    @property
    def serves(self) -> bool:
        """Whether viewers are sent to it."""
        return self.ready and not self.terminating


class Scaler(enum.StrEnum):
    """Another writer of the number of replicas."""

    HPA = "HorizontalPodAutoscaler"
    KEDA = "ScaledObject"


@dataclass(frozen=True, slots=True)
class Observation:
    """One gateway at one moment.

    Attributes:
        at_s: a clock that never steps; only differences count.
        wall: the same moment as the calendar has it, with a time zone; for the schedule.
        replicas: `spec.replicas` of the Deployment, as its scale sub-resource has it.
        pods: all pods of the Deployment, terminating ones too.
        rolling_out: a rolling update is under way: not all pods are of the newest template.
        redis_reachable: False: the leases could not be read, so no figure is known.
        undispatched: entries waiting for dispatch, over all streams; None: not measured.
        own_scalers: the scalers that exist and that we made; the ScaledObject counts until the
            autoscaler that KEDA made of it is gone too.
        foreign_scalers: names of scalers that aim at the Deployment and are not ours.
    """

    at_s: float
    wall: datetime
    replicas: int
    pods: tuple[Pod, ...]
    rolling_out: bool = False
    redis_reachable: bool = True
    undispatched: int | None = None
    own_scalers: frozenset[Scaler] = frozenset()
    foreign_scalers: tuple[str, ...] = ()


class Reason(enum.StrEnum):
    """Why replicas are changed, or why they stay; the label of the metric, and of conditions."""

    LOAD_UP = "LoadUp"
    LOAD_DOWN = "LoadDown"
    BELOW_MIN = "BelowMin"
    ABOVE_MAX = "AboveMax"
    BY_HAND = "ByHand"
    STEADY = "Steady"
    STEP_LIMIT = "StepLimit"
    WINDOW = "StabilisationWindow"
    AFTER_UP = "SoonAfterUp"
    DRAINING = "PodsDraining"
    ROLLOUT = "RolloutUnderWay"
    UNKNOWN = "FiguresUnknown"
    HANDOVER = "HandOver"
    CONFLICT = "ScalingConflict"
    DELEGATED = "Delegated"
    SWITCHED_OFF = "SwitchedOff"

    @property
    def is_active(self) -> bool:
        """The condition ScalingActive: the number of pods follows what it should follow."""
        return self not in _INACTIVE


_INACTIVE = frozenset({Reason.UNKNOWN, Reason.HANDOVER, Reason.CONFLICT, Reason.SWITCHED_OFF})


@dataclass(frozen=True, slots=True)
class Demand:
    """How many pods one signal asks for; a range where figures are missing.

    Attributes:
        signal: connections, deliveries, undispatched or loop_lag.
        least: pods' worth of load that is certain.
        most: pods' worth of load that is possible; infinite: nothing is known.
    """

    signal: str
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class DeletionCost:
    """A value for a pod's deletion-cost annotation. The lowest goes first; pods without have 0."""

    pod: str
    cost: int


@dataclass(frozen=True, slots=True)
class Scale:
    """Write `replicas` to the Deployment's scale, if it still has `before`.

    `costs` are written before, each pod once; that one cannot be written is no reason not to scale.
    """

    before: int
    replicas: int
    costs: tuple[DeletionCost, ...] = ()


@dataclass(frozen=True, slots=True)
class Shed:
    """Have a pod send so many viewers away within this time, as many at a time."""

    pod: str
    connections: int
    over_s: float


class Balance(enum.StrEnum):
    """Where rebalancing stands; the states are drawn in `rebalance.py`."""

    OFF = "off"
    EVEN = "even"
    SHEDDING = "shedding"
    WAITING = "waiting"
    GIVEN_UP = "given_up"


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now, in this order: remove, keep, costs and scale, shed.

    Attributes:
        desired: pods there should be in the end, as far as is known; within the bounds.
        reason: why `scale` is given, or why not.
        message: the same with figures, for people.
        limited: the load asks for more pods than the bounds allow.
        scale: None: leave replicas alone.
        remove: our scalers that have to go.
        keep: our scaler that has to be there, as the spec describes it.
        costs: to be written without a change of replicas: another one decides about those.
        cost_conflict: pods whose deletion cost someone else writes; we do not touch any then.
        shed: for each pod at most one.
        balance: where rebalancing stands.
        demands: what each signal asks for.
    """

    desired: int
    reason: Reason
    message: str
    limited: bool = False
    scale: Scale | None = None
    remove: frozenset[Scaler] = frozenset()
    keep: Scaler | None = None
    costs: tuple[DeletionCost, ...] = ()
    cost_conflict: tuple[str, ...] = ()
    shed: tuple[Shed, ...] = ()
    balance: Balance = Balance.OFF
    demands: tuple[Demand, ...] = ()
