"""Whatever is seen, in whatever order: a decision that names what was seen, and makes sense."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.examples import examples
from tests.operator.observing import MONDAY, spec
from tidegate_operator.decide.decision import decide
from tidegate_operator.decide.memory import DecisionState
from tidegate_operator.decide.records import Observation, Pod, PodLoad, Scaler
from tidegate_operator.model.gateway import GatewaySpec

FIGURES = st.builds(
    PodLoad, st.integers(0, 10**9), st.floats(0, 1e9), st.floats(0, 1e9, allow_nan=False)
)
PODS = st.lists(
    st.builds(
        Pod,
        st.text("abc", min_size=1, max_size=3),
        ready=st.booleans(),
        terminating=st.booleans(),
        figures=st.none() | FIGURES,
        zone=st.none() | st.sampled_from("xyz"),
        cost=st.none() | st.integers(-(2**31), 2**31 - 1),
        own_cost=st.none() | st.integers(-3, 0),
    ),
    max_size=8,
    unique_by=lambda pod: pod.name,
)
#: Time may stand still, run, or jump back: a new leader's clock is another one.
OBSERVATIONS = st.builds(
    lambda at_s, **more: Observation(at_s, MONDAY + timedelta(seconds=at_s), **more),
    st.floats(0, 1e6, allow_nan=False),
    replicas=st.integers(0, 1_200),
    pods=PODS.map(tuple),
    rolling_out=st.booleans(),
    redis_reachable=st.sampled_from([True, True, True, False]),
    undispatched=st.none() | st.integers(0, 10**12),
    own_scalers=st.sampled_from([frozenset(), frozenset(), frozenset({Scaler.HPA})]),
    foreign_scalers=st.sampled_from([(), (), (), ("HorizontalPodAutoscaler/x",)]),
)
SPECS = st.sampled_from(
    [
        spec(rebalance={}),
        spec(replicas=0, mode="none"),
        spec(rebalance={}, mode="hpa", hpa={"cpuPercent": 50}),
        spec(
            replicas=5,
            rebalance={"tolerancePercent": 1, "ratePerS": 10_000},
            min=1,
            max=1_000,
            deliveriesPerPod=1,
            undispatchedPerPod=1,
            loopLagMs=1,
            down={"windowS": 0, "afterUpS": 0},
            schedule=[{"begin": "01:00", "end": "01:00", "min": 7, "max": 900}],
        ),
    ]
)


@given(SPECS, st.lists(OBSERVATIONS, min_size=1, max_size=6), st.booleans())
@settings(max_examples=examples(400), deadline=None)
def test_a_decision_names_what_was_seen(
    wanted: GatewaySpec, story: list[Observation], in_order: bool
) -> None:
    memory = DecisionState()
    for seen in sorted(story, key=lambda one: one.at_s) if in_order else story:
        before = memory
        decision, memory = decide(wanted, seen, before)
        assert (decision, memory) == decide(wanted, seen, before), "a pure function"
        names = {pod.name for pod in seen.pods if not pod.terminating}
        costs = decision.costs + (decision.scale.costs if decision.scale else ())
        assert {one.pod for one in costs} <= names
        assert all(-(2**31) <= one.cost <= 0 for one in costs)
        assert not costs or not decision.cost_conflict
        if decision.scale is not None:
            assert decision.scale.before == seen.replicas
            assert decision.scale.replicas != seen.replicas
            assert 0 <= decision.scale.replicas <= 1_000 or seen.replicas > 1_000
            assert not seen.foreign_scalers
        sizes = {pod.name: pod.figures for pod in seen.pods if pod.serves}
        for one in decision.shed:
            figures = sizes[one.pod]
            assert figures is not None
            assert 1 <= one.connections <= min(figures.connections, 1_000_000), "a message's bound"
            assert 0 < one.over_s <= 3_600
        assert decision.message
        assert 0 <= decision.desired <= max(1_000, seen.replicas)
        assert len(memory.needs) <= 6
        assert len(memory.changes) <= 6
