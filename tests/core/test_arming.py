"""The doorbell policy, as many replicas play it around one stream: no entry waits too long, whoever
dies, and those who keep losing the race stop running it.

The server, the links and the clock are simulated, so that the waits cost nothing and every
interleaving can be drawn.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.examples import examples
from tidegate.core.arming import (
    ARM_SLOT_S,
    PUBLISHED_ARM_S,
    PUBLISHED_GRACE_S,
    Arming,
    ArmingRules,
    DispatchRole,
    Origin,
)

RULES = ArmingRules(follow_after=3, follow_arm_s=1.5, follow_grace_s=0.25)
END_S = 40.0


class World:
    """One stream, its tracking table, and replicas behind links with a delay each way."""

    def __init__(self, delays_s: Sequence[float]) -> None:
        self.now = 0.0
        self.written: list[float] = []
        self.dispatched: list[float] = []
        self.armed: set[Replica] = set()
        self.calls = 0
        self.looks = 0
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self.replicas = [Replica(self, delay) for delay in delays_s]

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (when, next(self._order), what))

    def run(self, until: float) -> None:
        while self._agenda and self._agenda[0][0] <= until:
            self.now, _, what = heapq.heappop(self._agenda)
            what()
        self.now = until

    def write(self) -> None:
        self.written.append(self.now)
        armed, self.armed = self.armed, set()
        for replica in self.replicas:  # in the order of their links, as a server would
            if replica in armed:
                replica.hear(replica.rung)

    def publish(self) -> None:
        """A write that is dispatched in the same step; the ring goes out in front of the relay."""
        self.write()
        self.dispatched += [self.now] * (len(self.written) - len(self.dispatched))
        for replica in self.replicas:
            replica.hear(partial(replica.relayed, Origin.PUBLISHER))

    def look(self, caller: Replica) -> None:
        self.looks += 1
        self.armed.add(caller)
        caller.hear(partial(caller.looked, len(self.written) > len(self.dispatched)))

    def dispatch(self, caller: Replica) -> None:
        self.calls += 1
        self.armed.add(caller)
        found = len(self.written) - len(self.dispatched)
        self.dispatched += [self.now] * found
        if found:
            for replica in self.replicas:
                origin = Origin.SELF if replica is caller else Origin.REPLICA
                replica.hear(partial(replica.relayed, origin))
        caller.hear(lambda: caller.answered(found))

    def longest_wait(self) -> float:
        waits = zip(self.written, self.dispatched, strict=False)
        return max((dispatched - written for written, dispatched in waits), default=0.0)


class Replica:
    """What `Dispatcher` does with an `Arming`; it dispatches once when it attaches."""

    def __init__(self, world: World, delay_s: float) -> None:
        self.world = world
        self.delay_s = delay_s
        self.alive = True
        self.arming = Arming(RULES)
        self.dispatch()

    def hear(self, what: Callable[[], None]) -> None:
        """Something comes down the link; one delay for all, so that the order stays."""
        self.world.at(self.world.now + self.delay_s, lambda: what() if self.alive else None)

    def dispatch(self) -> None:
        self.arming.sent()
        arrives = self.world.now + self.delay_s
        self.world.at(arrives, lambda: self.world.dispatch(self) if self.alive else None)

    def rung(self) -> None:
        if self.arming.ring(self.world.now):
            self.dispatch()
        self._watch_the_clock()

    def relayed(self, origin: Origin) -> None:
        self.arming.relayed(self.world.now, origin)
        self._watch_the_clock()

    def look(self) -> None:
        self.arming.sent()
        arrives = self.world.now + self.delay_s
        self.world.at(arrives, lambda: self.world.look(self) if self.alive else None)

    def looked(self, found: bool) -> None:
        self.arming.answered(0)
        if found:
            self.dispatch()

    def answered(self, found: int) -> None:
        self.arming.answered(found)

    def _watch_the_clock(self) -> None:
        if self.arming.due is not None:
            self.world.at(self.arming.due, self._look)

    def _look(self) -> None:
        if self.alive and self.arming.is_due(self.world.now):
            if self.arming.only_arms:
                self.look()
            else:
                self.dispatch()

    def die(self) -> None:
        self.alive = False
        self.world.armed.discard(self)


DELAYS_S = st.lists(st.sampled_from([0.0005, 0.001, 0.004, 0.02, 0.1]), min_size=1, max_size=5)


@given(
    delays_s=DELAYS_S,
    gaps_s=st.lists(st.sampled_from([0.0, 0.0007, 0.003, 0.05, 0.3, 1.0, 1.7]), max_size=60),
    published=st.lists(st.booleans(), min_size=60, max_size=60),
    deaths_s=st.lists(st.floats(0, 20), max_size=4),
)
@settings(max_examples=examples(400), deadline=None)
def test_no_entry_waits_longer_than_the_bound(
    delays_s: list[float], gaps_s: list[float], published: list[bool], deaths_s: list[float]
) -> None:
    """All but one replica die, at any moments; design: under 3 s."""
    world = World(delays_s)
    at = 0.0
    for gap, by_publisher in zip(gaps_s, published, strict=False):
        at += gap
        world.at(at, world.publish if by_publisher else world.write)
    for replica, when in zip(world.replicas[1:], deaths_s, strict=False):
        world.at(when, replica.die)
    world.run(END_S + at)
    assert len(world.dispatched) == len(world.written), "nothing is left lying"
    slack_s = 4 * max(delays_s)
    assert world.longest_wait() <= RULES.follow_arm_s + RULES.follow_grace_s + slack_s


@given(st.integers(2, 10), st.sampled_from([0.002, 0.01, 0.1]))
@settings(max_examples=examples(30), deadline=None)
def test_losers_end_up_listening(replicas: int, gap_s: float) -> None:
    world = World([0.0005 + 0.0001 * n for n in range(replicas)])
    for n in range(1000):
        world.at(n * gap_s, world.write)
    world.run(1000 * gap_s)
    leading = [r for r in world.replicas if r.arming.role is DispatchRole.LEADING]
    assert leading == world.replicas[:1], "the quickest"
    before, written = world.calls, len(world.written)
    for n in range(1000):
        world.at((1000 + n) * gap_s, world.write)
    world.run(2000 * gap_s)
    by_followers = (replicas - 1) * (1000 * gap_s / RULES.follow_arm_s + 2)
    assert world.calls - before <= len(world.written) - written + by_followers


def test_a_lone_replica_answers_every_ring() -> None:
    world = World([0.001])
    for n in range(100):
        world.at(n * 0.1, world.write)
    world.run(20)
    assert world.replicas[0].arming.role is DispatchRole.LEADING
    assert world.longest_wait() <= 0.0021


def test_somebody_succeeds_the_leader() -> None:
    world = World([0.0005, 0.001, 0.002])
    for n in range(500):
        world.at(n * 0.01, world.write)
    world.at(0.5, world.replicas[0].die)
    world.run(10)
    assert [r.arming.role for r in world.replicas[1:]].count(DispatchRole.LEADING) == 1
    assert len(world.dispatched) == 500


@given(
    delays_s=DELAYS_S,
    bursts=st.lists(
        st.tuples(
            st.integers(0, 20),
            st.sampled_from([0.0, 0.0007, 0.012, 0.05, 0.3, 1.7]),
            st.sampled_from([0.0, 0.001, 0.03, 0.2]),
        ),
        min_size=1,
        max_size=12,
    ),
)
@settings(max_examples=examples(400), deadline=None)
def test_a_plain_write_behind_publishes_waits_for_nobody(
    delays_s: list[float], bursts: list[tuple[int, float, float]]
) -> None:
    """However many were published before it, in whatever rhythm, and whoever answered before."""
    world = World(delays_s)
    at = 1.0
    for publishes, gap_s, pause_s in bursts:
        for _ in range(publishes):
            world.at(at, world.publish)
            at += gap_s
        at += pause_s
        world.at(at, world.write)
    world.run(END_S + at)
    assert len(world.dispatched) == len(world.written)
    slack_s = 6 * max(delays_s)
    assert world.longest_wait() <= PUBLISHED_ARM_S + PUBLISHED_GRACE_S + slack_s


@given(st.integers(1, 5), st.sampled_from([0.001, 0.01, 0.1, 1.0]))
@settings(max_examples=examples(30), deadline=None)
def test_publishes_are_not_looked_at_one_by_one(replicas: int, gap_s: float) -> None:
    world = World([0.0005 + 0.0001 * n for n in range(replicas)])
    for n in range(1000):
        world.at(n * gap_s, world.publish)
    world.run(1000 * gap_s + 1)
    assert world.calls <= replicas * (1 + 2 * RULES.follow_after), "the first ones"
    assert world.looks <= replicas * min(1000, 1000 * gap_s / (PUBLISHED_ARM_S - ARM_SLOT_S) + 2)


def test_streams_are_armed_again_together() -> None:
    armings = [Arming(RULES) for _ in range(200)]
    for n, arming in enumerate(armings):
        now = 5.0 + n * 0.0005
        for _ in range(RULES.follow_after):
            arming.relayed(now, Origin.PUBLISHER)
        arming.ring(now)
        arming.relayed(now, Origin.PUBLISHER)
        assert arming.due is not None
        assert now + PUBLISHED_ARM_S - ARM_SLOT_S <= arming.due <= now + PUBLISHED_ARM_S
    assert len({arming.due for arming in armings}) <= 0.1 / ARM_SLOT_S + 1
