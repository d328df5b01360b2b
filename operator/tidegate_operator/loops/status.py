"""A Gateway's status: its conditions with their times, and figures from what the loops found. Pure.

A condition's `lastTransitionTime` moves only when its status flips; conditions of others are left
alone. A status is written at once when it says something new to a program (a condition, a number
of pods), and else now and then, with the time at which it was observed: each write wakes whoever
watches, and a status that nobody writes any more must not look like a fresh one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tidegate_operator.decide.records import Balance
from tidegate_operator.loops.conditions import PENDING, Facts, Say, SweepState, says
from tidegate_operator.model.status import (
    Condition,
    ConditionType,
    GatewayStatus,
    LastSweep,
    MemoryStatus,
    SweepCounts,
)
from tidegate_operator.streams.retention import RetentionState

MESSAGE_MAX = 1_024
SCHEMA_VERSION_FIELD = "schemaVersion"
NO_LEADER = "NoLeader"
#: What only a look can tell; without one what was last seen stays, with its time.
_OBSERVED = (
    *("observedAt", "replicas", "readyReplicas", "desiredReplicas"),
    *("selector", "rebalancing"),
)
_UNDER_WAY = frozenset({Balance.SHEDDING, Balance.WAITING})


def compose(before: Mapping[str, Any], facts: Facts, now: datetime) -> dict[str, Any]:
    """The whole status, as it is to be merged; None removes a field.

    Args:
        before: the status that the resource has.
        facts: what is known.
        now: the time that a condition which flips is given.
    """
    snapshot, decision = facts.snapshot, facts.decision
    old = before.get("conditions") or ()
    conditions = _conditions(old, says(facts, now), facts.generation, now)
    status = GatewayStatus(
        observed_generation=facts.generation,
        # Removed, the API server fills in the default of the definition that it serves, which no
        # Role of a namespace may read: `version_of` finds it in the answer.
        schema_version=None,
        conditions=conditions,
        mode=None if facts.spec is None else facts.spec.scaling.mode,
        last_scale=facts.scaled,
        **_sweep(facts.sweep),
    )
    if snapshot is not None:
        pods = snapshot.observation.pods
        figures = [pod.figures for pod in pods if pod.figures is not None]
        known = snapshot.observation.redis_reachable
        status = status.model_copy(
            update={
                "observed_at": now.replace(microsecond=0),
                "replicas": sum(not pod.terminating for pod in pods),
                "ready_replicas": sum(pod.serves for pod in pods),
                "desired_replicas": max(
                    0, snapshot.observation.replicas if decision is None else decision.desired
                ),
                "selector": snapshot.selector[:4_096],
                "connections": sum(one.connections for one in figures) if known else None,
                "deliveries_per_s": round(sum(one.deliveries_per_s for one in figures))
                if known
                else None,
                "undispatched": snapshot.observation.undispatched,
                "rebalancing": decision is not None and decision.balance in _UNDER_WAY,
            }
        )
    made = status.model_dump(mode="json", by_alias=True)
    for kept in ("lastScale", "lastSweep", "memory"):
        if made[kept] is None:
            del made[kept]  # an earlier leader's stays
    if snapshot is None:
        for name in _OBSERVED:
            del made[name]
    foreign = [
        dict(one)
        for one in before.get("conditions") or ()
        if one.get("type") not in set(ConditionType)
    ]
    made["conditions"] = [_plain(one) for one in made["conditions"]] + foreign
    return made


def is_news(before: Mapping[str, Any], made: Mapping[str, Any]) -> bool:
    """Whether a program that reads the status should know at once."""
    plain = ("observedGeneration", "mode", "replicas", "readyReplicas", "desiredReplicas")
    more = ("selector", "lastScale", "lastSweep", "rebalancing")
    if any(name in made and before.get(name) != made[name] for name in (*plain, *more)):
        return True
    return _heads(before.get("conditions") or ()) != _heads(made["conditions"])


def compose_leaderless(
    before: Mapping[str, Any], generation: int, message: str, now: datetime
) -> dict[str, Any] | None:
    """What a replica writes while nobody leads, which leaves it unknown how the gateway is.

    All else stays, with the time at which it was observed. None: this is written there already.
    """
    said = {
        ConditionType.LEADER_ELECTED: Say("False", NO_LEADER, message),
        ConditionType.READY: Say("Unknown", NO_LEADER, message),
    }
    old = before.get("conditions") or ()
    reasons = {one.get("type"): one.get("reason") for one in old}
    if all(reasons.get(kind) == NO_LEADER for kind in said):
        return None
    made = [_plain(one) for one in _dumped(_conditions(old, said, generation, now))]
    return {"conditions": made + [dict(one) for one in old if one.get("type") not in set(said)]}


def version_of(resource: Mapping[str, Any]) -> int:
    """The version of the definition that is served, by the answer to a write of the status."""
    return int((resource.get("status") or {}).get(SCHEMA_VERSION_FIELD) or 0)


def flips(before: Mapping[str, Any], made: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Conditions that changed for the worse, to be told as events."""
    old = {one.get("type"): one for one in before.get("conditions") or ()}
    bad = {ConditionType.SCALING_LIMITED: "True", ConditionType.MEMORY_PRESSURE: "True"}
    return [
        one
        for one in made["conditions"]
        if one["type"] in set(ConditionType)
        and one["type"] != ConditionType.READY
        and one["status"] == bad.get(one["type"], "False")
        and (old.get(one["type"]) or {}).get("status") != one["status"]
    ]


