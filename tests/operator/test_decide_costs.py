"""Who goes when replicas are taken away."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.operator.observing import pods
from tidegate_operator.decide.costs import conflicts, deletion_costs, leaving
from tidegate_operator.decide.records import DeletionCost, Pod, PodLoad

FIGURES = st.none() | st.builds(PodLoad, st.integers(0, 1_000))


@st.composite
def fleets(draw: st.DrawFn, zones: st.SearchStrategy[str | None] | None = None) -> list[Pod]:
    count = draw(st.integers(0, 12))
    own = draw(st.lists(st.none() | st.integers(-3, 0), min_size=count, max_size=count))
    return [
        Pod(
            f"pod-{n}",
            ready=draw(st.booleans()),
            terminating=draw(st.sampled_from([False, False, False, True])),
            figures=draw(FIGURES),
            zone=draw(zones) if zones is not None else None,
            cost=own[n],
            own_cost=own[n],
        )
        for n in range(count)
    ]


def taken_by_kubernetes(fleet: list[Pod], costs: tuple[DeletionCost, ...], count: int) -> set[str]:
    """As a ReplicaSet does: not ready before ready, then by cost (controller_utils.go)."""
    written = {one.pod: one.cost for one in costs}
    staying = [pod for pod in fleet if not pod.terminating]
    staying.sort(key=lambda pod: (pod.ready, written.get(pod.name, pod.cost or 0)))
    return {pod.name for pod in staying[:count]}


@given(fleets(), st.integers(0, 14))
def test_the_emptiest_go(fleet: list[Pod], count: int) -> None:
    costs = deletion_costs(fleet, count)
    gone = taken_by_kubernetes(fleet, costs, count)
    by_name = {pod.name: pod for pod in fleet}
    stayed = [pod for pod in fleet if not pod.terminating and pod.name not in gone and pod.ready]
    for name in gone:
        pod = by_name[name]
        assert not pod.terminating
        if pod.ready and pod.figures is None:
            assert all(one.figures is None for one in stayed), "who tells nothing counts as full"
        elif pod.ready and pod.figures is not None:
            fewest = [one.figures.connections for one in stayed if one.figures is not None]
            assert all(pod.figures.connections <= one for one in fewest)


@given(fleets(), st.integers(0, 14))
def test_costs_rise_with_the_connections_and_leave_nothing_behind(
    fleet: list[Pod], count: int
) -> None:
    costs = deletion_costs(fleet, count)
    assert len({one.pod for one in costs}) == len(costs), "each pod once"
    old = {pod.name: pod.cost or 0 for pod in fleet}
    assert all(one.cost != old[one.pod] for one in costs), "only what changes"
    after = old | {one.pod: one.cost for one in costs}
    victims = {pod.name for pod in leaving(fleet, count)}
    for pod in fleet:
        if not pod.terminating and pod.name not in victims:
            assert after[pod.name] == 0
    ready = [pod for pod in leaving(fleet, count) if pod.ready]
    ranks = [after[pod.name] for pod in ready]
    assert ranks == sorted(set(ranks)), "the emptiest has the lowest"
    assert all(rank < 0 for rank in ranks)


ZONES = st.sampled_from(["a", "b", "c"])


@given(fleets(ZONES), st.integers(1, 6))
def test_zones_stay_even(fleet: list[Pod], count: int) -> None:
    """Where they were even, they are so afterwards; where not, no step makes it worse."""
    fleet = [replace(pod, ready=True) for pod in fleet]
    staying = [pod for pod in fleet if not pod.terminating]
    known = {pod.zone for pod in staying}

    def skew(gone: set[str]) -> int:
        left = Counter(pod.zone for pod in staying if pod.name not in gone)
        return max((left[zone] for zone in known), default=0) - min(
            (left[zone] for zone in known), default=0
        )

    before = skew(set())
    for n in range(1, count + 1):
        now = skew({pod.name for pod in leaving(fleet, n)})
        assert now <= max(1, before)
        before = now


def test_without_zones_only_emptiness_counts() -> None:
    fleet = list(pods(500, 20, 300, 10))
    assert [pod.name for pod in leaving(fleet, 2)] == ["pod-3", "pod-1"]
    assert deletion_costs(fleet, 2) == (DeletionCost("pod-3", -2), DeletionCost("pod-1", -1))


def test_a_pod_that_starts_goes_without_being_told() -> None:
    fleet = [*pods(500, 20), Pod("new", ready=False)]
    assert deletion_costs(fleet, 1) == ()
    assert deletion_costs(fleet, 2) == (DeletionCost("pod-1", -1),)


def test_somebody_else_s_costs_are_a_conflict() -> None:
    theirs = Pod("theirs", cost=100)
    ours = Pod("ours", cost=-1, own_cost=-1)
    changed = Pod("changed", cost=7, own_cost=-1)
    gone = Pod("gone", cost=5, terminating=True)
    assert conflicts([theirs, ours, changed, gone, Pod("plain")]) == ("theirs", "changed")
