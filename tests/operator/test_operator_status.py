"""The status as a function of what is known: times, flips, figures; and which loop looks stuck."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.operator.secrets import settings
from tests.operator.test_act import SPEC, snapshot
from tidegate_operator.act.actor import ActionResult
from tidegate_operator.decide.records import Decision, Observation, Pod, PodLoad, Reason
from tidegate_operator.loops.conditions import Facts, SweepState
from tidegate_operator.loops.leaderless import explain
from tidegate_operator.loops.loop_health import LoopHealth
from tidegate_operator.loops.scaling import ScalingLoop
from tidegate_operator.loops.status import compose, compose_leaderless, flips, is_news
from tidegate_operator.loops.sweeping import SweepLoop, tick_s
from tidegate_operator.model.gateway import read_spec
from tidegate_operator.model.status import SCHEMA_VERSION, ConditionType, GatewayStatus
from tidegate_operator.model.streams import Pace
from tidegate_operator.observe.leases import Disagreement
from tidegate_operator.streams.memory import Level, MemoryUsage
from tidegate_operator.streams.report import PrimaryMemory, SweepReport, Tally

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
LATER = NOW + timedelta(seconds=90)
HOURS, BIT = NOW + timedelta(hours=3), timedelta(seconds=20)
PODS = (
    Pod("gw-a", figures=PodLoad(10, 2.4, 0.1)),
    Pod("gw-b", ready=False),
    Pod("gw-c", terminating=True, figures=PodLoad(5, 0.0, 0.1)),
)
STEADY = Decision(2, Reason.STEADY, "there are 2")


def look(**fields: Any) -> Any:
    observed: dict[str, Any] = {"at_s": 0.0, "wall": NOW, "replicas": 2, "pods": PODS}
    own = {name: fields.pop(name) for name in tuple(fields) if name in Observation.__slots__}
    return snapshot(observation=Observation(**(observed | own)), **fields)


def facts(**fields: Any) -> Facts:
    state: dict[str, Any] = {
        "generation": 4,
        "spec": SPEC,
        "snapshot": look(),
        "decision": STEADY,
        "result": ActionResult(),
        "sweep": SweepState(NOW),
    }
    return Facts(**(state | fields))


def heads(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}


def report(
    level: Level = Level.OK, used: int = 50, limit: int = 100, policy: str = ""
) -> SweepReport:
    memory = (PrimaryMemory("r:1", MemoryUsage(used << 20, limit << 20, policy), level),)
    return SweepReport(
        began_at=NOW.timestamp(),
        seconds=2.0,
        dry_run=False,
        interruptions=0,
        commands=30,
        pods_known=True,
        tally=Tally(),
        memory=memory,
    )


def test_what_is_well() -> None:
    made = compose({}, facts(), NOW)
    assert heads(made) == {
        "Ready": ("True", "Serving"),
        "RedisReachable": ("True", "Reachable"),
        "ScalingActive": ("True", "Steady"),
        "ScalingLimited": ("False", "WithinBounds"),
        "SweepHealthy": ("Unknown", "Pending"),
        "MemoryPressure": ("Unknown", "Pending"),
        "LeasesAgree": ("True", "Agree"),
        "DefinitionCurrent": ("Unknown", "Pending"),
        "LeaderElected": ("True", "Leading"),
        "RolloutHealthy": ("True", "Complete"),
    }
    assert made["observedAt"] == "2026-11-23T09:00:00Z"
    assert (made["replicas"], made["readyReplicas"], made["desiredReplicas"]) == (2, 1, 2)
    assert (made["connections"], made["deliveriesPerS"]) == (15, 2)
    assert {one["observedGeneration"] for one in made["conditions"]} == {4}
    GatewayStatus.model_validate({**made, "lastSweep": None})


def test_times_move_only_with_a_flip_and_conditions_of_others_stay() -> None:
    foreign = {"type": "Audited", "status": "True", "reason": "X", "lastTransitionTime": "then"}
    first = compose({"conditions": [foreign]}, facts(), NOW)
    away = look(redis_reachable=False, redis_reason="Unreachable", redis_text="refused")
    second = compose(first, facts(snapshot=away, generation=5), LATER)
    times = {one["type"]: one["lastTransitionTime"] for one in second["conditions"]}
    assert times["RedisReachable"] == "2026-11-23T09:01:30Z"
    assert times["ScalingActive"] == "2026-11-23T09:00:00Z"
    assert foreign in second["conditions"]
    assert second["connections"] is None  # unknown, and not the last one known
    assert is_news(first, second)
    told = {one["type"] for one in flips(first, second)}
    assert told == {"RedisReachable"}  # Ready follows from it; no event of its own


def test_wording_and_figures_are_no_news() -> None:
    first = compose({}, facts(), NOW)
    other = Decision(2, Reason.STEADY, "connections asks for 1 pods")
    second = compose(first, facts(decision=other), LATER)
    assert first != second
    assert not is_news(first, second)
    assert is_news(first, compose(first, facts(generation=5), LATER))
    assert is_news(first, compose(first, facts(snapshot=look(replicas=3), decision=None), LATER))


def test_a_new_leader_does_not_forget_what_the_one_before_knew() -> None:
    swept = SweepState(NOW, report(Level.HIGH, used=95), NOW)
    first = compose({}, facts(sweep=swept), NOW)
    assert heads(first)["MemoryPressure"] == ("True", "TtlsShortened")
    second = compose(first, facts(), LATER)  # no sweep of its own yet
    assert heads(second)["MemoryPressure"] == ("True", "TtlsShortened")
    assert heads(second)["SweepHealthy"] == ("True", "Swept")
    for kept in ("lastSweep", "memory", "lastScale"):
        assert kept not in second  # a merge leaves it as it is


@pytest.mark.parametrize(
    ("sweep", "now", "head"),
    [
        (SweepState(NOW, report(), NOW), LATER, ("True", "Swept")),
        (SweepState(NOW, report(), NOW), NOW + timedelta(hours=1), ("False", "Overdue")),
        (SweepState(NOW), NOW + timedelta(hours=1), ("False", "Overdue")),
        (SweepState(NOW, moved=HOURS), HOURS + BIT, ("Unknown", "Pending")),
        (SweepState(NOW, report(), NOW, moved=HOURS), HOURS + BIT, ("True", "Swept")),
        (SweepState(NOW, report(), NOW, moved=NOW), HOURS, ("False", "Overdue")),
        (SweepState(NOW, error="refused"), NOW, ("False", "Interrupted")),
        (SweepState(NOW, report(), NOW, error="refused"), LATER, ("True", "Swept")),
    ],
)
def test_a_sweep_is_healthy_while_it_moves(
    sweep: SweepState, now: datetime, head: tuple[str, str]
) -> None:
    """A round over millions of streams takes longer than three intervals, and is not overdue."""
    assert heads(compose({}, facts(sweep=sweep), now))["SweepHealthy"] == head


def test_a_count_is_believed_until_the_next_sweep_can_have_ended() -> None:
    """A round of half an hour left scaling without the figure for most of the time, and nothing was
    ever taken away.
    """
    now = [0.0]
    loop = SweepLoop("gw", LoopHealth(), may_continue=lambda: True, clock=lambda: now[0])
    spec = read_spec({"target": {"name": "gw"}})
    assert loop.undispatched(spec) is None
    loop.state = SweepState(NOW, replace(report(), seconds=1_800), NOW)
    loop.ended_at = now[0]
    now[0] = 1_800 + spec.streams.pace.interval_s * 1.05
    assert loop.undispatched(spec) == 0
    now[0] *= 3
    assert loop.undispatched(spec) is None


def test_a_policy_that_drops_running_streams_is_told() -> None:
    swept = SweepState(NOW, report(policy="allkeys-lru"), NOW)
    made = compose({}, facts(sweep=swept), NOW)
    [pressure] = [one for one in made["conditions"] if one["type"] == "MemoryPressure"]
    assert pressure["status"] == "False"
    assert "set noeviction" in pressure["message"]


@pytest.mark.parametrize(
    ("fields", "kind", "head"),
    [
        (
            {"problem": ("InvalidSpec", "spec.x: no"), "spec": None, "snapshot": None},
            "Ready",
            ("False", "InvalidSpec"),
        ),
        ({"snapshot": look(pods=())}, "Ready", ("False", "NoReadyPods")),
        (
            {"result": ActionResult(failures={"ScaleFailed": "forbidden"})},
            "ScalingActive",
            ("False", "ScaleFailed"),
        ),
        (
            {"decision": Decision(2, Reason.LOAD_UP, "", limited=True)},
            "ScalingLimited",
            ("True", "TooMuchLoad"),
        ),
        (
            {"snapshot": look(disagreement=Disagreement(("a", "b"), ("c",)))},
            "LeasesAgree",
            ("False", "PodsWithoutLease"),
        ),
        (
            {"snapshot": look(disagreement=Disagreement((), ("c",)))},
            "LeasesAgree",
            ("False", "LeasesWithoutPod"),
        ),
        ({"served": 0}, "DefinitionCurrent", ("False", "Outdated")),
        ({"served": SCHEMA_VERSION}, "DefinitionCurrent", ("True", "Current")),
        ({"served": SCHEMA_VERSION + 1}, "DefinitionCurrent", ("True", "Current")),
        (
            {"spec": read_spec({"target": {"name": "gw"}, "streams": {"enabled": False}})},
            "SweepHealthy",
            ("True", "SwitchedOff"),
        ),
    ],
)
def test_what_is_not_well_is_named(
    fields: dict[str, Any], kind: ConditionType, head: tuple[str, str]
) -> None:
    assert heads(compose({}, facts(**fields), NOW))[kind] == head


def test_a_failure_of_costs_is_in_the_words_and_scaling_goes_on() -> None:
    failed = ActionResult(failures={"DeletionCostFailed": "pods may not be patched"})
    made = compose({}, facts(result=failed), NOW)
    [scaling] = [one for one in made["conditions"] if one["type"] == "ScalingActive"]
    assert scaling["status"] == "True"
    assert "without deletion costs: pods may not be patched" in scaling["message"]


def test_a_message_is_bounded() -> None:
    away = look(redis_reachable=False, redis_reason="Unreachable", redis_text="x" * 100_000)
    made = compose({}, facts(snapshot=away), NOW)
    assert max(len(one["message"]) for one in made["conditions"]) <= 1_024


def test_a_loop_without_a_beat_is_stuck_and_a_slow_pace_is_not() -> None:
    now = 0.0
    health = LoopHealth(lambda: now)
    health.beat("waits")
    with health.round("works"):
        now = 100.0
        health.beat("waits")
        assert health.stuck(90) == ["works"]
    assert health.stuck(90) == []
    assert health.loops["works"].lasted_s == 100
    slow = Pace.model_validate({"commandsPerS": 10, "scanCount": 10_000, "changesPerS": 1})
    with health.round("sweeps", allow_s=tick_s(slow)):
        now += 10_000 / 10
        assert "sweeps" not in health.stuck(180)
        now += tick_s(slow)
        assert "sweeps" in health.stuck(180)
    with pytest.raises(ValueError, match="broken"), health.round("works"):
        raise ValueError("broken")
    assert (health.loops["works"].errors, health.loops["works"].error) == (1, "broken")


async def test_a_cancellation_that_redis_py_lost_ends_the_loop_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A Gateway that was deleted in the middle of a round kept its loop for ever."""
    nothing: Any = None
    health, begun = LoopHealth(), asyncio.Event()
    fence: dict[str, Any] = {"may_continue": lambda: True, "clock": lambda: 0.0}
    sweep = SweepLoop("main", health, **fence)
    loop = ScalingLoop("main", nothing, nothing, settings(), health, sweep, **fence)

    async def round_(_: Any) -> str:
        begun.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return ""

    monkeypatch.setattr(loop, "_round", round_)
    loop.show({})
    async with asyncio.timeout(60):
        task = asyncio.create_task(loop.run())
        await begun.wait()
        task.cancel()
        await asyncio.wait({task})
    assert task.cancelled()