def _heads(conditions: Sequence[Mapping[str, Any]]) -> set[tuple[object, ...]]:
    names = ("type", "status", "reason", "observedGeneration")
    return {tuple(one.get(name) for name in names) for one in conditions}


def _dumped(conditions: Sequence[Condition]) -> list[dict[str, Any]]:
    return [one.model_dump(mode="json", by_alias=True) for one in conditions]


def _plain(condition: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in condition.items() if value is not None}


def _conditions(
    old: Sequence[Mapping[str, Any]],
    said: Mapping[ConditionType, Say],
    generation: int,
    now: datetime,
) -> tuple[Condition, ...]:
    was = {one.get("type"): one for one in old}
    made = []
    for kind, say in said.items():
        if say.reason == PENDING:
            # A new leader does not know yet what the one before it knew.
            say = _said(was.get(kind)) or say
        made.append(
            Condition(
                type=kind,
                status=say.status,
                reason=say.reason,
                message=say.message[:MESSAGE_MAX],
                observed_generation=generation,
                last_transition_time=_since(was.get(kind), say, now),
            )
        )
    return tuple(made)


def _said(was: Mapping[str, Any] | None) -> Say | None:
    if was is None or was.get("status") not in ("True", "False", "Unknown"):
        return None
    return Say(was["status"], str(was.get("reason") or PENDING), str(was.get("message", "")))


def _since(was: Mapping[str, Any] | None, say: Say, now: datetime) -> datetime:
    now = now.replace(microsecond=0)
    if was is None or was.get("status") != say.status:
        return now
    try:
        return datetime.fromisoformat(str(was.get("lastTransitionTime")))
    except ValueError:
        return now


def _sweep(sweep: SweepState) -> dict[str, Any]:
    report = sweep.report
    if report is None or sweep.ended is None:
        return {}
    tally = report.tally
    made: dict[str, Any] = {
        "last_sweep": LastSweep(
            started_at=datetime.fromtimestamp(report.began_at, UTC).replace(microsecond=0),
            finished_at=sweep.ended.replace(microsecond=0),
            dry_run=report.dry_run,
            counts=SweepCounts(
                streams=report.streams,
                **{state.value: tally.streams[state] for state in RetentionState},
                ttl_set=report.expiring + tally.done["shortened"],
                ttl_removed=tally.done["revived"],
                trimmed=tally.done["trimmed"],
                groups_removed=tally.done["groups"],
                consumers_removed=tally.done["consumers"],
                slots_removed=tally.done["slots"],
                errors=tally.left["refused"] + tally.left["failed"],
                commands=report.commands,
            ),
        )
    }
    if report.memory:
        fullest = max(report.memory, key=lambda one: one.reading.ratio or 0.0).reading
        made["memory"] = MemoryStatus(
            used_bytes=fullest.used,
            limit_bytes=fullest.limit or None,
            policy=fullest.policy[:64],
        )
    return made
