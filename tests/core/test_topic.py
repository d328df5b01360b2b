"""A topic against a stream that is trimmed, deleted and made again, over a link that loses.

Whatever happens and in whatever order: the ids that viewers get rise strictly except behind a gap,
every entry is delivered or lies in an announced gap, and once the harm ends one sweep is enough.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.core.stream_model import Stream
from tests.harness.examples import examples
from tidegate.core.records import Page, Relay
from tidegate.core.ring import Ring, RingBudget
from tidegate.core.topic import Deliver, Effect, ReadAfter, Topic, TopicRules, TopicState, Vanished
from tidegate.model.entries import TerminalRules
from tidegate.model.frames import Frame, FrameKind
from tidegate.model.ids import ZERO, OperationId, StreamId


class Read(NamedTuple):
    """A page that was asked for, as `Watch.question` has it; once seen, with the answer."""

    question: int
    after: StreamId | None
    page: Page | None = None


Arrival = Relay | Read | bytes


class TopicMachine(RuleBasedStateMachine):
    """`down` is what the server has sent on the link, `up` the reads it has not seen yet.

    `far` and `near` are the same for reads over another connection, which keep no order with these.
    What is done about them is what `redis.pages` does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stream = Stream(whole_entries=2)
        self.ms = 1000
        self.down: deque[Arrival] = deque()
        self.up: deque[Read] = deque()
        self.far: deque[Read] = deque()
        self.near: deque[Read] = deque()
        self.question = 0
        self.is_far = False
        self.past: list[Relay] = []
        self.linked = False
        self.began_at: int | None = None
        self.began_at_zero = False
        self.steady = True
        self.delivered: list[int | None] = []  # numbers of entries; None is a gap
        self.last_id = ZERO
        ring = Ring(5, 10_000, RingBudget(100_000))
        self.topic = Topic(OperationId("42"), ring, TopicRules(TerminalRules(), frozenset()))

    @initialize(entries=st.integers(0, 5), trimmed_to=st.integers(0, 5), steady=st.booleans())
    def begin(self, entries: int, trimmed_to: int, steady: bool) -> None:
        #: The clock only goes on. Else a trim leaves one entry: with none left and a clock turned
        #: back, another log around the position cannot be told from the old one by anything.
        self.steady = steady
        for _ in range(entries):
            self.publish(1)
        self.trim(trimmed_to)
        self.attach(relay_first=True)

    # --- the backend

    @rule(count=st.integers(1, 6))
    def publish(self, count: int) -> None:
        for _ in range(count):
            self.ms += 10
            self.stream.add(self.ms)

    @rule(keep=st.integers(0, 4))
    def trim(self, keep: int) -> None:
        self.stream.trim(keep if self.steady else max(1, keep))

    @rule()
    def delete(self) -> None:
        self.stream.delete()

    @precondition(lambda self: not self.steady)
    @rule(back=st.integers(0, 400))
    def delete_and_turn_back_the_clock(self, back: int) -> None:
        self.stream.delete()
        self.ms = max(1, self.ms - back)

    @rule()
    def destroy_group(self) -> None:
        self.stream.group, self.stream.registered = None, False

    # --- the network

    @rule(own=st.booleans(), lose=st.booleans(), twice=st.booleans())
    def dispatch(self, own: bool, lose: bool, twice: bool) -> None:
        """By this replica or another; the relay may be lost or come twice."""
        relays, newest = self.stream.dispatch(b"own" if own else b"other")
        if not self.linked:
            return
        self.past += relays
        if not lose:
            self.down.extend(relays * (2 if twice else 1))
        if own and newest is not None:
            self.down.append(newest)

    @precondition(lambda self: self.past and self.linked)
    @rule(data=st.data())
    def repeat_an_old_relay(self, data: st.DataObject) -> None:
        self.down.append(data.draw(st.sampled_from(self.past[-6:])))

    @precondition(lambda self: self.linked)
    @rule()
    def lose_the_link(self) -> None:
        self.linked = False
        self.down.clear()
        self.up.clear()
        self.question += 1
        self.is_far = False
        self.topic.detached()

    @precondition(lambda self: not self.linked)
    @rule(relay_first=st.booleans())
    def attach(self, relay_first: bool) -> None:
        """Redis 7.0 sends what a script publishes to its caller first, Valkey 9 the reply."""
        self.linked = True
        self.question += 1
        after = self.topic.resume_after
        relays, page = self.stream.attach_whole(b"own", after)
        answer = Read(self.question, after, page)
        self.down.extend([*relays, answer] if relay_first else [answer, *relays])

    @precondition(lambda self: self.up)
    @rule()
    def answer(self) -> None:
        """The server sees the oldest read."""
        read = self.up.popleft()
        assert read.after is not None
        self.down.append(read._replace(page=self.stream.read_whole(read.after)))

    @precondition(lambda self: self.far)
    @rule()
    def answer_elsewhere(self) -> None:
        """The server sees the oldest read of the other connection."""
        read = self.far.popleft()
        stream = self.stream
        page = stream.newest() if read.after is None else stream.read(read.after)
        self.near.append(read._replace(page=page))

    @precondition(lambda self: self.near)
    @rule(relay_first=st.booleans())
    def arrive_from_elsewhere(self, relay_first: bool) -> None:
        read = self.near.popleft()
        if read.question != self.question or read.page is None:
            return
        if read.page.info.exists:
            self.is_far = read.page.more and read.after is not None
            self._page(read.page._replace(more=True))
        elif read.after is None:
            self.attach(relay_first)
        else:
            self.is_far = False
            self.up.append(read._replace(page=None))

    @precondition(lambda self: self.down)
    @rule(count=st.integers(1, 4))
    def arrive(self, count: int) -> None:
        for _ in range(min(count, len(self.down))):
            self._arrived(self.down.popleft())

    @rule()
    def look_again(self) -> None:
        if self.linked:
            self._carry_out(self.topic.verify())

    # --- the replica

    def _arrived(self, what: Arrival) -> None:
        match what:
            case Relay():
                self.is_far |= what.unread != b""
                self._carry_out(self.topic.relay(what))
            case Read(page=page):
                if what.question != self.question:
                    return
                if page is None:
                    self.far.append(what)
                else:
                    self._page(page)
            case bytes():
                self._carry_out(self.topic.seen(what))

    def _page(self, page: Page) -> None:
        self._carry_out(self.topic.page(page))
        if self.began_at is None:
            last = self.topic.last
            self.began_at = self._seen_at_first(last)
            self.last_id = last
            self.began_at_zero = last == ZERO

    def _seen_at_first(self, last: StreamId) -> int:
        """The number of the first entry that this topic has to deliver."""
        return next((e.number + 1 for e in self.stream.history[::-1] if e.id == last), 0)

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Deliver(frames=frames):
                    for frame in frames:
                        self._delivered(frame)
                case ReadAfter(after=after):
                    self.question += 1
                    (self.far if self.is_far else self.up).append(Read(self.question, after))
                case Vanished():
                    assert not self.stream.exists or self.topic.vanished

    def _delivered(self, frame: Frame) -> None:
        if frame.kind is FrameKind.GAP:
            self.delivered.append(None)
        else:
            assert frame.id > self.last_id, f"{frame.id} after {self.last_id}"
            self.delivered.append(json.loads(frame.payload)["data"]["number"])
        self.last_id = frame.id

    # --- what must hold

    @invariant()
    def ring_rises_and_ends_at_the_position(self) -> None:
        frames = self.topic.ring.newest(100)[1]
        ids = [frame.id for frame in frames]
        assert ids == sorted(set(ids))
        assert not ids or ids[-1] <= self.topic.last

    def teardown(self) -> None:
        """The harm ends: what is on its way arrives, then one sweep."""
        if self.linked:
            self._settle()
        else:
            self.attach(relay_first=True)
            self._settle()
        self.dispatch(own=True, lose=False, twice=False)
        while self.stream.exists and any(
            e.id > (self.stream.group or e.id) for e in self.stream.log
        ):
            self.dispatch(own=True, lose=False, twice=False)
        self._settle()
        assert self.topic.state is TopicState.LIVE
        self._check_complete()

    def _settle(self) -> None:
        for _ in range(2000):
            if self.down:
                self.arrive(len(self.down))
            elif self.up:
                self.answer()
            elif self.far:
                self.answer_elsewhere()
            elif self.near:
                self.arrive_from_elsewhere(relay_first=True)
            else:
                return
        raise AssertionError("it does not come to rest")

    def _check_complete(self) -> None:
        begin = self.began_at or 0
        seen = [number for number in self.delivered if number is not None]
        in_log = [entry.number for entry in self.stream.log if entry.number >= begin]
        for number in range(begin, len(self.stream.history)):
            if number in seen:
                continue
            earlier = [n for n, d in enumerate(self.delivered) if d is not None and d < number]
            later = [n for n, d in enumerate(self.delivered) if d is not None and d > number]
            start = earlier[-1] + 1 if earlier else 0
            end = next((n for n in later if n >= start), len(self.delivered))
            announced = None in self.delivered[start:end]
            gone = end == len(self.delivered) and self.topic.vanished
            # A log that came and went before anything was known of the stream leaves no trace.
            unknowable = not earlier and self.began_at_zero and not self._in_this_log(number)
            assert announced or gone or unknowable, f"{number} was lost: {self.delivered}"
            if number in in_log:
                assert announced, f"entry {number} is still there: {self.delivered}"

    def _in_this_log(self, number: int) -> bool:
        return self.stream.exists and self.stream.history[number].id.seq == self.stream.logs


TestTopic = TopicMachine.TestCase
TestTopic.settings = settings(max_examples=examples(300), stateful_step_count=40, deadline=None)