def test_the_time_of_a_look_stays_when_there_was_none() -> None:
    first = compose({}, facts(), NOW)
    assert not is_news(first, compose(first, facts(), LATER))
    assert compose(first, facts(), LATER)["observedAt"] == "2026-11-23T09:01:30Z"
    refused = facts(snapshot=None, decision=None, problem=("Forbidden", "get deployments: no"))
    assert "observedAt" not in compose(first, refused, LATER)  # a merge leaves it as it is
    assert heads(compose(first, refused, LATER))["Ready"] == ("False", "Forbidden")


def test_without_a_leader_nothing_is_known_until_there_is_one() -> None:
    """Without a Lease that could be made, HEALTHY was True for ever, with old figures."""
    foreign = {"type": "Audited", "status": "True", "reason": "X", "lastTransitionTime": "then"}
    first = compose({"conditions": [foreign]}, facts(), NOW)
    message = explain("gw-operator", 31.4, "create leases: forbidden")
    assert "led for 31 s" in message
    assert "create leases: forbidden" in message
    assert "the Lease gw-operator" in message
    made = compose_leaderless(first, 4, message, LATER)
    assert made is not None
    assert set(made) == {"conditions"}  # figures stay, with their time
    told = {one["type"]: one for one in made["conditions"]}
    assert told["Audited"] == foreign
    assert told["RedisReachable"] in first["conditions"]
    assert heads(made)["Ready"] == ("Unknown", "NoLeader")
    assert heads(made)["LeaderElected"] == ("False", "NoLeader")
    assert told["Ready"]["lastTransitionTime"] == "2026-11-23T09:01:30Z"
    second = {**first, **made}
    assert compose_leaderless(second, 4, message + "!", LATER) is None  # once
    back = compose(second, facts(), LATER)
    assert heads(back)["Ready"] == ("True", "Serving")
    assert heads(back)["LeaderElected"] == ("True", "Leading")
    assert is_news(second, back)
    empty = compose_leaderless({}, 1, "x" * 10_000, NOW)
    assert empty is not None
    assert {len(one["message"]) for one in empty["conditions"]} == {1_024}
