"""Replicas: the promises of the algorithm, over loads, gaps and specs at random."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.harness.examples import examples
from tests.operator.observing import even, pods, seen, spec
from tidegate_operator.decide.decision import decide
from tidegate_operator.decide.memory import DecisionState
from tidegate_operator.decide.records import Decision, Observation, Pod, PodLoad, Reason
from tidegate_operator.model.gateway import GatewaySpec

PER_POD = 1_000
PROPERTY = settings(max_examples=examples(150), deadline=None)
INTERVAL_S = 15.0


@dataclass(frozen=True, slots=True)
class Look:
    """One moment of a story: the load, and how much of it is seen."""

    load: int
    redis: bool = True
    missing: int = 0
    rolling: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One decision of a story; `after` is what it made of `before`."""

    at_s: float
    look: Look
    before: int
    after: int
    decision: Decision


def tell(
    wanted: GatewaySpec, looks: list[Look], *, start: int, memory: DecisionState | None = None
) -> list[Row]:
    """A story on a cluster that obeys at once and spreads viewers evenly."""
    replicas, memory, rows = start, memory or DecisionState(), []
    for number, look in enumerate(looks):
        at_s = number * INTERVAL_S
        decision, memory = decide(wanted, observe(look, replicas, at_s), memory)
        after = decision.scale.replicas if decision.scale else replicas
        rows.append(Row(at_s, look, replicas, after, decision))
        replicas = after
    return rows


def observe(look: Look, replicas: int, at_s: float) -> Observation:
    those = even(look.load, replicas)
    hidden = tuple(replace(pod, figures=None) for pod in those[: look.missing])
    return seen(
        at_s,
        hidden + those[len(hidden) :],
        redis_reachable=look.redis,
        rolling_out=look.rolling,
    )


SPECS = st.builds(
    lambda least, room, up, down, floor: spec(
        replicas=floor, min=least, max=least + room, up=up, down=down
    ),
    st.integers(1, 5),
    st.integers(0, 30),
    st.fixed_dictionaries(
        {
            "tolerancePercent": st.integers(0, 20),
            "maxPods": st.integers(1, 6),
            "maxPercent": st.integers(0, 150),
            "periodS": st.sampled_from([15, 30, 90]),
        }
    ),
    st.fixed_dictionaries(
        {
            "tolerancePercent": st.integers(5, 40),
            "maxPods": st.integers(1, 3),
            "maxPercent": st.integers(0, 30),
            "periodS": st.sampled_from([15, 60]),
            "windowS": st.sampled_from([0, 60, 300]),
            "afterUpS": st.sampled_from([0, 120]),
        }
    ),
    st.integers(0, 12),
)
LOADS = st.integers(0, 40 * PER_POD)
LOOKS = st.builds(
    Look,
    LOADS,
    redis=st.sampled_from([True] * 7 + [False]),
    missing=st.sampled_from([0] * 6 + [1, 3]),
    rolling=st.sampled_from([False] * 7 + [True]),
)
#: Loads that stay a while: without them nothing would ever be taken away.
STORIES = st.lists(
    st.tuples(LOOKS, st.integers(1, 40)).map(lambda pair: [pair[0]] * pair[1]), max_size=5
).map(lambda parts: [look for part in parts for look in part])


