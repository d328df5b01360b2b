"""Multiplexed sockets and event streams in the crowd: whatever the pieces, counted right."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.crowd import Crowd, State, Viewer
from bench.errors import NotPossible
from bench.measures import Bed, play
from bench.runner import Plan
from bench.scenarios import scenario_named
from bench.stage import Pinning
from bench.subjects import NAIVE, Subject
from bench.viewers import Handshake
from bench.ways import Way
from tests.bench.test_crowd import CAPACITY, HEAD, expected_counts, frame
from tests.harness.examples import examples

EVENTS_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
SENT = 1 << 62
EVERYWHERE = Subject("everywhere", ("true",), "", frozenset(Way))


class Peer:
    """The server's end of one connection, in the same thread as the crowd."""

    def __init__(self, crowd: Crowd, listener: socket.socket, way: Way, *names: str) -> None:
        self.crowd = crowd
        self.viewer = crowd.open(listener.getsockname(), "/x", way=way, operations=names)
        self.sock, _ = listener.accept()
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        crowd.poll(1)
        self.request = self.sock.recv(4096)

    def send(self, data: bytes, cuts: list[int] | None = None) -> None:
        edges = sorted({0, len(data), *(cut for cut in cuts or () if cut < len(data))})
        for start, stop in pairwise(edges):
            self.sock.sendall(data[start:stop])
            self.crowd.poll(1)

    def until(self, count: int) -> None:
        window = self.crowd.window
        while window.delivered + window.repeated < count:
            self.crowd.poll(1)


@contextmanager
def peered(way: Way, *names: str) -> Iterator[Peer]:
    crowd = Crowd()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = Peer(crowd, listener, way, *names)
        crowd.window.reset(CAPACITY)
        try:
            yield peer
        finally:
            peer.sock.close()
            crowd.close_all()


def state(operation: str) -> bytes:
    return frame(b'{"type":"current_state","operation":"%b"}' % operation.encode())


def entry(operation: str, number: int) -> bytes:
    text = b'{"id":"1-0","operation":"%b","data":"~T%019d.%08d~"}'
    return frame(text % (operation.encode(), SENT, number))


def event(number: int) -> bytes:
    """In a chunk of its own, as a server sends it."""
    text = b'id: 1-0\ndata: {"id":"1-0","data":"~T%019d.%08d~"}\n\n' % (SENT, number)
    return b"%x\r\n%b\r\n" % (len(text), text)


cut_places = st.lists(st.integers(min_value=0, max_value=3000), max_size=6)


@given(
    entries=st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 10)), max_size=12),
    cuts=cut_places,
)
@settings(max_examples=examples(50), deadline=None)
def test_each_operation_has_its_own_count(entries: list[tuple[str, int]], cuts: list[int]) -> None:
    with peered(Way.MANY, "a", "b", "c") as peer:
        data = HEAD + b"".join(state(name) for name in "abc")
        peer.send(data + b"".join(entry(*each) for each in entries), cuts)
        peer.until(len(entries))
        counts = [expected_counts([n for o, n in entries if o == name]) for name in "abc"]
        window = peer.crowd.window
        assert peer.viewer.state is State.OPEN
        assert (window.delivered, window.repeated, window.missed) == tuple(
            sum(column) for column in zip(*counts, strict=True)
        )


def test_a_multiplexed_viewer_asks_for_its_operations_and_waits_for_all() -> None:
    with peered(Way.MANY, "a", "b") as peer:
        assert b"Sec-WebSocket-Protocol: tidegate.v1\r\n" in peer.request
        peer.send(HEAD)
        asked = peer.sock.recv(4096)
        for name in ("a", "b"):
            text = json.dumps({"type": "watch", "operation": name}).encode()
            assert bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text in asked
        peer.send(state("a") + entry("a", 0))
        assert (peer.crowd.opened, peer.viewer.state) == (0, State.WATCHING)
        peer.send(state("b"))
        assert (peer.crowd.opened, peer.viewer.state) == (1, State.OPEN)


def test_what_is_no_entry_of_a_watched_operation_is_told() -> None:
    with peered(Way.MANY, "a") as peer:
        error = frame(b'{"type":"error","operation":"a"}')
        peer.send(HEAD + error + state("a") + frame(b'{"type":"gap"}'))
        assert peer.crowd.window.other == {"error": 1, "gap": 1}
        peer.send(frame((1012).to_bytes(2), opcode=8))
        assert peer.crowd.lost == {"closed with 1012": 1}


