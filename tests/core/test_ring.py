"""The ring against a naive list, and its bounds."""

import gc

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tidegate.core.ring import Ring, RingBudget
from tidegate.model.frames import Frame, FrameKind
from tidegate.model.ids import StreamId

MAX_FRAMES, MAX_BYTES, BUDGET = 6, 60, 100


SEQUENCES = st.sampled_from([0, 1, 2**64 - 1])
KINDS = st.sampled_from([FrameKind.ENTRY, FrameKind.PROGRESS])


def frame(ms: int, size: int, seq: int = 0, kind: FrameKind = FrameKind.ENTRY) -> Frame:
    return Frame(StreamId(ms, seq), b"x" * size, kind)


def told(frames: list[Frame]) -> list[tuple[StreamId, bytes, FrameKind]]:
    return [(f.id, f.payload, f.kind) for f in frames]


class RingMachine(RuleBasedStateMachine):
    """Three rings under one budget; beside each, all that was put into it since it was empty."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = RingBudget(BUDGET)
        self.rings = [Ring(MAX_FRAMES, MAX_BYTES, self.budget) for _ in range(3)]
        self.logs: list[list[Frame]] = [[], [], []]
        self.floors: list[StreamId | None] = [None, None, None]
        self.clock = 0

    @initialize(floors=st.lists(st.booleans(), min_size=3, max_size=3))
    def known_floors(self, floors: list[bool]) -> None:
        for number, known in enumerate(floors):
            self._clear(number, known)

    @rule(
        number=st.integers(0, 2),
        size=st.integers(1, 30),
        step=st.integers(1, 3),
        seq=SEQUENCES,
        kind=KINDS,
    )
    def append(self, number: int, size: int, step: int, seq: int, kind: FrameKind) -> None:
        self.clock += step
        new = frame(self.clock, size, seq, kind)
        self.rings[number].append(new)
        self.logs[number].append(new)

    @rule(number=st.integers(0, 2), known=st.booleans())
    def clear(self, number: int, known: bool) -> None:
        self._clear(number, known)

    def _clear(self, number: int, known: bool) -> None:
        self.clock += 1
        self.floors[number] = StreamId(self.clock, 0) if known else None
        self.rings[number].clear(self.floors[number])
        self.logs[number] = []

    @rule(number=st.integers(0, 2))
    def discard(self, number: int) -> None:
        self.rings[number].discard()
        self.logs[number], self.floors[number] = [], None
        assert self.rings[number].stats() == (0, 0)

    @rule(number=st.integers(0, 2), at=st.integers(0, 60), seq=SEQUENCES)
    def look(self, number: int, at: int, seq: int) -> None:
        ring, log, cursor = self.rings[number], self.logs[number], StreamId(at, seq)
        held = [f for f in log if ring.holds(f.id)]
        if ring.covers(cursor):
            assert told(ring.after(cursor)) == told([f for f in log if f.id > cursor]), "complete"
        elif held:
            assert cursor < held[0].id
        assert ring.holds(cursor) is (cursor in [f.id for f in log[len(log) - len(ring) :]])
        if held and cursor in [f.id for f in held]:
            assert ring.covers(cursor), "from an entry that is here it is proven"

    @rule(number=st.integers(0, 2), count=st.integers(0, 8))
    def newest(self, number: int, count: int) -> None:
        ring, log = self.rings[number], self.logs[number]
        before, found = ring.newest(count)
        assert told(found) == told(log[len(log) - min(count, len(ring)) :])
        index = len(log) - len(found)
        if before is not None:
            assert before == (log[index - 1].id if index else self.floors[number])

    @invariant()
    def bounded(self) -> None:
        for ring, log in zip(self.rings, self.logs, strict=True):
            stats = ring.stats()
            assert stats.frames == len(ring) <= MAX_FRAMES
            newest = log[len(log) - len(ring) :]
            assert stats.size_bytes == sum(len(f.payload) for f in newest) <= MAX_BYTES
            assert all(ring.holds(f.id) for f in newest)
        assert self.budget.size_bytes == sum(r.stats().size_bytes for r in self.rings) <= BUDGET


TestRing = RingMachine.TestCase


@given(st.integers(61, 500))
def test_a_frame_larger_than_the_ring_is_not_kept(size: int) -> None:
    ring = Ring(MAX_FRAMES, MAX_BYTES, RingBudget(BUDGET))
    ring.append(frame(1, 10))
    ring.append(frame(2, size))
    assert len(ring) == 0
    assert ring.covers(StreamId(2, 0))
    assert not ring.covers(StreamId(1, 0))


def test_the_ring_that_grew_longest_ago_gives_way() -> None:
    budget = RingBudget(BUDGET)
    old, new = (Ring(100, 1000, budget) for _ in range(2))
    old.append(frame(1, 60))
    new.append(frame(2, 60))
    assert (len(old), len(new)) == (0, 1)


def test_what_it_holds_is_nothing_to_the_garbage_collector() -> None:
    """Or each full collection stops the loop for as long as it takes to look at every entry."""
    ring = Ring(100, 10_000, RingBudget(10_000))
    for ms in range(1, 100):
        ring.append(frame(1_795_413_516_350 + ms, 50, seq=2**64 - 1, kind=FrameKind.PROGRESS))
    held = [item for part in gc.get_referents(ring) if isinstance(part, list) for item in part]
    assert len(held) >= len(ring) == 99
    assert not [item for item in held if gc.is_tracked(item)]
