"""What an entry costs Redis, part by part: `python -m bench.redis_parts [ENTRIES_PER_S]`.

200 operations in turns, one entry at a time and evenly spaced, as in scenario 200x10. Each part is
played on a fresh server in every round, with the publisher and one more connection, and nothing
else:

    XADD            nobody listens
    + doorbell      tracking rings, and is armed again by an EXISTS: the least that answers a ring
    + dispatch      the ring is answered by the dispatch script, whose relay comes back
    XREAD BLOCK     instead: a blocked read per operation, as the naive server has
"""

import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import hiredis

from bench.mark import KEY_PREFIX, operation_name, xadd_template
from bench.procfs import cpu_ns, quick_timers
from bench.stage import Pinning, free_port, redis_binary
from tidegate.redis import lua
from tidegate.redis.link import pack

OPERATIONS: Final = 200
ROUNDS: Final = 5
SECONDS: Final = 3.0
DEFAULT_PER_S: Final = 1_000.0
START_S: Final = 10.0

Command = tuple[str | bytes | int, ...]
KEYS: Final = [(KEY_PREFIX + operation_name(n)).encode() for n in range(OPERATIONS)]


class Wire:
    """One connection that is read when there is something."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=START_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def write(self, *commands: Command) -> None:
        self.sock.sendall(b"".join([pack(*one) for one in commands]))

    def messages(self) -> Iterator[Any]:
        """What one read brings."""
        self._reader.feed(self.sock.recv(65536))
        while (message := self._reader.gets()) is not False:
            if isinstance(message, Exception):
                raise message
            yield message

    def call(self, *command: str | bytes | int) -> None:
        """Send it and wait for something: a reply, or the push in its place."""
        self.write(command)
        while not list(self.messages()):
            pass


#: Opens what listens, and says what each message on it is answered with.
Answering = Callable[[Wire, Any], Command | None]
Listener = Callable[[int], tuple[Sequence[Wire], Answering]]


def nobody(_: int) -> tuple[Sequence[Wire], Answering]:
    return (), lambda _, __: None


def rung(answer: Callable[[bytes], Command]) -> Listener:
    """A link with tracking, whose rings are answered with this command."""

    def listen(port: int) -> tuple[Sequence[Wire], Answering]:
        link = Wire(port)
        link.call("HELLO", "3")
        link.call("CLIENT", "TRACKING", "ON", "NOLOOP")
        link.call("SCRIPT", "LOAD", lua.DISPATCH.text)
        for key in KEYS:
            link.call("SSUBSCRIBE", key)
            link.call(*answer(key))

        def on_message(_: Wire, message: Any) -> Command | None:
            is_ring = isinstance(message, hiredis.PushNotification) and message[0] == b"invalidate"
            return answer(message[1][0]) if is_ring else None

        return (link,), on_message

    return listen


def blocked(port: int) -> tuple[Sequence[Wire], Answering]:
    wires = [Wire(port) for _ in KEYS]
    again: dict[Wire, Command] = {}
    for wire, key in zip(wires, KEYS, strict=True):
        again[wire] = ("XREAD", "COUNT", 100, "BLOCK", 0, "STREAMS", key, "$")
        wire.write(again[wire])
    return wires, lambda wire, _: again.get(wire)


PARTS: Final[dict[str, Listener]] = {
    "XADD": nobody,
    "+ doorbell": rung(lambda key: ("EXISTS", key)),
    "+ dispatch": rung(
        lambda key: ("EVALSHA", lua.DISPATCH.sha, 1, key, "tidegate", "pod", 500, 1 << 20, 1 << 18)
    ),
    "XREAD BLOCK": blocked,
}


@contextmanager
def server(pinning: Pinning) -> Iterator[tuple[int, int]]:
    """A fresh server: its port and its process id."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        argv = (redis_binary(), "--port", str(port), "--save", "", "--dir", folder)
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        try:
            os.sched_setaffinity(process.pid, pinning.rest)
            deadline = time.monotonic() + START_S
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.02)
            yield port, process.pid
        finally:
            process.kill()
            process.wait()


def play(listen: Listener, per_s: float, pinning: Pinning) -> float:
    """Redis' CPU per entry in microseconds."""
    templates = [xadd_template(operation_name(n)) for n in range(OPERATIONS)]
    with server(pinning) as (port, pid):
        publisher = Wire(port)
        listeners, on_message = listen(port)
        wires = {wire.sock.fileno(): wire for wire in (publisher, *listeners)}
        poll = select.epoll()
        for fd in wires:
            poll.register(fd, select.EPOLLIN)
        entries = round(per_s * SECONDS)
        before = cpu_ns(pid)
        start = time.monotonic()
        sent = 0
        while sent < entries:
            ahead = start + sent / per_s - time.monotonic()
            if ahead <= 0:
                mark = (time.monotonic_ns(), sent // OPERATIONS)
                publisher.sock.sendall(templates[sent % OPERATIONS] % mark)
                sent += 1
            for fd, _ in poll.poll(max(0.0, ahead)):
                wire = wires[fd]
                answers = [on_message(wire, message) for message in wire.messages()]
                if commands := [answer for answer in answers if answer is not None]:
                    wire.write(*commands)
        used = cpu_ns(pid) - before
        for wire in wires.values():
            wire.sock.close()
        return used / 1e3 / entries


def main() -> None:
    per_s = float(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_PER_S
    quick_timers()
    pinning = Pinning.choose()
    os.sched_setaffinity(0, pinning.server)
    costs: dict[str, list[float]] = {name: [] for name in PARTS}
    for _ in range(ROUNDS):
        for name, listen in PARTS.items():
            costs[name].append(play(listen, per_s, pinning))
    print(f"Redis CPU per entry at {per_s:,.0f} entries/s, us: median (lowest..highest)")
    for name, values in costs.items():
        median = statistics.median(values)
        print(f"  {name:12} {median:6.1f}  ({min(values):.1f}..{max(values):.1f})")


if __name__ == "__main__":
    main()
