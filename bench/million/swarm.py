"""One process of viewers: non-blocking sockets in one epoll loop, and arrays instead of objects.

A viewer is an index into the arrays: about 40 bytes, and 8 for its file descriptor. It follows the
rules of the clients: it resumes after the last entry it received, waits as they do after a close,
gives up an attempt after `OPEN_TIMEOUT_S`, and answers pings. A load balancer would need two more
sockets per viewer, so its part is played here: a connection goes to the replica in rotation with
the fewest connections of this swarm, and a replica that refuses is skipped.

    state     | what happens                | next
    ----------|-----------------------------|------------------------------------
    NEW, AWAY | its turn, or its delay over | CONNECTING, or at once UPGRADING
    CONNECTING| writable                    | UPGRADING, the request is sent
    UPGRADING | a first `current_state`     | OPEN
    UPGRADING | nothing for 10 s            | AWAY
    OPEN      | entries                     | OPEN, counted
    any       | close, reset, refusal       | AWAY, or GONE by the close code

Invariant: a delivery counts once, and only if it is the next entry of its operation for that
viewer. Skipped entries are `missed`; those that it had before are `repeated`.

Commands are JSON lines on standard input, answered at once on standard output:

    begin      how many viewers there will be, and which operations they watch
    rotation   the replicas that receive connections
    open       connect `upto` viewers in total, `in_flight` at a time
    reset      start counting deliveries and absences at zero
    tally      states and counts
    save       write delays and absences into files, as 64-bit integers (ns)
"""

import enum
import errno
import json
import os
import random
import select
import socket
import sys
import time
from array import array
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bench.crowd import IP_BIND_ADDRESS_NO_PORT, upgrade_request
from bench.mark import LENGTH, START
from bench.million.comeback import after_close_s, after_refusal_s
from bench.million.room import PER_SOURCE
from bench.million.scene import path
from bench.million.wheel import Wheel
from tidegate.model.close_codes import ABNORMAL

STDIN: Final = 0
READ_BYTES: Final = 1 << 18
EVENTS: Final = 2048
#: As in the browser client.
OPEN_TIMEOUT_S: Final = 10.0
#: Maximum number of different reasons, which are texts from the server.
MAX_REASONS: Final = 50
#: The expected number of a viewer without an entry: any number is the next one.
ANY: Final = 0xFFFFFFFF
#: Maximum number of absences kept, per viewer on average; further ones are only counted.
ABSENCES_EACH: Final = 4
NOBODY: Final = -1


class State(enum.IntEnum):
    NEW = 0
    AWAY = 1
    CONNECTING = 2
    UPGRADING = 3
    OPEN = 4
    GONE = 5