@given(numbers=st.lists(st.integers(0, 20), max_size=12), cuts=cut_places)
@settings(max_examples=examples(50), deadline=None)
def test_events_are_counted_whatever_the_pieces(numbers: list[int], cuts: list[int]) -> None:
    with peered(Way.EVENTS) as peer:
        welcome = b'5b\r\nretry: 10\n\nid: 0-0\ndata: {"type":"current_state"}\n\n\r\n'
        beat = b"3\r\n:\n\n\r\n"
        peer.send(EVENTS_HEAD + welcome + beat + beat.join(event(n) for n in numbers), cuts)
        peer.until(len(numbers))
        window = peer.crowd.window
        assert b"Accept: text/event-stream\r\n" in peer.request
        assert peer.viewer.state is State.OPEN
        assert (window.delivered, window.repeated, window.missed) == expected_counts(numbers)
        assert not window.other


@given(
    numbers=st.lists(st.integers(0, 20), min_size=1, max_size=12),
    joined=st.integers(1, 4),
    cuts=cut_places,
)
@settings(max_examples=examples(50), deadline=None)
def test_joined_publications_of_centrifugo_are_counted_one_by_one(
    numbers: list[int], joined: int, cuts: list[int]
) -> None:
    def publication(number: int) -> bytes:
        text = b'{"push":{"channel":"a","pub":{"data":{"mark":"~T%019d.%08d~"},"offset":1}}}'
        return text % (SENT, number)

    with peered(Way.CENTRIFUGO, "a") as peer:
        welcome = b'{"id":1,"connect":{"client":"x"}}\n{"id":2,"subscribe":{"offset":0}}'
        groups = [numbers[at : at + joined] for at in range(0, len(numbers), joined)]
        frames = [frame(b"\n".join(publication(n) for n in group)) for group in groups]
        peer.send(HEAD + frame(welcome) + frame(b"{}") + b"".join(frames), cuts)
        peer.until(len(numbers))
        window = peer.crowd.window
        assert peer.viewer.state is State.OPEN
        assert (window.delivered, window.repeated, window.missed) == expected_counts(numbers)
        assert not window.other
        peer.sock.settimeout(10)
        said = b""
        while not said.endswith(b"\x81\x82\0\0\0\0{}"):  # the answer to its ping
            said += peer.sock.recv(4096)
        assert b'{"id":1,"connect":{}}\n{"id": 2, "subscribe": {"channel": "a"}}' in said


def test_a_refused_event_stream_is_kept_in_words() -> None:
    with peered(Way.EVENTS) as peer:
        peer.send(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
        assert peer.crowd.lost == {"HTTP 503 instead of 200": 1}


def test_multiplexed_sockets_share_the_operations() -> None:
    asked: list[tuple[str, list[str]]] = []

    class Paper(Crowd):
        """Notes what it is to open."""

        def open(self, _: object, path: str, **more: Any) -> Viewer:  # type: ignore[override]
            asked.append((path, more["operations"]))
            with socket.socket() as unused:
                return Viewer(unused, b"", 0)

    crowd = Paper()
    job = Handshake(
        crowd,
        ports=[1],
        operations=10,
        viewers_each=1,
        in_flight=100,
        deadline_s=1,
        way=Way.MANY.name,
        sockets=3,
    )
    job.tick(0)
    assert [path for path, _ in asked] == ["/ws"] * 3
    assert sorted(name for _, names in asked for name in names) == [
        f"bench-{n:05d}" for n in range(10)
    ]


async def test_the_baseline_sits_out_what_it_does_not_have() -> None:
    bed = Bed("none", Pinning.choose(), 1.0)
    plan = Plan([scenario_named("sse"), scenario_named("200x10")], [EVERYWHERE, NAIVE], 2, bed)
    assert [s.name for s in plan.able(plan.scenarios[0])] == ["everywhere"]
    assert plan.steps == 2 * 3
    with pytest.raises(NotPossible, match="naive"):
        await play(plan.scenarios[0], NAIVE, bed)


def test_arguments_of_a_scenario_are_taken_literally() -> None:
    assert EVERYWHERE.with_args(("--x={y}",)).command(port=1) == ["true", "--x={y}"]
