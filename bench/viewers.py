"""The viewers' process: a crowd, driven by commands, and the answers about what it saw.

Commands are JSON lines on standard input, answers JSON lines on standard output. One command at a
time; the crowd is served between commands too, so that pings are answered.

    open     connect viewers, at most `in_flight` handshakes at once     -> counts, times
    reset    start a window, with room for `capacity` latencies           -> capacity
    wait     until `expected` deliveries, `quiet_s` without any, or late  -> counts, latencies
    leave    close all as browsers do, at most `in_flight` at once        -> left, lost
    joins    for `seconds`: join, read `entries_each`, leave, again       -> counts, times
    close    drop all connections                                         -> closed

Latencies go to a file that the caller names, as raw 64-bit integers: too many for a line of JSON.
"""

import gc
import json
import math
import os
import sys
import time
from abc import ABC, abstractmethod
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.crowd import LEFT, Crowd, Viewer
from bench.mark import operation_name
from bench.stats import percentile
from bench.users import sign_in
from bench.ways import Way, path_of

STDIN: Final = 0
# How long a poll may last while a job waits: bounds how late a deadline or a quiet time is seen.
TICK_S: Final = 0.05
MAX_CAPACITY: Final = 50_000_000
MAX_FAILED: Final = 1_000


class Job(ABC):
    """A command that takes time. `tick` is called between polls and gives the answer when done."""

    @abstractmethod
    def tick(self, now: float) -> dict[str, Any] | None:
        """The answer, or None to go on; `now` is monotonic seconds."""


class Handshake(Job):
    """Open `viewers_each` connections to each of `operations` on each port, up to the welcome.

    With `sockets` there are so many multiplexed ones on each port instead, which share the
    operations.
    """

    def __init__(
        self,
        crowd: Crowd,
        *,
        ports: Sequence[int],
        operations: int,
        viewers_each: int,
        in_flight: int,
        deadline_s: float,
        query: str = "",
        first: int = 0,
        way: str = Way.SOCKET.name,
        sockets: int = 0,
        secret: str = "",
        connections_per_user: int = 0,
    ) -> None:
        self._crowd = crowd
        self._way = Way[way]
        self._sockets = sockets
        self._ports = ports
        self._operations = operations
        self._first = first
        self._query = query
        self._total = (sockets or operations * viewers_each) * len(ports)
        self._in_flight = in_flight
        users = math.ceil(self._total / connections_per_user) if connections_per_user else 0
        # Before the clock starts; other users than those of another call.
        self._headers = [sign_in(secret, f"user-{first}-{index}") for index in range(users)]
        self._made = 0
        self._opened = 0
        self._failed = 0
        self._handshakes_ns = array("q")
        self._started = time.monotonic()
        self._cpu = time.process_time()
        self._deadline = self._started + deadline_s
        crowd.lost.clear()
        crowd.on_open = self._on_open
        crowd.on_lost = self._on_lost

    def _on_open(self, viewer: Viewer) -> None:
        self._opened += 1
        self._handshakes_ns.append(time.monotonic_ns() - viewer.started_ns)

    def _on_lost(self, _: Viewer) -> None:
        self._failed += 1

    def tick(self, now: float) -> dict[str, Any] | None:
        pending = self._made - self._opened - self._failed
        while self._made < self._total and pending < self._in_flight and self._failed < MAX_FAILED:
            # Replica first, then operation: every port gets the whole set of operations.
            port = self._ports[self._made % len(self._ports)]
            index = self._first + self._made // len(self._ports) % self._operations
            path = path_of(self._way, operation_name(index), self._query)
            mine = range(index, self._operations, self._sockets) if self._sockets else range(0)
            # Users take turns, so that each one's connections come one by one.
            more = self._headers[self._made % len(self._headers)] if self._headers else None
            self._made += 1
            pending += 1
            if self._way is Way.CENTRIFUGO:
                mine = range(index, index + 1)
            names = [operation_name(number) for number in mine]
            self._crowd.open(("127.0.0.1", port), path, way=self._way, operations=names, more=more)
        done = self._opened + self._failed >= self._total
        gave_up = now > self._deadline or (self._failed >= MAX_FAILED and pending == 0)
        if not (done or gave_up):
            return None
        times = sorted(self._handshakes_ns) or [0]
        return {
            "opened": self._opened,
            "expected": self._total,
            "seconds": now - self._started,
            "cpu_s": time.process_time() - self._cpu,
            "handshake_p50_ms": percentile(times, 50) / 1e6,
            "handshake_p99_ms": percentile(times, 99) / 1e6,
            "lost": dict(self._crowd.lost),
        }


class Waiting(Job):
    """Until everything has arrived, or nothing more does."""

    def __init__(
        self, crowd: Crowd, *, expected: int, quiet_s: float, deadline_s: float, latencies: str
    ) -> None:
        self._crowd = crowd
        self._expected = expected
        self._quiet_s = quiet_s
        self._latencies = latencies
        self._started = time.monotonic()
        self._deadline = self._started + deadline_s

    def tick(self, now: float) -> dict[str, Any] | None:
        window = self._crowd.window
        last = max(window.last_ns / 1e9, self._started)
        if (
            window.delivered < self._expected
            and now - last < self._quiet_s
            and now < self._deadline
        ):
            return None
        if self._latencies:
            with Path(self._latencies).open("wb") as file:
                window.latencies_ns[: window.delivered].tofile(file)
        return {
            "delivered": window.delivered,
            "repeated": window.repeated,
            "missed": window.missed,
            "overflow": window.overflow,
            "other": dict(window.other),
            "seconds": (window.last_ns - window.since_ns) / 1e9 if window.delivered else 0.0,
            "connected": len(self._crowd.viewers),
            "lost": dict(self._crowd.lost),
        }


