"""What is kept joined: the same entries as in the stream, from wherever they are taken, within its
bounds.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.stream_model import Stream, Written
from tests.harness.examples import examples
from tidegate.core import joined_history
from tidegate.core.joined_history import JoinedHistory
from tidegate.core.records import Page
from tidegate.core.recovery import find_gap
from tidegate.core.ring import Ring, RingBudget
from tidegate.core.topic import Deliver, ReadAfter, Topic, TopicRules
from tidegate.model.entries import TerminalRules
from tidegate.model.frames import Frame, FrameKind
from tidegate.model.ids import ZERO, OperationId, StreamId, stream_id
from tidegate.model.joined_frames import JoinedFrame, join

RULES = TopicRules(TerminalRules(), frozenset({"progress"}), append_types=frozenset({"append"}))


def token(number: int) -> str:
    return json.dumps({"type": "append", "data": {"text": f"<{number}>"}})


class Replica:
    """A topic that follows the stream, and what viewers on it read for themselves."""

    def __init__(self, stream: Stream, name: bytes, budget: RingBudget) -> None:
        self.stream, self.name = stream, name
        self.topic = Topic(OperationId("42"), Ring(4, 10_000, budget), RULES)
        self.gaps = 0
        self.reads = 0
        _, page = stream.attach(name, None)
        self._feed(page)

    def follow(self) -> None:
        """It hears of what is new by a page, as after a relay that was lost."""
        for effect in self.topic.verify():
            if isinstance(effect, ReadAfter):
                self._feed(self.stream.read(effect.after))

    def _feed(self, page: Page) -> None:
        for effect in self.topic.page(page):
            if isinstance(effect, ReadAfter):
                self._feed(self.stream.read(effect.after))
            elif isinstance(effect, Deliver) and effect.gap is not None:
                self.gaps += 1

    def read(self, cursor: StreamId, other: Replica, *, late: bool) -> list[Frame]:
        """What a viewer at this cursor is sent next; `late`: another one reads at the same time."""
        topic = self.topic
        if topic.ring.covers(cursor):
            return list(topic.joined(topic.ring.after(cursor)))
        kept = topic.kept_after(cursor)
        if kept is not None:
            return list(kept)
        mark = topic.mark()
        page = self.stream.read(cursor)
        self.reads += 1
        if late:
            self.stream.add(0, token(len(self.stream.history)))
            self.follow()
            other.follow()
        frames = join(topic.render(page.entries))
        topic.keep(mark, page, frames)
        if find_gap(cursor, page.info) is not None and cursor != ZERO:
            return []
        return list(frames)


def numbers_of(frame: Frame) -> list[int]:
    """The entries in a frame, by what they say."""
    body = json.loads(frame.payload)
    if frame.kind is not FrameKind.APPEND:
        return [body["data"]["number"]]
    numbers = [int(text) for text in body["data"]["text"].strip("<>").split("><")]
    assert body.get("joined", 1) == len(numbers)
    return numbers


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("tokens"), st.integers(1, 8)),
        st.tuples(st.just("note"), st.just(1)),
        st.tuples(st.just("follow"), st.integers(0, 1)),
        st.tuples(st.just("read"), st.integers(0, 60)),
        st.tuples(st.just("read late"), st.integers(0, 60)),
        st.tuples(st.just("trim"), st.integers(1, 20)),
        st.tuples(st.just("log again"), st.integers(0, 3)),
    ),
    max_size=30,
)


@settings(max_examples=examples(400))
@given(STEPS, st.integers(0, 30), st.integers(2, 9))
def test_whatever_is_taken_from_wherever_is_what_the_stream_has(
    steps: list[tuple[str, int]], first: int, page_entries: int
) -> None:
    """A viewer begins anywhere and goes on at one of two replicas at random."""
    stream = Stream(page_entries=page_entries)
    for number in range(first + 1):
        stream.add(0, token(number))
    budget = RingBudget(100_000)
    replicas = [Replica(stream, name, budget) for name in (b"a", b"b")]
    for step, value in steps:
        match step:
            case "tokens":
                for _ in range(value):
                    stream.add(0, token(len(stream.history)))
            case "note":
                stream.add(0)
            case "follow":
                replicas[value].follow()
            case "trim":
                stream.trim(value)
            case "log again":
                stream.delete()
                for _ in range(value + 1):
                    stream.add(0, token(len(stream.history)))
                for replica in replicas:
                    replica.follow()
            case _:
                here, other = replicas[value % 2], replicas[1 - value % 2]
                here.follow()
                _read_to_the_end(stream, here, other, value, late=step == "read late")
    assert budget.size_bytes >= 0


def _read_to_the_end(
    stream: Stream, here: Replica, other: Replica, value: int, *, late: bool
) -> None:
    def log() -> list[Written]:
        return [entry for entry in stream.history if entry.id.seq == stream.logs]

    cursor = log()[value % len(log())].id if value else ZERO
    while cursor < here.topic.last:
        frames = here.read(cursor, other, late=late)
        if not frames:
            return  # its entries are trimmed: a gap
        late = False
        got = [number for frame in frames for number in numbers_of(frame)]
        due = [entry.number for entry in log() if entry.id > cursor]
        if cursor == ZERO:  # from the first there is
            due = due[due.index(got[0]) :]
        assert got == due[: len(got)], "each once, in order"
        for frame in frames:
            assert frame.id > cursor
            cursor = frame.id
        here, other = other, here
        here.follow()
    assert cursor == log()[-1].id


# --- pages that come at the wrong time


def test_a_page_of_the_log_before_is_not_kept() -> None:
    stream = Stream(page_entries=20)
    for number in range(40):
        stream.add(0, token(number))
    replica = Replica(stream, b"a", RingBudget(100_000))
    topic = replica.topic
    mark, page = topic.mark(), stream.read(ZERO)
    stream.delete()
    for number in range(40):
        stream.add(0, token(number))
    replica.follow()
    assert topic.epoch == 1
    topic.keep(mark, page, join(topic.render(page.entries)))
    assert topic.kept_after(ZERO) is None


def test_a_page_of_the_next_log_is_not_kept_while_that_is_not_known() -> None:
    stream = Stream(page_entries=20)
    for number in range(40):
        stream.add(0, token(number))
    topic = Replica(stream, b"a", RingBudget(100_000)).topic
    mark = topic.mark()
    stream.delete()
    for number in range(30):
        stream.add(0, token(number))
    page = stream.read(ZERO)
    topic.keep(mark, page, join(topic.render(page.entries)))
    assert topic.kept_after(ZERO) is None


def test_a_page_that_is_ahead_of_the_replica_is_not_kept() -> None:
    stream = Stream(page_entries=20)
    stream.add(0, token(0))
    topic = Replica(stream, b"a", RingBudget(100_000)).topic
    mark = topic.mark()
    for number in range(1, 20):
        stream.add(0, token(number))
    page = stream.read(ZERO)
    topic.keep(mark, page, join(topic.render(page.entries)))
    assert topic.kept_after(ZERO) is None


# --- one operation


def history(count: int, *, after: int = 0) -> tuple[StreamId, StreamId, list[Frame]]:
    """A page of tokens behind an id."""
    topic = Topic(OperationId("42"), Ring(9, 9, RingBudget(9)), RULES)
    stream = Stream()
    for number in range(1, after + count + 1):
        stream.add(number, token(number))
    entries = [entry.raw() for entry in stream.log[after:]]
    frames = list(join(topic.render(entries)))
    return (
        StreamId(after, 1) if after else ZERO,
        stream_id(entries[0].id),
        frames,
    )


def test_pages_that_follow_on_become_one_frame() -> None:
    kept = JoinedHistory(RingBudget(100_000))
    for after in (0, 20, 10):
        start, first, frames = history(10, after=after)
        kept.keep(start, first, frames, oldest=ZERO)
    [frame] = kept.after(ZERO) or ()
    assert isinstance(frame, JoinedFrame)
    assert numbers_of(frame) == list(range(1, 21))
    [rest] = kept.after(StreamId(13, 1)) or ()
    assert numbers_of(rest) == list(range(14, 21))
    [third] = kept.after(StreamId(20, 1)) or ()
    assert numbers_of(third) == list(range(21, 31))
    assert kept.after(StreamId(30, 1)) is None


def test_a_cursor_below_the_first_entry_proves_nothing() -> None:
    kept = JoinedHistory(RingBudget(100_000))
    _, first, frames = history(10, after=5)
    kept.keep(first.before(), first, frames, oldest=ZERO)
    assert kept.after(ZERO) is None
    assert kept.after(StreamId(5, 1)) is None
    assert kept.after(first.before()) is not None
    assert kept.after(first) is not None


def test_what_is_not_much_shorter_is_not_kept() -> None:
    kept = JoinedHistory(RingBudget(100_000))
    start, first, frames = history(3)
    kept.keep(start, first, frames, oldest=ZERO)
    assert kept.after(ZERO) is None
    assert kept.size_bytes == 0


def test_pages_of_entries_that_were_trimmed_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = JoinedHistory(RingBudget(100_000))
    start, first, frames = history(10)
    kept.keep(start, first, frames, oldest=ZERO)
    monkeypatch.setattr(joined_history, "MAX_BYTES", kept.size_bytes + 10)
    start, first, frames = history(10, after=20)
    kept.keep(start, first, frames, oldest=ZERO)
    assert kept.after(start) is None, "it is full"
    kept.keep(start, first, frames, oldest=first)
    assert kept.after(start) is not None
    assert kept.after(ZERO) is None


def test_the_budget_of_all_rings_holds_for_it() -> None:
    budget = RingBudget(1_000)
    kept = JoinedHistory(budget)
    start, first, frames = history(10)
    kept.keep(start, first, frames, oldest=ZERO)
    assert budget.size_bytes == kept.size_bytes > 0
    ring = Ring(100, 10_000, budget)
    for ms in range(1, 100):
        ring.append(Frame(StreamId(ms, 0), b"x" * 100, FrameKind.ENTRY))
    assert kept.after(ZERO) is None
    assert kept.size_bytes == 0
    assert budget.size_bytes == ring.stats().size_bytes <= 1_000


def test_the_ring_is_joined_once_for_all_who_come_before_the_next_entry() -> None:
    kept = JoinedHistory(RingBudget(100_000))
    topic = Topic(OperationId("42"), Ring(9, 9, RingBudget(9)), RULES)
    stream = Stream()
    for number in range(11):
        stream.add(number, token(number))
    frames = topic.render([entry.raw() for entry in stream.log])
    once = kept.newest(frames[:10])
    assert kept.newest(frames[:10]) is once
    assert kept.newest(frames) is not once
    assert len(kept.newest(frames)) == 1
    kept.clear()
    assert kept.size_bytes == 0
