"""An outbox by itself: what is joined, who is written what in a pass, and when it wakes its owner.

There is no hub and no event loop: the test is who is woken.
"""

from __future__ import annotations

from typing import Any

from tests.gateway.fake_socket import FakeSocket
from tidegate.core.clock import ServerClock
from tidegate.core.ring import Ring, RingBudget
from tidegate.core.sampler import Sampler
from tidegate.core.topic import Topic, TopicRules
from tidegate.gateway.acks import Acks
from tidegate.gateway.outbox import ITEM_MAX_BYTES, ChannelOutbox, Measures, Position
from tidegate.gateway.stats import Counters
from tidegate.gateway.viewer import ChannelViewer, ViewerState
from tidegate.model.batch import Batch
from tidegate.model.close_codes import CloseCode
from tidegate.model.entries import TerminalRules
from tidegate.model.frames import Frame, FrameKind
from tidegate.model.ids import ZERO, OperationId, StreamId

#: More than any pass here writes.
ALL = 1000


class Owner:
    """Has live viewers, and takes out those whose sockets are gone; all else would be a fault."""

    def __init__(self, *, acks_per_s: float = 0, is_timed: bool = False) -> None:
        rules = TopicRules(TerminalRules(), frozenset())
        self.topic = Topic(OperationId("42"), Ring(1, 1, RingBudget(1)), rules)
        self.stale_since: str | None = None
        self.now = 1000.0
        self.live: dict[ChannelViewer, None] = {}
        self.ackers: set[ChannelViewer] = set()
        self.woken = 0
        self.counters = Counters()
        self.acks = Acks(acks_per_s, lambda: self.now)
        measures = Measures(self.counters, Sampler(is_on=is_timed), self.acks, lambda: self.now)
        start = Position(StreamId(1, 0), 0)
        self.outbox = ChannelOutbox(self.live, self.ackers, start, self._wake, measures)

    def _wake(self, outbox: ChannelOutbox) -> None:
        assert outbox is self.outbox
        self.woken += 1

    def viewer(self) -> tuple[ChannelViewer, FakeSocket]:
        """One that is live from now on, and has had its state."""
        socket = FakeSocket()
        viewer = ChannelViewer(self, socket)
        state = Frame(ZERO, b'{"type":"current_state"}', FrameKind.CONTROL)
        viewer.write(Batch([state]))
        viewer.state = ViewerState.LIVE
        self.outbox.enter(viewer)
        self.live[viewer] = None
        return viewer, socket

    def put(self, n: int, size: int = 0) -> None:
        """An entry with this number, and so many bytes more."""
        text = b'{"id":"%d-0","type":"log","pad":"%b"}' % (n, b"x" * size)
        frame = Frame(StreamId(n, 0), text, FrameKind.ENTRY)
        item = self.outbox.put(frame, Position(frame.id, 0))
        if item.ids_ms is not None:
            item.ids_ms.append(n)

    def left(self, viewer: ChannelViewer) -> None:
        self.outbox.leave(viewer)
        viewer.state = ViewerState.CLOSED
        del self.live[viewer]

    def paused(self, viewer: ChannelViewer) -> None:
        raise AssertionError

    def resumed(self, viewer: ChannelViewer) -> None:
        raise AssertionError

    def go_live(self, viewer: ChannelViewer) -> None:
        raise AssertionError

    def wait_ahead(self, viewer: ChannelViewer) -> None:
        raise AssertionError

    def wait_for_stream(self, viewer: ChannelViewer) -> None:
        raise AssertionError

    def refuse(self, viewer: ChannelViewer, code: CloseCode, name: str, message: str) -> None:
        raise AssertionError

    def close(self, viewer: ChannelViewer, code: CloseCode) -> None:
        raise AssertionError


def ids(socket: FakeSocket) -> list[int]:
    return [int(entry_id.split("-")[0]) for entry_id in socket.ids]


def test_it_wakes_its_owner_once_until_all_is_sent() -> None:
    owner = Owner()
    _, socket = owner.viewer()
    owner.put(1)
    owner.put(2, ITEM_MAX_BYTES)
    owner.put(3)
    assert owner.woken == 1
    while owner.outbox.has_more:
        owner.outbox.send_some(ALL)
        assert owner.woken == 1
    assert ids(socket) == [1, 2, 3]
    owner.put(4)
    assert owner.woken == 2


