"""The publisher against a Redis made of bytes: it keeps its schedule, whatever is answered."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.mark import find_mark
from bench.publisher import Publisher

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
        publisher = Publisher(listener.getsockname())
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