class Joining(Job):
    """`in_flight` viewers at a time that join, read the whole history and leave."""

    def __init__(
        self,
        crowd: Crowd,
        *,
        ports: Sequence[int],
        operations: int,
        entries_each: int,
        in_flight: int,
        seconds: float,
    ) -> None:
        self._crowd = crowd
        self._ports = ports
        self._operations = operations
        self._goal = entries_each
        self._in_flight = in_flight
        self._made = 0
        self._joined = 0
        self._failed = 0
        self._times_ns = array("q")
        self._started = time.monotonic()
        self._cpu = time.process_time()
        self._stop = self._started + seconds
        # A join that was under way at the end counts: stopping at once would favour the quick ones.
        self._deadline = self._stop + max(10.0, seconds)
        crowd.lost.clear()
        crowd.on_goal = self._on_goal
        crowd.on_lost = self._on_lost

    def _on_goal(self, viewer: Viewer) -> None:
        self._joined += 1
        self._times_ns.append(time.monotonic_ns() - viewer.started_ns)
        self._crowd.close(viewer)

    def _on_lost(self, _: Viewer) -> None:
        self._failed += 1

    def tick(self, now: float) -> dict[str, Any] | None:
        pending = self._made - self._joined - self._failed
        while now < self._stop and pending < self._in_flight and self._failed < MAX_FAILED:
            port = self._ports[self._made % len(self._ports)]
            path = f"/ws/operations/{operation_name(self._made % self._operations)}?history=all"
            self._made += 1
            pending += 1
            self._crowd.open(("127.0.0.1", port), path, goal=self._goal)
        if (now < self._stop or pending) and now < self._deadline and self._failed < MAX_FAILED:
            return None
        times = sorted(self._times_ns) or [0]
        return {
            "joined": self._joined,
            "expected": self._made,
            "seconds": now - self._started,
            "cpu_s": time.process_time() - self._cpu,
            "p50_ms": percentile(times, 50) / 1e6,
            "p99_ms": percentile(times, 99) / 1e6,
            "lost": dict(self._crowd.lost),
        }


class Leaving(Job):
    """All viewers close their sockets and wait for the server's end, `in_flight` at a time."""

    def __init__(self, crowd: Crowd, *, in_flight: int, deadline_s: float) -> None:
        self._crowd = crowd
        self._in_flight = in_flight
        self._waiting = list(crowd.viewers.values())
        self._under_way = 0
        self._deadline = time.monotonic() + deadline_s
        crowd.lost.clear()
        crowd.on_lost = self._on_lost

    def _on_lost(self, _: Viewer) -> None:
        self._under_way -= 1

    def tick(self, now: float) -> dict[str, Any] | None:
        while self._waiting and self._under_way < self._in_flight:
            self._under_way += 1
            self._crowd.leave(self._waiting.pop())
        if (self._waiting or self._under_way) and now < self._deadline:
            return None
        lost = dict(self._crowd.lost)
        return {"left": lost.pop(LEFT, 0), "lost": lost}


class Desk:
    """Reads commands, runs one job at a time, writes answers."""

    def __init__(self) -> None:
        self.crowd = Crowd()
        self._job: Job | None = None
        self._partial = b""
        self._open = True
        self.crowd.watch_extra(STDIN)
        self.crowd.on_extra = self._read

    def serve(self) -> None:
        while self._open:
            if self._job is None:
                self.crowd.poll(-1)
                continue
            answer = self._job.tick(time.monotonic())
            if answer is None:
                self.crowd.poll(TICK_S)
            else:
                self._job = None
                self._answer(answer)

    def _read(self, fd: int) -> None:
        if fd != STDIN:
            return
        data = os.read(STDIN, 65536)
        if not data:
            self._open = False
            return
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._start(json.loads(line))

    def _start(self, command: dict[str, Any]) -> None:
        match command.pop("do"):
            case "open":
                self._job = Handshake(self.crowd, **command)
            case "wait":
                self._job = Waiting(self.crowd, **command)
            case "leave":
                self._job = Leaving(self.crowd, **command)
            case "joins":
                self._job = Joining(self.crowd, **command)
            case "reset":
                capacity = min(command["capacity"], MAX_CAPACITY)
                self.crowd.lost.clear()
                self.crowd.window.reset(capacity)
                # A pause to look through all viewers would be taken for one of the server.
                gc.collect()
                gc.freeze()
                self._answer({"capacity": capacity})
            case "close":
                count = len(self.crowd.viewers)
                self.crowd.close_all()
                self._answer({"closed": count})
            case other:
                self._answer({"error": f"no command {other}"})

    def _answer(self, answer: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    Desk().serve()
