"""What each condition of a Gateway says, from what the loops last found. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from tidegate_operator.act.actor import ActionResult
from tidegate_operator.decide.records import Decision
from tidegate_operator.model.gateway import GatewaySpec
from tidegate_operator.model.status import SCHEMA_VERSION, ConditionType, LastScale
from tidegate_operator.observe.observer import ClusterSnapshot
from tidegate_operator.streams.memory import Level
from tidegate_operator.streams.report import SweepReport

Truth = Literal["True", "False", "Unknown"]

#: A sweep that made no progress for so many of its intervals is overdue.
OVERDUE_INTERVALS = 3.0
NAMES_MAX = 5
PENDING = "Pending"


class Say(NamedTuple):
    """A condition without its times."""

    status: Truth
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class SweepState:
    """What the sweep loop knows.

    Attributes:
        report: of the last round that ended, of this leader.
        ended: when that was.
        error: why it makes no progress now; empty if it does.
        began: when this leader's loop began, so that a first round is given time.
        moved: when it last made progress: a round over millions of streams takes longer than its
            interval, and that is no fault.
    """

    began: datetime
    report: SweepReport | None = None
    ended: datetime | None = None
    error: str = ""
    moved: datetime | None = None

    def still_s(self, now: datetime) -> float:
        """For how long it made no progress."""
        last = max(when for when in (self.began, self.ended, self.moved) if when is not None)
        return (now - last).total_seconds()


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the status is made of.

    Attributes:
        generation: of the resource that was acted on.
        spec: None: it cannot be read, or asks for what is not allowed, and `problem` says why.
        problem: reason and text of what keeps the gateway from being looked at.
        snapshot, decision, result: of the last round; None if there was none.
        scaled: the last change of replicas by this leader, if any.
        leader: the replica of the operator that wrote this.
        served: the version of the definition that is served; 0 is one from before there were
            versions, None is not known yet.
    """

    generation: int
    spec: GatewaySpec | None
    problem: tuple[str, str] | None = None
    snapshot: ClusterSnapshot | None = None
    decision: Decision | None = None
    result: ActionResult | None = None
    scaled: LastScale | None = None
    sweep: SweepState = field(default_factory=lambda: SweepState(datetime.now(UTC)))
    leader: str = ""
    served: int | None = None


def says(facts: Facts, now: datetime) -> dict[ConditionType, Say]:
    """Each of our conditions."""
    return {
        ConditionType.READY: _ready(facts),
        ConditionType.REDIS_REACHABLE: _redis(facts),
        ConditionType.ROLLOUT_HEALTHY: _rollout(facts),
        ConditionType.SCALING_ACTIVE: _scaling(facts),
        ConditionType.SCALING_LIMITED: _limited(facts),
        ConditionType.SWEEP_HEALTHY: _swept(facts, now),
        ConditionType.MEMORY_PRESSURE: _memory(facts),
        ConditionType.LEASES_AGREE: _leases(facts),
        ConditionType.DEFINITION_CURRENT: _definition(facts),
        ConditionType.LEADER_ELECTED: Say("True", "Leading", f"{facts.leader} leads"),
    }


def _ready(facts: Facts) -> Say:
    if facts.problem is not None:
        return Say("False", *facts.problem)
    if facts.snapshot is None:
        return Say("Unknown", PENDING, "not looked at yet")
    serving = sum(pod.serves for pod in facts.snapshot.observation.pods)
    wanted = facts.snapshot.observation.replicas
    if serving == 0 and wanted > 0:
        return Say("False", "NoReadyPods", f"none of {wanted} pods is ready")
    if not facts.snapshot.observation.redis_reachable:
        return Say("False", facts.snapshot.redis_reason, facts.snapshot.redis_text)
    ready = f"{serving} of {wanted} pods are ready"
    if facts.snapshot.rollout.is_stuck:
        return Say("False", "RolloutStuck", f"{ready}; {_rollout(facts).message}")
    return Say("True", "Serving", ready)


def _redis(facts: Facts) -> Say:
    if facts.snapshot is None:
        return Say("Unknown", PENDING, "not asked yet")
    if facts.snapshot.observation.redis_reachable:
        return Say("True", "Reachable", "the leases can be read")
    return Say("False", facts.snapshot.redis_reason, facts.snapshot.redis_text)


def _rollout(facts: Facts) -> Say:
    if facts.snapshot is None:
        return Say("Unknown", PENDING, "not looked at yet")
    rollout = facts.snapshot.rollout
    told = [str(rollout.stalled)] if rollout.stalled is not None else []
    if rollout.pods:
        name, trouble = rollout.pods[0]
        number = len(rollout.pods)
        others = f" (and {number - 1} more)" if number > 1 else ""
        told.insert(0, f"pod {name}{others} does not start: {trouble}")
        return Say("False", trouble.reason, "; ".join(told))
    if rollout.stalled is not None:
        return Say("False", rollout.stalled.reason, told[0])
    if rollout.is_complete:
        return Say("True", "Complete", "all pods are of the newest template and available")
    text = f"{rollout.updated} of {rollout.wanted} pods are of the newest template"
    return Say("True", "InProgress", text)


