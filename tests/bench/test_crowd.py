"""The crowd against a server made of bytes: what is sent in whatever pieces is counted right."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.crowd import Crowd, State, Viewer
from tests.harness.examples import examples

HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
CAPACITY = 1000


def frame(payload: bytes, opcode: int = 1) -> bytes:
    """One unmasked frame, as servers send it."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 65536:
        return bytes((0x80 | opcode, 126)) + size.to_bytes(2) + payload
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8) + payload


def entry(number: int, padding: int = 0) -> bytes:
    # A time far ahead: whenever the window starts, this is inside it.
    return frame(b'{"data":"~T%019d.%08d~"}' % (1 << 62, number) + b" " * padding)


WELCOME = frame(b'{"type":"current_state"}')


class Peer:
    """The server's end of one viewer's connection, in the same thread as the crowd."""

    def __init__(self, crowd: Crowd, listener: socket.socket) -> None:
        self.crowd = crowd
        self.viewer = crowd.open(listener.getsockname(), "/ws/operations/x")
        self.sock, _ = listener.accept()
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        crowd.poll(1)
        self.request = self.sock.recv(4096)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)
        self.crowd.poll(1)


@contextmanager
def peered() -> Iterator[Peer]:
    crowd = Crowd()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = Peer(crowd, listener)
        crowd.window.reset(CAPACITY)
        try:
            yield peer
        finally:
            peer.sock.close()
            crowd.close_all()


def expected_counts(numbers: list[int]) -> tuple[int, int, int]:
    """Delivered, repeated and missed, told slowly."""
    following = delivered = repeated = missed = 0
    for number in numbers:
        if number < following:
            repeated += 1
        else:
            delivered += 1
            missed += number - following
            following = number + 1
    return delivered, repeated, missed


@given(
    numbers=st.lists(st.integers(min_value=0, max_value=20), max_size=12),
    padding=st.sampled_from([0, 70, 126, 300, 70_000]),
    cuts=st.lists(st.integers(min_value=0, max_value=4000), max_size=6),
)
@settings(max_examples=examples(60), deadline=None)
def test_counts_do_not_depend_on_how_the_bytes_were_cut(
    numbers: list[int], padding: int, cuts: list[int]
) -> None:
    data = HEAD + WELCOME + b"".join(entry(number, padding) for number in numbers)
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    with peered() as peer:
        for start, stop in pairwise(edges):
            peer.send(data[start:stop])
        delivered, repeated, missed = expected_counts(numbers)
        window = peer.crowd.window
        while window.delivered + window.repeated < len(numbers):
            peer.crowd.poll(1)

        assert peer.viewer.state is State.OPEN
        assert (window.delivered, window.repeated, window.missed) == (delivered, repeated, missed)


def test_the_handshake_asks_for_the_sub_protocol() -> None:
    with peered() as peer:
        assert peer.request.startswith(b"GET /ws/operations/x HTTP/1.1\r\n")
        assert b"Sec-WebSocket-Protocol: tidegate.v1\r\n" in peer.request


def test_entries_from_before_the_window_are_not_deliveries() -> None:
    with peered() as peer:
        old = frame(b'"~T%019d.%08d~"' % (0, 0))
        peer.send(HEAD + WELCOME + old + entry(1))

        assert peer.crowd.window.delivered == 1
        assert peer.crowd.window.missed == 0


def test_latencies_beyond_the_room_are_counted_not_kept() -> None:
    with peered() as peer:
        peer.crowd.window.reset(2)
        peer.send(HEAD + WELCOME + b"".join(entry(number) for number in range(5)))

        assert peer.crowd.window.delivered == 5
        assert peer.crowd.window.overflow == 3


def test_other_frames_are_counted_by_type() -> None:
    with peered() as peer:
        skipped = frame(b'{"type":"skipped","data":{"count":17}}')
        peer.send(HEAD + WELCOME + skipped + frame(b'{"type":"gap"}') + skipped)

        assert peer.crowd.window.other == {"skipped": 2, "gap": 1}


def test_a_ping_is_answered_with_its_payload() -> None:
    with peered() as peer:
        peer.send(HEAD + WELCOME + frame(b"abc", opcode=9))

        assert peer.sock.recv(100) == b"\x8a\x83\0\0\0\0abc"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "HTTP 503 instead of 101"),
        (HEAD + frame(b'{"type":"error","data":{"code":"x"}}'), "refused: "),
        (HEAD + frame((4404).to_bytes(2) + b"no such", opcode=8), "closed with 4404 no such"),
        (HEAD + WELCOME + frame((1012).to_bytes(2), opcode=8), "closed with 1012"),
    ],
)
def test_a_refusal_or_close_is_kept_in_words(data: bytes, reason: str) -> None:
    with peered() as peer:
        peer.send(data)

        assert peer.viewer.state is State.CLOSED
        assert [text.startswith(reason) for text in peer.crowd.lost] == [True]


def test_a_server_that_goes_away_is_noticed() -> None:
    with peered() as peer:
        peer.send(HEAD + WELCOME)
        peer.sock.close()
        peer.crowd.poll(1)

        assert peer.crowd.lost == {"closed without a close frame": 1}


def test_nobody_listening_is_a_loss_with_its_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    crowd = Crowd()
    crowd.open(address, "/")
    crowd.poll(1)

    assert crowd.lost == {"ECONNREFUSED": 1}


def test_a_viewer_with_a_goal_says_when_it_is_there() -> None:
    reached: list[Viewer] = []
    with peered() as peer:
        peer.viewer.goal = 3
        peer.crowd.on_goal = reached.append
        peer.send(HEAD + WELCOME + entry(0) + entry(1))
        assert not reached
        peer.send(entry(2))

        assert reached == [peer.viewer]