def test_what_is_put_in_during_a_pass_wakes_nobody() -> None:
    owner = Owner()
    for _ in range(3):
        owner.viewer()
    owner.put(1)
    assert owner.outbox.send_some(2) == 2
    owner.put(2)
    assert owner.woken == 1
    assert len(owner.outbox) == 1


def test_frames_are_joined_up_to_a_size_and_to_the_next_who_comes() -> None:
    owner = Owner()
    _, first = owner.viewer()
    writes = first.writes
    owner.put(1)
    owner.put(2)
    _, second = owner.viewer()
    owner.put(3)
    owner.put(4, ITEM_MAX_BYTES)
    owner.put(5)
    assert len(owner.outbox) == 3  # 1 and 2, then 3 and 4, and 5
    while owner.outbox.has_more:
        owner.outbox.send_some(ALL)
    assert (ids(first), ids(second)) == ([1, 2, 3, 4, 5], [3, 4, 5])
    assert first.writes - writes == 3


def test_a_pass_is_over_those_who_were_live_when_it_began_in_their_order() -> None:
    owner = Owner()
    viewers = [owner.viewer() for _ in range(5)]
    owner.put(1)
    assert owner.outbox.send_some(2) == 2
    assert [ids(socket) for _, socket in viewers] == [[1], [1], [], [], []]
    _, late = owner.viewer()
    owner.left(viewers[3][0])
    assert owner.outbox.send_some(ALL) == 3
    assert [ids(socket) for _, socket in viewers] == [[1], [1], [1], [], [1]]
    assert ids(late) == []
    assert not owner.outbox.has_more
    assert owner.outbox.send_some(ALL) == 0


def test_a_socket_that_broke_leaves_and_the_others_are_written_to() -> None:
    owner = Owner()
    viewers = [owner.viewer() for _ in range(3)]
    viewers[1][1].break_off()
    owner.put(1)
    owner.outbox.send_some(ALL)
    assert [ids(socket) for _, socket in viewers] == [[1], [], [1]]
    assert list(owner.live) == [viewers[0][0], viewers[2][0]]


def test_a_viewer_stands_behind_the_item_that_it_was_sent_last() -> None:
    owner = Owner()
    viewer, _ = owner.viewer()
    outbox = owner.outbox
    assert outbox.position_of(viewer.seq).id == StreamId(1, 0)
    outbox.moved(Position(StreamId(5, 0), 0))
    assert outbox.position_of(viewer.seq).id == StreamId(5, 0)
    owner.put(6)
    other, _ = owner.viewer()
    owner.put(7)
    assert outbox.position_of(other.seq).id == StreamId(6, 0), "it has not been sent yet"
    outbox.send_some(1)
    assert outbox.position_of(viewer.seq).id == StreamId(6, 0)
    while outbox.has_more:
        outbox.send_some(ALL)
    assert outbox.position_of(viewer.seq).id == StreamId(7, 0)


def test_what_each_was_written_is_counted_when_it_leaves() -> None:
    owner = Owner()
    first, _ = owner.viewer()
    owner.put(1)
    second, _ = owner.viewer()
    owner.put(2)
    owner.outbox.send_some(ALL)
    third, _ = owner.viewer()
    owner.left(first)  # has 1 of 2
    while owner.outbox.has_more:
        owner.outbox.send_some(ALL)
    owner.put(3)
    owner.outbox.send_some(ALL)
    owner.left(second)
    owner.left(third)
    assert [viewer.frames - 1 for viewer in (first, second, third)] == [1, 2, 1]
    assert second.size_bytes > first.size_bytes == third.size_bytes
    assert owner.counters.deliveries == 4


def test_deliveries_are_timed_by_the_clock_it_is_given_and_an_acker_is_asked() -> None:
    owner = Owner(acks_per_s=1, is_timed=True)
    clock = ServerClock()
    clock.answered(0.0, 0.0, 0.0)
    viewer, socket = owner.viewer()
    owner.viewer()
    owner.ackers.add(viewer)
    latency: Any = owner.counters.latency
    owner.put(999_000)
    owner.outbox.send_some(ALL)
    assert (latency.no_clock, latency.histogram.count) == (2, 0)
    owner.outbox.clock = clock
    owner.now += 2
    owner.put(1_000_000)
    owner.outbox.send_some(ALL)
    assert (latency.histogram.count, latency.histogram.sum) == (2, 4.0)
    assert socket.types.count("ack_request") == 1, "one at a time"
