"""The publisher against a Redis made of bytes: it keeps its schedule, whatever is answered."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.mark import KEY_PREFIX, Mark, find_mark
from bench.publisher import CentrifugoWire, Publisher, RedisWire, ScriptWire
from tidegate.redis.lua import PUBLISH

ENTRIES = 500
REPLY = b"$15\r\n1795000000000-0\r\n"


class Answerer(threading.Thread):
    """Reads until it has `entries` commands, and only then answers all of them at once."""

    def __init__(self, listener: socket.socket, entries: int, reply: bytes) -> None:
        super().__init__()
        self.listener = listener
        self.entries = entries
        self.reply = reply
        self.received = b""

    def run(self) -> None:
        sock, _ = self.listener.accept()
        with sock:
            while self.received.count(b"XADD") < self.entries:
                self.received += sock.recv(65536)
            sock.sendall(self.reply * self.entries)
            while sock.recv(65536):  # until the publisher is closed
                pass


@contextmanager
def published_to(entries: int, reply: bytes = REPLY) -> Iterator[tuple[Publisher, Answerer]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answerer = Answerer(listener, entries, reply)
        answerer.start()
        publisher = Publisher(listener.getsockname(), RedisWire())
        try:
            yield publisher, answerer
        finally:
            publisher.close()
            answerer.join(10)


def test_it_does_not_wait_for_answers_between_entries() -> None:
    # A publisher that waited for any answer before its last entry would never get one.
    with published_to(ENTRIES) as (publisher, answerer):
        answer = publisher.publish(operations=7, entries=ENTRIES, per_second=5000)

        assert answer["sent"] == ENTRIES
        assert answer["late_p50_ms"] <= answer["late_p99_ms"] <= answer["late_max_ms"]
        assert answer["seconds"] >= (ENTRIES - 1) / 5000
    assert answerer.received.count(b"XADD") == ENTRIES


def test_each_operation_counts_its_own_entries() -> None:
    with published_to(20) as (publisher, answerer):
        publisher.publish(operations=3, entries=20, per_second=10_000)

    numbers: dict[bytes, list[int]] = {}
    for command in answerer.received.split(b"*8\r\n")[1:]:
        key = command.split(b"\r\n")[3]
        mark = find_mark(command)
        assert mark is not None
        numbers.setdefault(key, []).append(mark.number)
    assert numbers == {
        b"operation-progress:bench-00000": list(range(7)),
        b"operation-progress:bench-00001": list(range(7)),
        b"operation-progress:bench-00002": list(range(6)),
    }


def test_a_refused_entry_is_an_error_with_the_reason() -> None:
    with (
        published_to(5, b"-OOM command not allowed\r\n") as (publisher, _),
        pytest.raises(RuntimeError, match="OOM"),
    ):
        publisher.publish(operations=1, entries=5, per_second=1000)


def test_a_call_of_the_script_is_one_command_with_one_entry() -> None:
    reader = hiredis.Reader()
    reader.feed(ScriptWire().template("op") % (17, 3))
    name, sha, keys, key, *arguments = reader.gets()

    assert (name, sha.decode(), keys) == (b"EVALSHA", PUBLISH.sha, b"1")
    assert key.decode() == KEY_PREFIX + "op"
    assert len(arguments) == 15, "of which the last is its only text"
    assert find_mark(arguments[-1]) == (17, 3)
    assert reader.gets() is False


def test_a_batch_for_centrifugo_is_one_request_with_all_entries() -> None:
    wire = CentrifugoWire("http://127.0.0.1:8000/api/batch")
    entries = [wire.template(f"bench-{n}") % (17, n) for n in range(3)]
    data, answers = wire.together(entries)
    head, _, body = data.partition(b"\r\n\r\n")
    assert answers == 1
    assert head.startswith(b"POST /api/batch HTTP/1.1\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    commands = [command["publish"] for command in json.loads(body)["commands"]]
    assert [command["channel"] for command in commands] == ["bench-0", "bench-1", "bench-2"]
    marks = [find_mark(json.dumps(command["data"]).encode()) for command in commands]
    assert marks == [Mark(17, n) for n in range(3)]


@given(cuts=st.lists(st.integers(1, 400), max_size=8))
def test_answers_of_centrifugo_are_counted_whatever_the_pieces(cuts: list[int]) -> None:
    body = b'{"replies":[{"publish":{"offset":1,"epoch":"x"}}]}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    data, wire, count = answer * 5, CentrifugoWire("http://h/api/batch"), 0
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, stop in pairwise(edges):
        count += wire.answers(data[start:stop])
    assert count == 5


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
        b'HTTP/1.1 200 OK\r\nContent-Length: 35\r\n\r\n{"replies":[{"error":{"code":102}}]}',
    ],
)
def test_a_refusal_of_centrifugo_is_an_error(answer: bytes) -> None:
    with pytest.raises(RuntimeError, match="refused"):
        CentrifugoWire("http://h/api/batch").answers(answer)
