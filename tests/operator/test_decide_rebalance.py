"""Rebalancing: it converges, keeps its rate, and gives up where it is of no use."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.examples import examples
from tests.operator.observing import pods, seen
from tidegate_operator.decide.memory import Balancing
from tidegate_operator.decide.rebalance import (
    EXCESS_MIN,
    FRUITLESS_MAX,
    REST_S,
    ROUND_S,
    SETTLE_S,
    plan,
)
from tidegate_operator.decide.records import Balance, Pod, PodLoad, Shed
from tidegate_operator.model.gateway import RebalanceSpec

INTERVAL_S = 5.0
COUNTS = st.lists(st.integers(0, 5_000), min_size=2, max_size=10)


class Fleet:
    """Pods that do as they are told; where viewers come back is up to `land`."""

    def __init__(self, counts: list[int], land: str) -> None:
        self.counts = list(counts)
        self.land = land
        self.at_s = 0.0
        self._turn = 0
        self.memory = Balancing()
        self.rounds: list[tuple[float, tuple[Shed, ...]]] = []
        self.balance = Balance.EVEN

    def run(self, rules: RebalanceSpec, rounds: int) -> None:
        """Until even or given up, or so many looks."""
        for _ in range(rounds):
            observation = seen(self.at_s, pods(*self.counts))
            shed, self.balance, self.memory = plan(rules, observation, self.memory, quiet=True)
            if shed:
                self.rounds.append((self.at_s, shed))
                self._obey(shed)
            elif self.balance is not Balance.SHEDDING:
                return
            self.at_s += INTERVAL_S

    def _obey(self, shed: tuple[Shed, ...]) -> None:
        for one in shed:
            place = int(one.pod.removeprefix("pod-"))
            assert one.connections <= self.counts[place]
            self.counts[place] -= one.connections
            for _ in range(one.connections):
                self.counts[self._landing(place)] += 1

    def _landing(self, before: int) -> int:
        if self.land == "same":
            return before
        if self.land == "least":
            return self.counts.index(min(self.counts))
        self._turn += 1
        return self._turn % len(self.counts)

    @property
    def worst(self) -> float:
        return max(self.counts) - sum(self.counts) / len(self.counts)


@given(COUNTS, st.sampled_from(["turn", "least"]), st.integers(1, 40), st.integers(1, 500))
@settings(max_examples=examples(60), deadline=None)
def test_it_converges_and_keeps_the_rate(
    counts: list[int], land: str, tolerance: int, rate: int
) -> None:
    rules = RebalanceSpec(tolerance_percent=tolerance, rate_per_s=rate)
    fleet = Fleet(counts, land)
    fleet.run(rules, 40_000)
    mean = sum(counts) / len(counts)
    allowed = max(mean * tolerance / 100, EXCESS_MIN) * 1.5
    assert fleet.balance is Balance.EVEN
    assert fleet.worst <= allowed
    busy_until_s = 0.0
    for at_s, shed in fleet.rounds:
        assert at_s >= busy_until_s, "never two rounds at once"
        assert sum(one.connections / one.over_s for one in shed) <= rate * (1 + 1e-9)
        assert all(1 <= one.over_s <= ROUND_S and one.connections >= 1 for one in shed)
        assert len({one.pod for one in shed}) == len(shed)
        busy_until_s = at_s + max(one.over_s for one in shed)


@pytest.mark.parametrize("land", ["turn", "least"])
def test_two_new_pods_get_their_share(land: str) -> None:
    fleet = Fleet([1_000, 1_000, 1_000, 0, 0], land)
    fleet.run(RebalanceSpec(rate_per_s=100), 1_000)
    assert fleet.balance is Balance.EVEN
    assert max(fleet.counts) <= 600 * 1.1 + 1


def test_with_the_emptiest_pod_next_one_round_does_it() -> None:
    fleet = Fleet([1_000, 1_000, 1_000, 0, 0], "least")
    fleet.run(RebalanceSpec(rate_per_s=100), 1_000)
    assert len(fleet.rounds) == 1
    assert sum(one.connections for one in fleet.rounds[0][1]) == 1_200


def test_one_that_always_comes_back_is_given_up_and_tried_again_later() -> None:
    rules = RebalanceSpec(rate_per_s=1_000)
    fleet = Fleet([1_000, 0], "same")
    fleet.run(rules, 1_000)
    assert fleet.balance is Balance.GIVEN_UP
    assert len(fleet.rounds) == FRUITLESS_MAX
    fleet.at_s += REST_S / 2
    fleet.run(rules, 1)
    assert len(fleet.rounds) == FRUITLESS_MAX, "it rests"
    fleet.at_s += REST_S
    fleet.run(rules, 1)
    assert len(fleet.rounds) == FRUITLESS_MAX + 1


def test_a_slow_rate_is_no_reason_to_give_up() -> None:
    """A round takes a thirtieth of what there is to move, and gains."""
    fleet = Fleet([20_000] * 4 + [0], "turn")
    fleet.run(RebalanceSpec(rate_per_s=20), 100_000)
    assert fleet.balance is Balance.EVEN
    assert len(fleet.rounds) > 40


def look(those: tuple[Pod, ...], *, quiet: bool = True, **more: Any) -> Balance:
    return plan(RebalanceSpec(), seen(0, those, **more), Balancing(), quiet=quiet).balance


def test_it_waits_where_the_figures_say_little() -> None:
    uneven = pods(1_000, 0)
    draining = Pod("old", terminating=True, figures=PodLoad(300))
    assert look(uneven) is Balance.SHEDDING
    assert look(uneven, quiet=False) is Balance.WAITING
    assert look(uneven, redis_reachable=False) is Balance.WAITING
    assert look(uneven, rolling_out=True) is Balance.WAITING
    assert look((*uneven, *pods(None))) is Balance.WAITING
    assert look((*uneven, draining)) is Balance.WAITING
    assert look((*uneven, replace(draining, figures=PodLoad(0)))) is Balance.SHEDDING
    assert look((*uneven, Pod("new", ready=False))) is Balance.SHEDDING


def test_it_begins_later_than_it_ends() -> None:
    """So that viewers who come and go do not begin one all the time."""
    assert look(pods(1_140, 1_000, 860)) is Balance.EVEN
    assert look(pods(1_160, 1_000, 840)) is Balance.SHEDDING
    under_way = Balancing(under_way=True, excess=500.0, sent_away=100)
    observation = seen(0, pods(1_140, 1_000, 860))
    assert plan(RebalanceSpec(), observation, under_way, quiet=True).balance is Balance.SHEDDING


def test_a_few_viewers_are_no_load() -> None:
    assert look(pods(5, 0)) is Balance.EVEN
    assert look(pods(0, 0)) is Balance.EVEN
    assert look(pods(4_000)) is Balance.EVEN
    assert look(()) is Balance.EVEN


def test_a_round_is_seen_before_the_next_one() -> None:
    made = plan(RebalanceSpec(rate_per_s=10), seen(0, pods(1_000, 0)), Balancing(), quiet=True)
    (one,) = made.shed
    assert (one.pod, one.connections, one.over_s) == ("pod-0", 200, 20.0)
    assert made.memory.not_before_s == one.over_s + SETTLE_S
    later = plan(RebalanceSpec(rate_per_s=10), seen(29, pods(800, 0)), made.memory, quiet=True)
    assert (later.shed, later.balance) == ((), Balance.SHEDDING)


def test_switched_off() -> None:
    off = RebalanceSpec(enabled=False)
    assert plan(off, seen(0, pods(1_000, 0)), Balancing(), quiet=True).balance is Balance.OFF