@PROPERTY
@given(SPECS, STORIES, st.integers(1, 40))
def test_bounds_and_steps_hold(wanted: GatewaySpec, looks: list[Look], start: int) -> None:
    scaling = wanted.scaling
    low = min(max(scaling.min, wanted.replicas), scaling.max)
    rows = tell(wanted, looks, start=start)
    for row in rows:
        assert row.after <= max(scaling.max, row.before)
        assert row.after >= min(low, row.before)
        if row.before < low:
            assert row.after >= low, "below the least nothing waits"
    for place, row in enumerate(rows):
        if row.after > row.before >= low:
            ups = within(rows[place : place + 7], scaling.up.period_s)
            if all(one.after >= one.before for one in ups):
                step = max(scaling.up.max_pods, -(-row.before * scaling.up.max_percent // 100))
                assert ups[-1].after - row.before <= step
        if row.after < row.before:
            downs = within(rows[place : place + 7], scaling.down.period_s)
            if all(one.after <= one.before for one in downs):
                step = max(scaling.down.max_pods, row.before * scaling.down.max_percent // 100)
                assert row.before - downs[-1].after <= step


@PROPERTY
@given(SPECS, STORIES, st.integers(1, 40))
def test_soon_after_a_step_up_nothing_goes(
    wanted: GatewaySpec, looks: list[Look], start: int
) -> None:
    """Also where no window is set."""
    grew_at_s = float("-inf")
    for row in tell(wanted, looks, start=start):
        if row.after < row.before and row.decision.reason is Reason.LOAD_DOWN:
            assert row.at_s - grew_at_s >= wanted.scaling.down.after_up_s
        if row.after > row.before:
            grew_at_s = row.at_s


def within(rows: list[Row], period_s: float) -> list[Row]:
    """What happens in the period that the first of them begins."""
    return [row for row in rows if row.at_s < rows[0].at_s + period_s]


@PROPERTY
@given(SPECS, STORIES, st.integers(1, 40))
def test_nothing_is_changed_by_what_is_not_known(
    wanted: GatewaySpec, looks: list[Look], start: int
) -> None:
    scaling = wanted.scaling
    low = min(max(scaling.min, wanted.replicas), scaling.max)
    for row in tell(wanted, looks, start=start):
        if not row.look.redis:
            assert row.after == row.before or row.after == low > row.before
        if row.look.rolling:
            assert row.after >= row.before, "a rolling update is left alone, but for need"


@PROPERTY
@given(SPECS, STORIES, st.integers(1, 40))
def test_a_turn_needs_a_load_that_crossed_the_band(
    wanted: GatewaySpec, looks: list[Look], start: int
) -> None:
    """No flapping: after a step up nothing goes within the window, and after a step down the load
    must have grown past the band between the tolerances.
    """
    scaling = wanted.scaling
    assume(scaling.down.window_s > 0)
    rows = [row for row in tell(wanted, looks, start=start) if row.after != row.before]
    by_load = [r for r in rows if r.decision.reason in (Reason.LOAD_UP, Reason.LOAD_DOWN)]
    for first, second in pairwise(by_load):
        up_then_down = first.after > first.before and second.after < second.before
        down_then_up = first.after < first.before and second.after > second.before
        if up_then_down:
            assert second.at_s >= first.at_s + scaling.down.window_s
        if down_then_up:
            # What was known when the pod was taken: at most so much per pod that stayed.
            room = 1 - scaling.down.tolerance_percent / 100
            over = 1 + scaling.up.tolerance_percent / 100
            assert first.look.load <= first.after * room * PER_POD + 1
            assert second.look.load > second.before * over * PER_POD - 1


@PROPERTY
@given(SPECS, LOADS, st.integers(1, 40))
def test_a_load_that_stands_still_leads_to_one_number(
    wanted: GatewaySpec, load: int, start: int
) -> None:
    """The way there has one direction, but from above the most; there it stays."""
    scaling = wanted.scaling
    # At the slowest a pod goes every 75 s, after a window of 300 s.
    rows = tell(wanted, [Look(load)] * 230, start=min(start, 40))
    moves = [row.after - row.before for row in rows if row.after != row.before]
    low = min(max(scaling.min, wanted.replicas), scaling.max)
    if low <= start <= scaling.max:
        assert all(move > 0 for move in moves) or all(move < 0 for move in moves)
    assert all(row.after == row.before for row in rows[-6:]), "settled"
    settled = rows[-1].after
    assert low <= settled <= scaling.max
    over = 1 + scaling.up.tolerance_percent / 100
    assert load <= settled * over * PER_POD + 1 or settled == scaling.max
    room = 1 - scaling.down.tolerance_percent / 100
    assert load > (settled - 1) * room * PER_POD - 1 or settled == low, "no pod too many"


@PROPERTY
@given(SPECS, STORIES, LOOKS, LOADS, st.integers(1, 40))
def test_more_load_never_means_fewer_pods(
    wanted: GatewaySpec, story: list[Look], last: Look, other: int, start: int
) -> None:
    """After the same past, seen through the same gaps."""
    less, more = sorted((last.load, other))
    ends = [
        tell(wanted, [*story, replace(last, load=load)], start=start)[-1].after
        for load in (less, more)
    ]
    assert ends[0] <= ends[1]


@PROPERTY
@given(
    st.lists(st.none() | st.integers(0, 2 * PER_POD), min_size=1, max_size=8),
    st.lists(st.integers(0, PER_POD), min_size=8, max_size=8),
)
def test_a_gap_leads_nowhere_that_the_truth_would_not(
    told: list[int | None], truth: list[int]
) -> None:
    """Whatever a pod that tells nothing really has, up to its target."""
    wanted = spec(min=1, down={"windowS": 0, "afterUpS": 0})
    now = len(told)

    def ends(counts: list[int | None]) -> int:
        decision, _ = decide(wanted, seen(0, pods(*counts)), DecisionState())
        return decision.scale.replicas if decision.scale else now

    blind = ends(told)
    whole = ends([real if one is None else one for one, real in zip(told, truth, strict=False)])
    if blind > now:
        assert whole >= blind
    if blind < now:
        assert whole < now, "a pod that may be full is not counted as empty"


# --- examples, for what a property does not say


def at(
    load: int, count: int, at_s: float = 0, memory: DecisionState | None = None, **more: Any
) -> Any:
    wanted = more.pop("wanted", spec())
    return decide(wanted, seen(at_s, even(load, count), **more), memory or DecisionState())


def test_up_at_once_in_bounded_steps() -> None:
    decision, memory = at(30_000, 3)
    assert decision.scale is not None
    assert (decision.scale.replicas, decision.reason) == (7, Reason.LOAD_UP)
    assert decision.desired == 30
    decision, memory = at(30_000, 7, 15, memory)
    assert (decision.scale, decision.reason) == (None, Reason.STEP_LIMIT)
    decision, memory = at(30_000, 7, 45, memory)
    assert decision.scale is not None
    assert decision.scale.replicas == 14, "100 per cent of seven is more than four"


def test_within_the_tolerance_nothing_happens() -> None:
    assert at(5_250, 5)[0].reason is Reason.STEADY
    assert at(5_251, 5)[0].scale is not None


def test_a_new_leader_takes_nothing_away_for_a_whole_window() -> None:
    memory = DecisionState()
    wanted = spec(min=1)
    for number in range(40):
        decision, memory = at(1_000, 6, number * 15, memory, wanted=wanted)
        assert (decision.scale, decision.reason) == (None, Reason.WINDOW)
    decision, _ = at(1_000, 6, 600, memory, wanted=wanted)
    assert decision.reason is Reason.LOAD_DOWN


def test_a_pod_that_was_just_added_stays_a_while() -> None:
    wanted = spec(min=1, down={"windowS": 0})
    decision, memory = at(3_000, 2, wanted=wanted)
    assert decision.scale is not None
    for at_s in range(15, 135, 15):
        decision, memory = at(100, 3, at_s, memory, wanted=wanted)
        assert (decision.scale, decision.reason) == (None, Reason.AFTER_UP)
    decision, _ = at(100, 3, 135, memory, wanted=wanted)
    assert decision.reason is Reason.LOAD_DOWN


def test_one_that_did_not_look_for_a_while_begins_anew() -> None:
    memory = DecisionState()
    for number in range(41):
        _, memory = at(1_000, 6, number * 15, memory)
    decision, _ = at(1_000, 6, 600 + 121, memory)
    assert decision.reason is Reason.WINDOW


def test_viewers_of_a_draining_pod_are_load() -> None:
    leaving = Pod("old", terminating=True, figures=PodLoad(1_500))
    decision, _ = decide(spec(), seen(0, (*even(4_900, 5), leaving)), DecisionState())
    assert decision.scale is not None
    assert decision.scale.replicas == 7


def test_while_pods_drain_none_is_taken() -> None:
    wanted = spec(down={"windowS": 0, "afterUpS": 0})
    leaving = Pod("old", terminating=True, figures=PodLoad(0))
    decision, _ = decide(wanted, seen(0, (*even(1_000, 5), leaving)), DecisionState())
    assert (decision.scale, decision.reason) == (None, Reason.DRAINING)
    gone = replace(leaving, figures=None)
    decision, _ = decide(wanted, seen(0, (*even(1_000, 5), gone)), DecisionState())
    assert decision.reason is Reason.LOAD_DOWN, "one without a lease has drained, or is lost"


def test_redis_away_holds_but_keeps_the_least() -> None:
    decision, _ = at(9_000, 4, redis_reachable=False)
    assert (decision.scale, decision.reason) == (None, Reason.UNKNOWN)
    assert not decision.reason.is_active
    decision, _ = at(9_000, 1, redis_reachable=False)
    assert decision.scale is not None
    assert (decision.scale.replicas, decision.reason) == (2, Reason.BELOW_MIN)


def test_a_signal_that_is_asked_for_and_not_measured_keeps_the_pods() -> None:
    wanted = spec(undispatchedPerPod=100, down={"windowS": 0})
    decision, _ = at(1_000, 5, wanted=wanted)
    assert decision.reason is Reason.UNKNOWN
    decision, _ = at(6_000, 5, wanted=wanted)
    assert decision.reason is Reason.LOAD_UP, "what is known is enough to go up"


@pytest.mark.parametrize(
    ("scaling", "more", "expected"),
    [
        ({"deliveriesPerPod": 100}, {"rate": 140.0}, 7),
        ({"undispatchedPerPod": 100}, {"undispatched": 650}, 7),
        ({"loopLagMs": 50}, {"lag": 70.0}, 7),
        ({"loopLagMs": 50}, {"lag": 5_000.0}, 10),
    ],
)
def test_the_signal_that_asks_for_most_decides(
    scaling: dict[str, Any], more: dict[str, Any], expected: int
) -> None:
    figures = PodLoad(100, more.get("rate", 0.0), more.get("lag", 1.0))
    fleet = tuple(Pod(f"pod-{n}", figures=figures) for n in range(5))
    wanted = spec(**scaling)
    observation = seen(0, fleet, undispatched=more.get("undispatched"))
    decision, _ = decide(wanted, observation, DecisionState())
    assert decision.scale is not None
    assert decision.scale.replicas == expected


def test_lag_asks_once_and_then_waits_for_the_effect() -> None:
    """Long-lived connections stay where they are, and so does the lag: no running away."""
    wanted = spec(loopLagMs=50)
    decision, memory = decide(wanted, seen(0, even(100, 4, lag_ms=90)), DecisionState())
    assert decision.scale is not None
    assert decision.scale.replicas == 8
    for at_s in range(15, 135, 15):
        decision, memory = decide(wanted, seen(at_s, even(100, 8, lag_ms=90)), memory)
        assert decision.scale is None
    decision, memory = decide(wanted, seen(135, even(100, 8, lag_ms=90)), memory)
    assert decision.scale is not None


def test_one_pod_that_hangs_is_no_load() -> None:
    fleet = (*even(3_000, 4), Pod("stuck", figures=PodLoad(900, 0.0, 9_000.0)))
    assert decide(spec(loopLagMs=50), seen(0, fleet), DecisionState()).decision.scale is None


def test_replicas_set_by_hand_are_a_floor() -> None:
    decision, memory = at(1_000, 2, wanted=spec(replicas=9))
    assert decision.scale is not None
    assert (decision.scale.replicas, decision.reason) == (9, Reason.BY_HAND)
    decision, _ = at(20_000, 9, 15, memory, wanted=spec(replicas=9))
    assert decision.desired == 20, "the load may still ask for more"
    decision, _ = at(1_000, 2, wanted=spec(replicas=900))
    assert decision.scale is not None
    assert decision.scale.replicas == 50, "never above the most"


def test_a_load_beyond_the_most_is_told() -> None:
    decision, _ = at(9_000, 4, wanted=spec(max=4))
    assert decision.limited
    assert not at(3_900, 4, wanted=spec(max=4))[0].limited


def test_above_the_most_goes_down_in_steps() -> None:
    """When a window of the schedule ends, viewers are not all sent away at once."""
    decision, memory = at(9_000, 12, wanted=spec(max=4))
    assert decision.scale is not None
    assert (decision.scale.replicas, decision.reason) == (11, Reason.ABOVE_MAX)
    decision, _ = at(9_000, 11, 15, memory, wanted=spec(max=4))
    assert decision.reason is Reason.STEP_LIMIT


def test_a_deployment_scaled_to_zero_by_hand_is_left_alone() -> None:
    decision, _ = decide(spec(), seen(0, (), replicas=0), DecisionState())
    assert (decision.scale, decision.reason) == (None, Reason.SWITCHED_OFF)


def test_mode_none_is_what_was_asked_for() -> None:
    wanted = spec(replicas=5, mode="none")
    decision, memory = at(0, 2, wanted=wanted)
    assert decision.scale is not None
    assert (decision.scale.before, decision.scale.replicas) == (2, 5)
    decision, memory = at(0, 5, 15, memory, wanted=wanted)
    assert (decision.scale, decision.reason) == (None, Reason.STEADY)
    decision, _ = decide(spec(replicas=2, mode="none"), seen(30, pods(5, 1, 7, 2, 9)), memory)
    assert decision.scale is not None
    assert [one.pod for one in decision.scale.costs] == ["pod-1", "pod-3", "pod-0"]


def test_costs_come_with_a_step_down_unless_somebody_else_writes_them() -> None:
    wanted = spec(min=1, down={"windowS": 0, "afterUpS": 0})
    fleet = pods(300, 20, 500)
    decision, _ = decide(wanted, seen(0, fleet), DecisionState())
    assert decision.scale is not None
    assert [(one.pod, one.cost) for one in decision.scale.costs] == [("pod-1", -1)]
    foreign = (replace(fleet[0], cost=100), *fleet[1:])
    decision, _ = decide(wanted, seen(0, foreign), DecisionState())
    assert decision.scale is not None, "scaling goes on without"
    assert (decision.scale.costs, decision.cost_conflict) == ((), ("pod-0",))