def _scaling(facts: Facts) -> Say:
    if facts.problem is not None:
        return Say("False", *facts.problem)
    if facts.decision is None:
        return Say("Unknown", PENDING, "nothing decided yet")
    decision, failures = facts.decision, {} if facts.result is None else facts.result.failures
    for word in ("ScaleFailed", "RemoveFailed", "NameTaken", "KedaMissing", "AutoscalerFailed"):
        if word in failures:
            return Say("False", word, failures[word])
    status: Truth = "True" if decision.reason.is_active else "False"
    message = decision.message
    if decision.cost_conflict:
        pods = _names(decision.cost_conflict)
        message += f"; another client writes the deletion cost of {pods}, so ours is not written"
    elif "DeletionCostFailed" in failures:
        message += f"; without deletion costs: {failures['DeletionCostFailed']}"
    if "RebalanceFailed" in failures:
        message += f"; no rebalancing: {failures['RebalanceFailed']}"
    return Say(status, decision.reason, message)


def _limited(facts: Facts) -> Say:
    if facts.decision is None:
        return Say("Unknown", PENDING, "nothing decided yet")
    if facts.decision.limited:
        return Say("True", "TooMuchLoad", "the load asks for more pods than are allowed")
    return Say("False", "WithinBounds", "the load asks for what is allowed")


def _swept(facts: Facts, now: datetime) -> Say:
    sweep, spec = facts.sweep, facts.spec
    if spec is None:
        return Say("Unknown", *(facts.problem or ("InvalidSpec", "the spec cannot be read")))
    if not spec.streams.enabled:
        return Say("True", "SwitchedOff", "spec.streams.enabled is false")
    interval_s = spec.streams.pace.interval_s
    still_s = sweep.still_s(now)
    if sweep.error and (sweep.ended is None or still_s > interval_s):
        return Say("False", "Interrupted", sweep.error)
    if still_s > OVERDUE_INTERVALS * interval_s:
        return Say("False", "Overdue", f"no stream was looked at for {still_s:.0f} s")
    if sweep.report is None:
        return Say("Unknown", PENDING, "the first sweep is under way")
    dry = spec.streams.dry_run
    text = f"{sweep.report.streams} streams looked at in {sweep.report.seconds:.0f} s"
    return Say("True", "DryRun" if dry else "Swept", f"{text}, nothing changed" if dry else text)


def _memory(facts: Facts) -> Say:
    report = facts.sweep.report
    if report is None or not report.memory:
        return Say("Unknown", PENDING, "not looked at yet")
    fullest = max(report.memory, key=lambda one: one.reading.ratio or 0.0)
    used, limit = fullest.reading.used, fullest.reading.limit
    text = f"{fullest.node} uses {used / 2**20:.0f} MiB"
    if limit:
        text += f" of {limit / 2**20:.0f} MiB ({100 * used / limit:.0f} %)"
    if any(one.reading.evicts_running for one in report.memory):
        text += (
            f"; maxmemory-policy {fullest.reading.policy} drops running streams at random when "
            "Redis is full: set noeviction or volatile-ttl"
        )
    match report.level:
        case Level.HIGH:
            return Say("True", "TtlsShortened", text)
        case Level.WARN:
            return Say("True", "NearlyFull", text)
        case Level.OK:
            return Say("False", "Enough", text)
        case Level.UNKNOWN:
            return Say(
                "Unknown",
                "NoLimit",
                f"{text}; there is no limit: set maxmemory, or spec.streams.memory.limitBytes",
            )


def _leases(facts: Facts) -> Say:
    snapshot = facts.snapshot
    if snapshot is None or not snapshot.observation.redis_reachable:
        return Say("Unknown", "RedisAway", "the leases cannot be read")
    told: list[str] = []
    if snapshot.disagreement.pods_without_lease:
        told.append(
            f"ready pods without a lease: {_names(snapshot.disagreement.pods_without_lease)}"
        )
    if snapshot.disagreement.leases_without_pod:
        told.append(f"leases without a pod: {_names(snapshot.disagreement.leases_without_pod)}")
    if not told:
        return Say("True", "Agree", "each ready pod has a lease, and each lease a pod")
    reason = "PodsWithoutLease" if snapshot.disagreement.pods_without_lease else "LeasesWithoutPod"
    return Say("False", reason, "; ".join(told))


def _definition(facts: Facts) -> Say:
    """Helm installs what is under `crds/` once and never upgrades it."""
    if facts.served is None:
        return Say("Unknown", PENDING, "not compared yet")
    if facts.served < SCHEMA_VERSION:
        text = (
            f"the API server has version {facts.served} of the definition, this operator expects "
            f"{SCHEMA_VERSION}: it drops the fields that it does not know. Bring it up to date: "
            "kubectl apply --server-side --force-conflicts --field-manager=helm "
            "--filename helm/tidegate/crds/"
        )
        return Say("False", "Outdated", text)
    return Say("True", "Current", f"the API server has version {facts.served} of the definition")


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
    return ", ".join(names[:NAMES_MAX]) + more
