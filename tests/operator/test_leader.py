"""The election: never two at a time, whatever is late or lost, and soon one again after a death."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from tests.harness.examples import examples
from tidegate_operator.kube.lease import Record, Write
from tidegate_operator.leader.election import Election, ElectionPhase, Terms

TERMS = Terms(duration_s=10.0, deadline_s=7.0, renew_s=1.5)


class Server:
    """The Lease as the API server keeps it: a write must name the version that is there."""

    def __init__(self) -> None:
        self.record: Record | None = None
        self._version = 0

    def write(self, write: Write, renewed: str) -> Record | None:
        """The Lease after the write, or None for a conflict."""
        if (None if self.record is None else self.record.version) != write.version:
            return None
        self._version += 1
        self.record = Record(
            write.holder, TERMS.duration_s, renewed, write.transitions, str(self._version)
        )
        return self.record


class Candidate:
    """An election with a clock of its own and a number for each renewal it sends."""

    def __init__(self, name: str, offset: float) -> None:
        self.election = Election(name, TERMS)
        self.offset = offset
        self.sent = 0
        self.pending: tuple[Write, str] | None = None
        self.begins = 0

    def clock(self, now: float) -> float:
        return now + self.offset

    def prepare(self, write: Write | None, now: float) -> None:
        if write is not None:
            self.sent += 1
            renewed = f"{self.election.identity}-{id(self)}-{self.sent}"
            self.election.sending(renewed, self.clock(now))
            self.pending = (write, renewed)


def step(candidate: Candidate, server: Server, now: float) -> None:
    """One whole turn of a candidate, with nothing late and nothing lost."""
    clock = candidate.clock(now)
    write = candidate.election.look(clock) or candidate.election.read(server.record, clock)
    candidate.prepare(write, now)
    if candidate.pending is not None:
        accepted = server.write(*candidate.pending)
        candidate.pending = None
        if accepted is not None:
            candidate.election.written(accepted, clock)


def test_the_first_takes_a_lease_that_nobody_made() -> None:
    server, one, two = Server(), Candidate("one", 0), Candidate("two", 500)
    step(one, server, 0)
    step(two, server, 0)
    assert one.election.leads(0)
    assert not two.election.leads(500)
    assert two.election.holder == "one"


def test_a_killed_leader_is_followed_within_its_duration_and_two_looks() -> None:
    server, one, two = Server(), Candidate("one", 0), Candidate("two", 77)
    now = 0.0
    for _ in range(20):
        step(one, server, now)
        now += 0.7
        step(two, server, now)
        now += TERMS.renew_s - 0.7
    died = now
    while not two.election.leads(two.clock(now)):
        step(two, server, now)
        now += TERMS.renew_s
        assert now - died < TERMS.duration_s + 2 * TERMS.renew_s
    assert server.record is not None
    assert server.record.transitions == 1
    assert not one.election.leads(one.clock(now))


def test_a_released_lease_is_taken_at_the_next_look() -> None:
    server, one, two = Server(), Candidate("one", 0), Candidate("two", 0)
    step(one, server, 0)
    step(two, server, 0)
    write = one.election.release(1)
    assert write == Write("", 0, "1", begins=False)
    one.prepare(write, 1)
    assert one.pending is not None
    assert server.write(*one.pending) is not None
    assert not one.election.leads(1)
    step(two, server, 1.1)
    assert two.election.leads(1.1)
    step(one, server, 60)  # a candidate that is gone never comes back
    assert one.election.phase is ElectionPhase.GONE
    assert server.record is not None
    assert server.record.holder == "two"


def test_a_candidate_that_follows_releases_nothing() -> None:
    server, one, two = Server(), Candidate("one", 0), Candidate("two", 0)
    step(one, server, 0)
    step(two, server, 0)
    assert two.election.release(1) is None


def test_a_leader_stops_by_its_own_clock_before_anybody_may_begin() -> None:
    server, one, two = Server(), Candidate("one", 0), Candidate("two", 0)
    step(one, server, 0)
    step(two, server, 0)
    assert one.election.leads(TERMS.deadline_s - 0.01)
    assert one.election.left_s(TERMS.deadline_s - 0.01) == pytest.approx(0.01)
    assert not one.election.leads(TERMS.deadline_s)
    step(two, server, TERMS.duration_s - 0.01)
    assert not two.election.leads(TERMS.duration_s - 0.01)
    step(two, server, TERMS.duration_s)
    assert two.election.leads(TERMS.duration_s)


def test_after_an_outage_the_old_leader_goes_on_without_waiting_if_nobody_took_it() -> None:
    server, one = Server(), Candidate("one", 0)
    step(one, server, 0)
    assert not one.election.leads(8)
    step(one, server, 8)
    assert one.election.leads(8)
    assert server.record is not None
    assert server.record.transitions == 0


def test_a_process_with_the_same_name_is_somebody_else() -> None:
    server, old, new = Server(), Candidate("pod", 0), Candidate("pod", 0)
    step(old, server, 0)
    step(new, server, 0.1)
    assert not new.election.leads(0.1)
    step(new, server, 9)
    assert not new.election.leads(9)
    step(new, server, 10.2)
    assert new.election.leads(10.2)
    step(old, server, 10.3)
    assert not old.election.leads(10.3)


def test_a_write_whose_answer_was_lost_counts_when_it_is_read() -> None:
    server, one = Server(), Candidate("one", 0)
    one.prepare(one.election.read(None, 0), 0)
    assert one.pending is not None
    server.write(*one.pending)
    one.pending = None
    assert not one.election.leads(3)
    one.election.read(server.record, 3)
    assert one.election.leads(3)
    assert one.election.left_s(3) == pytest.approx(TERMS.deadline_s - 3)  # from when it was sent


def test_a_deleted_lease_ends_the_leadership() -> None:
    server, one = Server(), Candidate("one", 0)
    step(one, server, 0)
    assert one.election.read(None, 1) == Write("one", 0, None, begins=True)
    assert not one.election.leads(1)


def test_who_is_waited_for_leads_and_who_is_gone_does_not() -> None:
    server, one, two = Server(), Candidate("one", 0), Candidate("two", 0)
    assert not one.election.sees_leader(0)
    step(one, server, 0)
    step(two, server, 0)
    assert one.election.sees_leader(6.9)
    assert not one.election.sees_leader(7)  # it stopped by itself
    assert two.election.sees_leader(9.9)
    assert not two.election.sees_leader(10)
    two.election.read(Record("", 10, "", 1, "9"), 6)  # it was released
    assert not two.election.sees_leader(6)
    two.election.read(None, 7)
    assert not two.election.sees_leader(7)


def test_a_deleted_lease_is_its_holders_until_that_can_lead_no_more() -> None:
    server, one, two = Server(), Candidate("one", 0), Candidate("two", 0)
    step(one, server, 0)
    step(two, server, 0)
    server.record = None
    # The other one may not know it yet, and leads until its deadline.
    assert two.election.read(None, 1) is None
    assert two.election.sees_leader(1)
    assert two.election.holder == "one"
    one.prepare(one.election.read(None, 2), 2)  # its renewal was refused before
    assert one.pending is not None
    made = server.write(*one.pending)
    assert made is not None
    one.election.written(made, 2)
    assert one.election.leads(2)
    step(two, server, 2.5)
    assert not two.election.leads(2.5)
    # Now it is deleted together with its holder, as when its pod is.
    server.record = None
    assert two.election.read(None, 12.4) is None
    step(two, server, 12.5)
    assert two.election.leads(12.5)
    assert not one.election.leads(12.5)
    # A Lease that was released is nobody's.
    three = Candidate("three", 0)
    assert three.election.read(Record("", 10, "x", 1, "9"), 0) == Write(
        "three", 2, "9", begins=True
    )
    assert three.election.read(None, 1) == Write("three", 1, None, begins=True)


def test_a_record_that_asks_for_years_is_waited_for_a_minute() -> None:
    one = Election("one", TERMS)
    record = Record("mallory", 1e9, "for ever", 3, "9")
    assert one.read(record, 0) is None
    assert one.read(record, 59) is None
    assert one.read(record, 60) == Write("one", 4, "9", begins=True)


@pytest.mark.parametrize("broken", [{"renew_s": 0}, {"deadline_s": 10}, {"duration_s": 61.0}])
def test_terms_that_allow_two_leaders_are_refused(broken: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="duration_s"):
        dataclasses.replace(TERMS, **broken)


class Elections(RuleBasedStateMachine):
    """Three candidates whose reads and writes arrive late, get lost, or whose process stands still.

    Time passes only between steps; the clocks differ by a constant. Two of them have one name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.server = Server()
        self.candidates: list[Candidate] = []
        self.in_flight: list[tuple[Candidate, Write, str]] = []

    @initialize(offsets=st.tuples(*[st.floats(-1e6, 1e6)] * 3))
    def start(self, offsets: tuple[float, float, float]) -> None:
        names = ("one", "two", "two")
        self.candidates = [
            Candidate(name, round(offset)) for name, offset in zip(names, offsets, strict=True)
        ]

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.0, 2.5, 6.9, 7.1, 9.9, 10.1]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(who=st.integers(0, 2), late_s=st.sampled_from([0.0, 0.0, 0.2, 3.0, 8.0]))
    def read(self, who: int, late_s: float) -> None:
        """A read whose answer is `late_s` old when it is looked at."""
        candidate = self.candidates[who]
        seen = self.server.record
        self.now += late_s
        candidate.prepare(candidate.election.read(seen, candidate.clock(self.now)), self.now)
        self._send(candidate)

    @rule(who=st.integers(0, 2))
    def renew(self, who: int) -> None:
        candidate = self.candidates[who]
        candidate.prepare(candidate.election.look(candidate.clock(self.now)), self.now)
        self._send(candidate)

    def _send(self, candidate: Candidate) -> None:
        if candidate.pending is not None:
            self.in_flight.append((candidate, *candidate.pending))
            candidate.pending = None

    @rule(which=st.integers(0, 50), fate=st.sampled_from(["arrives", "answer lost", "lost"]))
    def deliver(self, which: int, fate: str) -> None:
        if not self.in_flight:
            return
        candidate, write, renewed = self.in_flight.pop(which % len(self.in_flight))
        if fate == "lost":
            return
        accepted = self.server.write(write, renewed)
        if accepted is not None and fate == "arrives":
            candidate.election.written(accepted, candidate.clock(self.now))

    @rule(who=st.integers(0, 2))
    def release_and_come_back(self, who: int) -> None:
        candidate = self.candidates[who]
        candidate.prepare(candidate.election.release(candidate.clock(self.now)), self.now)
        self._send(candidate)
        self.candidates[who] = Candidate(candidate.election.identity, candidate.offset)

    @invariant()
    def at_most_one_leads(self) -> None:
        leading = [c for c in self.candidates if c.election.leads(c.clock(self.now))]
        assert len(leading) <= 1


Elections.TestCase.settings = settings(
    max_examples=examples(300), stateful_step_count=60, deadline=None
)
TestElections = Elections.TestCase
