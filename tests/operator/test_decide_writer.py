"""One writer of replicas at any time, through every change of the mode."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.operator.observing import even, seen, spec
from tidegate_operator.decide.decision import decide
from tidegate_operator.decide.memory import DecisionState
from tidegate_operator.decide.records import Reason, Scaler
from tidegate_operator.model.gateway import GatewaySpec

BY_MODE: dict[str, dict[str, Any]] = {
    "internal": {},
    "none": {},
    "hpa": {"hpa": {"cpuPercent": 60}},
    "keda": {"keda": {"triggers": [{"type": "cpu", "metadata": {"value": "60"}}]}},
}
MODES = st.sampled_from(sorted(BY_MODE))


def with_mode(mode: str) -> GatewaySpec:
    return spec(replicas=7, mode=mode, **BY_MODE[mode])


@given(MODES, st.frozensets(st.sampled_from(Scaler)), st.lists(st.text(max_size=4), max_size=2))
def test_who_writes_is_alone(mode: str, own: frozenset[Scaler], foreign: list[str]) -> None:
    observation = seen(0, even(9_000, 3), own_scalers=own, foreign_scalers=tuple(foreign))
    decision, _ = decide(with_mode(mode), observation, DecisionState())
    if decision.scale is not None:
        assert not own
        assert not foreign
    if decision.keep is not None:
        assert own <= {decision.keep}
        assert not foreign
        assert decision.scale is None
    assert decision.remove <= own
    if foreign:
        assert (decision.reason, decision.remove) == (Reason.CONFLICT, own)


@given(
    st.lists(st.tuples(MODES, st.integers(1, 6)), min_size=1, max_size=6),
    st.integers(0, 3),
)
def test_a_hand_over_has_never_two(modes: list[tuple[str, int]], gone_after: int) -> None:
    """What is removed stays for a while; what is kept is there at once."""
    memory, replicas, own, dying = DecisionState(), 3, set[Scaler](), dict[Scaler, int]()
    for at, mode in enumerate(mode for mode, times in modes for _ in range(times)):
        dying = {one: left - 1 for one, left in dying.items() if left > 0}
        exist = frozenset(own | dying.keys())
        observation = seen(at * 15.0, even(9_000, replicas), own_scalers=exist)
        decision, memory = decide(with_mode(mode), observation, memory)
        assert decision.scale is None or not exist
        for one in decision.remove & own:
            own.remove(one)
            dying[one] = gone_after
        if decision.keep is not None:
            assert not dying.keys() - {decision.keep}
            own.add(decision.keep)
        if decision.scale is not None:
            replicas = decision.scale.replicas
        assert len(own) <= 1


@pytest.mark.parametrize(
    ("mode", "own", "reason", "remove", "keep"),
    [
        ("internal", {Scaler.HPA}, Reason.HANDOVER, {Scaler.HPA}, None),
        ("none", {Scaler.KEDA}, Reason.HANDOVER, {Scaler.KEDA}, None),
        ("hpa", {Scaler.KEDA}, Reason.HANDOVER, {Scaler.KEDA}, None),
        ("hpa", set(), Reason.DELEGATED, set(), Scaler.HPA),
        ("keda", {Scaler.KEDA}, Reason.DELEGATED, set(), Scaler.KEDA),
    ],
)
def test_the_table(
    mode: str, own: set[Scaler], reason: Reason, remove: set[Scaler], keep: Scaler | None
) -> None:
    observation = seen(0, even(1_000, 2), own_scalers=frozenset(own))
    decision, _ = decide(with_mode(mode), observation, DecisionState())
    assert decision.reason is reason
    assert (set(decision.remove), decision.keep) == (remove, keep)


def test_where_another_one_scales_the_emptiest_are_named_in_time() -> None:
    """An autoscaler does not tell before it takes pods away, so the load has to."""
    wanted, memory, written = with_mode("hpa"), DecisionState(), []
    own = frozenset({Scaler.HPA})
    for at in range(10):
        decision, memory = decide(wanted, seen(at * 15.0, even(1_001, 5), own_scalers=own), memory)
        assert decision.scale is None
        written += [at] * bool(decision.costs)
    assert written == [0, 4, 8], "not more often than pods can go"
    decision, _ = decide(wanted, seen(0, even(4_900, 5), own_scalers=own), DecisionState())
    assert not decision.costs, "nobody is about to go"