class Swarm:
    """The viewers of this process. Only `serve` blocks."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._epoll.register(STDIN, select.EPOLLIN)
        self._buffer = bytearray(READ_BYTES)
        self._view = memoryview(self._buffer)
        self._into = [self._view]
        self._partial = b""
        self._serving = True
        self._of_fd = array("i")
        self._comebacks = Wheel()
        self._timeouts = Wheel()
        self._rests: dict[int, bytes] = {}
        self._asked_ms: dict[int, int] = {}
        self._targets: list[tuple[str, int]] = []
        self._made = 0
        self._allowed = 0
        self._begun = 0
        self._in_flight = 1
        self._happened: Counter[str] = Counter()
        self._begin_arrays(0)

    def _begin_arrays(self, viewers: int) -> None:
        self._fd = array("i", [NOBODY]) * viewers
        self._states = bytearray(viewers)
        self._attempts = bytearray(viewers)
        self._failures = bytearray(viewers)
        self._places = bytearray(viewers)
        self._next = array("I", [ANY]) * viewers
        self._last_ms = array("Q", [0]) * viewers
        self._last_seq = array("I", [0]) * viewers
        #: Since when each viewer is away, in milliseconds since `_epoch_ns`; 0: it is not.
        self._away = array("I", [0]) * viewers
        self._count = [0] * len(State)
        self._count[State.NEW] = viewers
        #: Open connections, and all with a socket, by the place of their replica.
        self._at_place: Counter[int] = Counter()
        self._held: Counter[int] = Counter()
        self._epoch_ns = time.monotonic_ns() - 1_000_000
        self._delays = array("q")
        self._absences = array("q")
        self._since_ns = 0
        self._reset()

    # --- commands -------------------------------------------------------------------------------

    def begin(
        self, *, swarm: int, first: int, viewers: int, share: float, operations: int
    ) -> dict[str, Any]:
        self._swarm, self._first = swarm, first
        self._share, self._operations = share, operations
        self._begin_arrays(viewers)
        return {}

    def rotation(self, *, targets: list[tuple[str, int, int]]) -> dict[str, Any]:
        """Host, port and place of each replica in rotation."""
        # Swarms that start at the same time do not all start with the same replica.
        turn = self._swarm % max(1, len(targets))
        targets = targets[turn:] + targets[:turn]
        self._targets = [(host, port) for host, port, _ in targets]
        self._target_places = [place for _, _, place in targets]
        return {}

    def open(self, *, upto: int, in_flight: int) -> dict[str, Any]:
        self._allowed, self._in_flight = min(upto, len(self._states)), in_flight
        return {}

    def reset(self, *, capacity: int) -> dict[str, Any]:
        self._since_ns = time.monotonic_ns()
        self._delays = array("q", bytes(8 * capacity))
        self._absences = array("q")
        self._reset()
        return {}

    def _reset(self) -> None:
        self._delivered = self._missed = self._repeated = 0
        self._last_ns = self._back_ns = 0
        self._returned = 0
        self._happened.clear()

    def tally(self) -> dict[str, Any]:
        return {
            "states": {state.name.lower(): self._count[state] for state in State},
            "at": {str(place): count for place, count in self._at_place.items()},
            "delivered": self._delivered,
            "missed": self._missed,
            "repeated": self._repeated,
            "returned": self._returned,
            "last_ns": self._last_ns,
            "back_ns": self._back_ns,
            "happened": dict(self._happened),
        }

    def save(self, *, delays: str, absences: str) -> dict[str, Any]:
        Path(delays).write_bytes(self._delays[: self._delivered].tobytes())
        Path(absences).write_bytes(self._absences.tobytes())
        return {}

    # --- the loop -------------------------------------------------------------------------------

    def serve(self) -> None:
        """Run until standard input is closed."""
        while self._serving:
            now = time.monotonic()
            for index in self._comebacks.due(now):
                if self._states[index] == State.AWAY:
                    self._attempt(index, now)
            for packed in self._timeouts.due(now):
                self._overdue(packed)
            self._open_more(now)
            for fd, _ in self._epoll.poll(self._pause_s(), EVENTS):
                index = self._of_fd[fd] if fd < len(self._of_fd) else NOBODY
                if index >= 0:
                    if self._states[index] == State.CONNECTING:
                        self._connected(index, fd)
                    else:
                        self._readable(index, fd)
                elif fd == STDIN:
                    self._read_commands()

    def _pause_s(self) -> float:
        """Timeout for `poll`: until something is due, or -1 if nothing is."""
        dues = [one for one in (self._comebacks.next_s, self._timeouts.next_s) if one is not None]
        return max(0.0, min(dues) - time.monotonic()) if dues else -1.0

    def _open_more(self, now: float) -> None:
        while (
            self._begun < self._allowed
            and self._targets
            and self._count[State.CONNECTING] + self._count[State.UPGRADING] < self._in_flight
        ):
            self._begun += 1
            self._attempt(self._begun - 1, now)

    def _read_commands(self) -> None:
        data = os.read(STDIN, 65_536)
        if not data:
            self._serving = False
            return
        verbs: dict[str, Callable[..., dict[str, Any]]] = {
            "begin": self.begin,
            "rotation": self.rotation,
            "open": self.open,
            "reset": self.reset,
            "tally": self.tally,
            "save": self.save,
        }
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            command = json.loads(line)
            answer = verbs[command.pop("do")](**command)
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()

    def _move(self, index: int, state: State) -> None:
        self._count[self._states[index]] -= 1
        self._count[state] += 1
        self._states[index] = state

    def _note(self, what: str) -> None:
        known = what in self._happened or len(self._happened) < MAX_REASONS
        self._happened[what if known else "other"] += 1

    # --- connecting -----------------------------------------------------------------------------

    def _attempt(self, index: int, now: float) -> None:
        """Connect to the replica with the fewest connections that does not refuse."""
        self._attempts[index] = (self._attempts[index] + 1) & 255
        for turn in sorted(range(len(self._targets)), key=self._fewest):
            if self._connect(index, turn):
                self._timeouts.add(now + OPEN_TIMEOUT_S, self._attempts[index] << 32 | index)
                return
        self._not_connected(index, "no replica accepts connections", None, 0.0)

    def _fewest(self, turn: int) -> int:
        return self._held[self._target_places[turn]]

    def _connect(self, index: int, turn: int) -> bool:
        """Start to connect; False if the replica refuses at once."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        # Use many source addresses and let `connect` choose the port, so that ports do not run out;
        # and close without TIME_WAIT.
        sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        source = self._made // PER_SOURCE % 250
        self._made += 1
        try:
            sock.bind((f"127.0.{1 + self._swarm}.{2 + source}", 0))
            status = sock.connect_ex(self._targets[turn])
        except OSError as error:
            status = error.errno or errno.EIO
        if status not in (0, errno.EINPROGRESS):
            sock.close()
            self._note(errno.errorcode.get(status, str(status)))
            return False
        fd = sock.detach()
        if fd >= len(self._of_fd):
            self._of_fd.extend([NOBODY] * (fd + 1024 - len(self._of_fd)))
        self._of_fd[fd] = index
        self._fd[index] = fd
        self._places[index] = place = self._target_places[turn]
        self._held[place] += 1
        # Over loopback it is connected at once, unless the backlog is full.
        try:
            os.write(fd, self._request(index))
        except BlockingIOError:
            self._move(index, State.CONNECTING)
            self._epoll.register(fd, select.EPOLLOUT)
            return True
        except OSError as error:
            self._forget_fd(index, fd)
            self._note(errno.errorcode.get(error.errno or 0, str(error)))
            return False
        self._move(index, State.UPGRADING)
        self._epoll.register(fd, select.EPOLLIN)
        return True

    def _request(self, index: int) -> bytes:
        place = path(self._first + index, share=self._share, operations=self._operations)
        if self._last_ms[index]:
            place += f"?last_event_id={self._last_ms[index]}-{self._last_seq[index]}"
        return upgrade_request(("127.0.0.1", 80), place)

    def _connected(self, index: int, fd: int) -> None:
        try:
            os.write(fd, self._request(index))
        except OSError as error:
            self._not_connected(index, errno.errorcode.get(error.errno or 0, "EIO"), None, 0.0)
            return
        self._move(index, State.UPGRADING)
        self._epoll.modify(fd, select.EPOLLIN)

    def _overdue(self, packed: int) -> None:
        index, attempt = packed & 0xFFFFFFFF, packed >> 32
        waits = self._states[index] in (State.CONNECTING, State.UPGRADING)
        if waits and self._attempts[index] == attempt:
            self._not_connected(index, "no answer", None, 0.0)

    def _forget_fd(self, index: int, fd: int) -> None:
        os.close(fd)  # which also removes it from the epoll
        self._of_fd[fd] = NOBODY
        self._fd[index] = NOBODY
        self._held[self._places[index]] -= 1
        self._rests.pop(index, None)

    def _not_connected(
        self, index: int, why: str, status: int | None, retry_after_s: float
    ) -> None:
        self._note(why)
        delay_s = after_refusal_s(
            status,
            failures=self._failures[index],
            retry_after_s=retry_after_s,
            uniform=random.uniform,
        )
        self._away_for(index, delay_s)

    def _lost(self, index: int, code: int) -> None:
        """An open connection has ended; 1006 if it was without a close frame."""
        self._note(f"close {code}" if code != ABNORMAL.code else "lost")
        delay_s = after_close_s(
            code,
            failures=self._failures[index],
            asked_ms=self._asked_ms.pop(index, None),
            uniform=random.uniform,
        )
        self._away_for(index, delay_s)

    def _away_for(self, index: int, delay_s: float | None) -> None:
        if (fd := self._fd[index]) != NOBODY:
            self._forget_fd(index, fd)
        if self._states[index] == State.OPEN:
            self._at_place[self._places[index]] -= 1
        if not self._away[index] and self._states[index] == State.OPEN:
            self._away[index] = (time.monotonic_ns() - self._epoch_ns) // 1_000_000
        self._failures[index] = min(self._failures[index] + 1, 16)
        if delay_s is None:
            self._move(index, State.GONE)
            return
        self._move(index, State.AWAY)
        self._comebacks.add(time.monotonic() + delay_s, index)

    # --- what arrives ---------------------------------------------------------------------------

    def _readable(self, index: int, fd: int) -> None:
        try:
            size = os.readv(fd, self._into)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if not size:
            if self._states[index] == State.OPEN:
                self._lost(index, ABNORMAL.code)
            else:
                self._not_connected(index, "closed without an answer", None, 0.0)
            return
        data = bytes(self._view[:size])
        if self._rests and (rest := self._rests.pop(index, None)) is not None:
            data = rest + data
        at = 0
        if self._states[index] == State.UPGRADING and data.startswith(b"HTTP"):
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._rests[index] = data
                return
            if data[9:12] != b"101":
                self._refused(index, data)
                return
            at = end + 4
        self._frames(index, fd, data, at)

    def _refused(self, index: int, head: bytes) -> None:
        status = head[9:12]
        at = head.lower().find(b"retry-after:")
        retry_after_s = float(head[at + 12 :].split(b"\r\n", 1)[0]) if at >= 0 else 0.0
        text = f"HTTP {status.decode('latin-1')}"
        self._not_connected(index, text, int(status) if status.isdigit() else None, retry_after_s)

    def _frames(self, index: int, fd: int, data: bytes, at: int) -> None:
        end = len(data)
        while end - at >= 2:
            size, start = data[at + 1], at + 2
            if size > 125:
                width = 2 if size == 126 else 8
                start += width
                if start > end:
                    break
                size = int.from_bytes(data[at + 2 : start])
            stop = start + size
            if stop > end:
                break
            opcode = data[at] & 15
            if opcode == 1:
                self._text(index, data, start, stop)
            elif opcode == 9:
                self._answer(fd, 0x8A, data[start:stop])
            elif opcode == 8:
                code = int.from_bytes(data[start : start + 2]) if size >= 2 else 1005
                self._answer(fd, 0x88, data[start : start + 2])
                self._lost(index, code)
                return
            at = stop
        if at < end:
            self._rests[index] = data[at:]

    def _answer(self, fd: int, first: int, payload: bytes) -> None:
        try:
            os.write(fd, bytes((first, 0x80 | len(payload), 0, 0, 0, 0)) + payload)
        except OSError:
            self._note("a reply could not be sent")  # the end of the connection is read next

    def _text(self, index: int, data: bytes, start: int, stop: int) -> None:
        mark = data.find(START, start, stop)
        if mark >= 0 and stop - mark >= LENGTH:
            self._entry(index, data, start, mark)
        elif data.find(b'"current_state"', start, stop) >= 0:
            self._welcomed(index, data, start, stop)
        elif (at := data.find(b'"after_ms":', start, stop)) >= 0:
            digits = data[at + 11 : stop].split(b"}", 1)[0].split(b",", 1)[0]
            self._asked_ms[index] = int(float(digits))
        else:
            for name in (b"gap", b"skipped", b"stale", b"error", b"live"):
                if data.find(b'"' + name + b'"', start, stop) >= 0:
                    self._note(name.decode())
                    break
            else:
                self._note("unknown frame")

    def _entry(self, index: int, data: bytes, start: int, mark: int) -> None:
        now = time.monotonic_ns()
        sent = int(data[mark + 2 : mark + 21])
        number = int(data[mark + 22 : mark + 30])
        expected = self._next[index]
        if expected != ANY and number < expected:
            self._repeated += 1
            return
        self._next[index] = number + 1
        self._failures[index] = 0
        self._remember(index, data, data.find(b'"id":"', start) + 6)
        if expected != ANY:
            self._missed += number - expected
        if sent >= self._since_ns:
            if self._delivered < len(self._delays):
                self._delays[self._delivered] = now - sent
                self._delivered += 1
                self._last_ns = now
            else:
                self._note("more deliveries than expected")

    def _remember(self, index: int, data: bytes, at: int) -> None:
        ms, _, seq = data[at : data.find(b'"', at)].partition(b"-")
        self._last_ms[index] = int(ms)
        self._last_seq[index] = int(seq)

    def _welcomed(self, index: int, data: bytes, start: int, stop: int) -> None:
        if self._states[index] != State.UPGRADING:
            return
        self._move(index, State.OPEN)
        self._failures[index] = 0
        self._at_place[self._places[index]] += 1
        if not self._last_ms[index]:
            # The cursor of a new viewer precedes its history: it resumes there until it has that.
            at = data.find(b'"cursor":"', start, stop)
            if at >= 0:
                self._remember(index, data, at + 10)
        if away := self._away[index]:
            self._away[index] = 0
            now = time.monotonic_ns()
            self._returned += 1
            self._back_ns = now
            if len(self._absences) < ABSENCES_EACH * len(self._states):
                self._absences.append(now - self._epoch_ns - away * 1_000_000)


if __name__ == "__main__":
    Swarm().serve()
