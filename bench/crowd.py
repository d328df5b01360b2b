"""Thousands of viewers in one thread: non-blocking sockets under one epoll, and little more.

A viewer shakes hands, takes the first frame as its welcome, and from then on only looks for the
mark in each text frame: is it the next of its operation, and how long was it under way. It answers
pings and closes, and speaks nothing else of WebSocket: no compression, no fragments (both are
counted as `other`). Over server-sent events (`Way.EVENTS`) it is the same with HTTP's words.

    state     | what arrives            | next
    ----------|-------------------------|--------------------------------------
    CONNECTING| writable                | UPGRADING, the request is sent
    UPGRADING | 101 and the first frame | OPEN, `on_open`
    UPGRADING | 101, multiplexed        | WATCHING, its operations are asked for
    WATCHING  | a first frame of each   | OPEN, `on_open`
    OPEN      | marked frames           | OPEN, counted; `on_goal` at its goal
    LEAVING   | the end of the server's | CLOSED, `on_lost`
    any       | close, reset, refusal   | CLOSED, `on_lost`

Invariant: a delivery counts once, and only if it is the next of its operation for that viewer or
the first after a hole. So `delivered < expected` whenever anything was lost, repeated or out of
order.

Own code, because it was cheaper than the fastest client there is: picows 2.3 on uvloop took 8.4 us
of CPU per frame and 342 us per connection, this loop 7.3 and 65 (2,000 viewers of one operation,
CPython 3.11).
"""

import enum
import errno
import select
import socket
import time
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from bench.mark import LENGTH, START
from bench.ways import (
    CENTRIFUGO_PING,
    OPERATION,
    Way,
    centrifugo_message,
    centrifugo_pong,
    events_request,
    watch_message,
)

BUFFER_BYTES: Final = 1 << 20
# One source address has about 28,000 ports to one destination; stay well below.
VIEWERS_PER_SOURCE: Final = 12_000
IP_BIND_ADDRESS_NO_PORT: Final = 24  # Linux; not named in Python's socket module before 3.13
NEVER: Final = 1 << 62
#: A close of 1000, with a mask of zeros, and the reason of the end that follows.
LEAVES: Final = b"\x88\x82\0\0\0\0\x03\xe8"
LEFT: Final = "left"
# Reasons are texts from the server: keep a bounded number of different ones.
MAX_REASONS: Final = 50


class State(enum.Enum):
    CONNECTING = enum.auto()
    UPGRADING = enum.auto()
    WATCHING = enum.auto()
    OPEN = enum.auto()
    LEAVING = enum.auto()
    CLOSED = enum.auto()


class Viewer:
    """One connection: `next` is the number of the entry it expects, `goal` where it has enough.

    A multiplexed one has a `next` for each operation, and `unseen` operations that have not begun.
    """

    __slots__ = (
        "goal",
        "next",
        "nexts",
        "request",
        "rest",
        "sock",
        "started_ns",
        "state",
        "unseen",
        "way",
    )

    def __init__(
        self,
        sock: socket.socket,
        request: bytes,
        goal: int,
        way: Way = Way.SOCKET,
        operations: Sequence[str] = (),
    ) -> None:
        self.sock = sock
        self.way = way
        self.nexts = {operation.encode(): 0 for operation in operations}
        self.unseen = len(operations)
        self.request = request
        self.goal = goal
        self.state = State.CONNECTING
        self.rest = b""
        self.next = 0
        self.started_ns = time.monotonic_ns()


class Window:
    """What was received since `reset`: bounded, and allocated before it starts."""

    def __init__(self) -> None:
        self.reset(0)

    def reset(self, capacity: int) -> None:
        """Count from now on, and keep the latencies of `capacity` deliveries."""
        self.latencies_ns = array("q", bytes(8 * capacity))
        self.delivered = 0
        self.repeated = 0
        self.missed = 0
        self.overflow = 0
        self.other: Counter[str] = Counter()
        self.last_ns = 0
        self.since_ns = time.monotonic_ns() if capacity else NEVER


class Crowd:
    """The viewers, and the loop that serves them. Nothing here waits except `poll`."""

    def __init__(self) -> None:
        self.window = Window()
        self.viewers: dict[int, Viewer] = {}
        self.opened = 0
        self.lost: Counter[str] = Counter()
        self.on_open: Callable[[Viewer], None] = _nothing
        self.on_goal: Callable[[Viewer], None] = _nothing
        self.on_lost: Callable[[Viewer], None] = _nothing
        self.on_extra: Callable[[int], None] = _nothing
        self._epoll = select.epoll()
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._made = 0
        self._welcomes = {
            Way.SOCKET: self._welcome,
            Way.MANY: self._welcome_many,
            Way.EVENTS: self._welcome_events,
            Way.CENTRIFUGO: self._welcome_many,
        }

    # --- opening and closing --------------------------------------------------------------------

    def open(
        self,
        address: tuple[str, int],
        path: str,
        *,
        goal: int = 0,
        way: Way = Way.SOCKET,
        operations: Sequence[str] = (),
        more: Mapping[str, str] | None = None,
    ) -> Viewer:
        """Start one connection; `on_open` or `on_lost` tells how it went.

        `operations` are those that a multiplexed one watches, `more` are headers.
        """
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        if address[0].startswith("127."):
            # Spread over loopback addresses, with the port chosen by `connect`, so that
            # ports do not run out; one connection to 127.0.0.1 looks like any other.
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((f"127.0.0.{2 + self._made // VIEWERS_PER_SOURCE % 200}", 0))
        self._made += 1
        if way is Way.EVENTS:
            request = events_request(address, path)
        else:
            request = upgrade_request(address, path, more)
        viewer = Viewer(sock, request, goal, way, operations)
        status = sock.connect_ex(address)
        if status not in (0, errno.EINPROGRESS):
            self._lose(viewer, errno.errorcode.get(status, str(status)))
            return viewer
        self.viewers[sock.fileno()] = viewer
        self._epoll.register(sock.fileno(), select.EPOLLOUT)
        return viewer

    def close(self, viewer: Viewer) -> None:
        """Drop the connection at once, leaving no TIME_WAIT behind."""
        if viewer.state is State.CLOSED:
            return
        viewer.state = State.CLOSED
        self.viewers.pop(viewer.sock.fileno(), None)
        viewer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        viewer.sock.close()

    def leave(self, viewer: Viewer) -> None:
        """Close it as a browser does; `on_lost` tells when the server has ended the connection."""
        viewer.state = State.LEAVING
        self._send(viewer, LEAVES)

    def close_all(self) -> None:
        for viewer in list(self.viewers.values()):
            self.close(viewer)

    def watch_extra(self, fd: int) -> None:
        """Have `on_extra` called when `fd`, not a viewer's, can be read."""
        self._epoll.register(fd, select.EPOLLIN)

    def _lose(self, viewer: Viewer, reason: str) -> None:
        known = reason in self.lost or len(self.lost) < MAX_REASONS
        self.lost[reason if known else "other reasons"] += 1
        self.close(viewer)
        self.on_lost(viewer)

    # --- the loop -------------------------------------------------------------------------------

    def poll(self, timeout_s: float) -> None:
        """Serve what is ready; wait up to `timeout_s` for something to be."""
        viewers = self.viewers
        for fd, _ in self._epoll.poll(timeout_s, 1024):
            viewer = viewers.get(fd)
            if viewer is None:
                self.on_extra(fd)
            elif viewer.state is State.CONNECTING:
                self._connected(viewer)
            else:
                self._readable(viewer)

    def _connected(self, viewer: Viewer) -> None:
        status = viewer.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if status:
            self._lose(viewer, errno.errorcode.get(status, str(status)))
            return
        viewer.state = State.UPGRADING
        self._epoll.modify(viewer.sock.fileno(), select.EPOLLIN)
        self._send(viewer, viewer.request)

    def _send(self, viewer: Viewer, data: bytes) -> None:
        # A few hundred bytes on a connection that sends next to nothing: it fits, or it is broken.
        try:
            viewer.sock.send(data)
        except OSError as error:
            self._lose(viewer, errno.errorcode.get(error.errno or 0, str(error)))

    def _readable(self, viewer: Viewer) -> None:
        if viewer.state is State.LEAVING:
            self._until_end(viewer)
            return
        # What is left of the last read goes in front of the shared buffer: no joining of bytes.
        buffer = self._buffer
        kept = len(viewer.rest)
        if kept:
            buffer[:kept] = viewer.rest
            viewer.rest = b""
        try:
            end = kept + viewer.sock.recv_into(self._view[kept:] if kept else self._view)
        except BlockingIOError:
            viewer.rest = bytes(self._view[:kept])
            return
        except OSError as error:
            self._lose(viewer, errno.errorcode.get(error.errno or 0, str(error)))
            return
        if end == kept:
            self._lose(viewer, "closed without a close frame")
            return
        start = 0
        if viewer.state is State.UPGRADING:
            welcomed = self._welcomes[viewer.way](viewer, end)
            if welcomed is None:
                return
            start = welcomed
        if viewer.way is Way.SOCKET:
            self._frames(viewer, start, end)
        elif viewer.way is Way.MANY:
            self._many_frames(viewer, start, end)
        elif viewer.way is Way.CENTRIFUGO:
            self._centrifugo_frames(viewer, start, end)
        else:
            self._events(viewer, start, end)
        if viewer.goal and viewer.next >= viewer.goal and viewer.state is State.OPEN:
            self.on_goal(viewer)

    def _until_end(self, viewer: Viewer) -> None:
        try:
            if viewer.sock.recv_into(self._view):
                return
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(viewer, errno.errorcode.get(error.errno or 0, str(error)))
            return
        self._lose(viewer, LEFT)

    def _welcome(self, viewer: Viewer, end: int) -> int | None:
        """Where the second frame begins, once the answer and the first frame are whole."""
        head_end = self._buffer.find(b"\r\n\r\n", 0, end)
        if head_end >= 0:
            status = bytes(self._buffer[9:12])
            if status != b"101":
                self._lose(viewer, f"HTTP {status.decode('latin-1')} instead of 101")
                return None
            span = _frame_span(self._buffer, head_end + 4, end)
            if span is not None:
                start, stop = span
                payload = bytes(self._buffer[start:stop])
                if self._buffer[head_end + 4] & 15 != 1:
                    self._lose(viewer, _close_reason(payload))
                    return None
                if b"current_state" not in payload:
                    self._lose(viewer, f"refused: {payload[:200].decode(errors='replace')}")
                    return None
                viewer.state = State.OPEN
                self.opened += 1
                self.on_open(viewer)
                return stop
        viewer.rest = bytes(self._view[:end])
        return None

    def _welcome_many(self, viewer: Viewer, end: int) -> int | None:
        """Where the first frame begins; its operations are asked for now."""
        head_end = self._buffer.find(b"\r\n\r\n", 0, end)
        if head_end < 0:
            viewer.rest = bytes(self._view[:end])
            return None
        if bytes(self._buffer[9:12]) != b"101":
            self._lose(viewer, f"HTTP {bytes(self._buffer[9:12]).decode('latin-1')} instead of 101")
            return None
        viewer.state = State.WATCHING
        ask = centrifugo_message if viewer.way is Way.CENTRIFUGO else watch_message
        self._send(viewer, b"".join(ask(name) for name in viewer.nexts))
        return head_end + 4 if viewer.state is State.WATCHING else None

    def _welcome_events(self, viewer: Viewer, end: int) -> int | None:
        """Where the second event begins, once the answer and the first event are whole."""
        head_end = self._buffer.find(b"\r\n\r\n", 0, end)
        if head_end >= 0:
            status = bytes(self._buffer[9:12])
            if status != b"200":
                self._lose(viewer, f"HTTP {status.decode('latin-1')} instead of 200")
                return None
            first = self._buffer.find(b"current_state", head_end, end)
            stop = -1 if first < 0 else self._buffer.find(b"\n\n", first, end)
            if stop >= 0:
                viewer.state = State.OPEN
                self.opened += 1
                self.on_open(viewer)
                return stop + 2
        viewer.rest = bytes(self._view[:end])
        return None

    def _frames(self, viewer: Viewer, at: int, end: int) -> None:
        buffer = self._buffer
        window = self.window
        now = time.monotonic_ns()
        while end - at >= 2:
            size = buffer[at + 1]
            start = at + 2
            if size > 125:
                span = _frame_span(buffer, at, end)
                if span is None:
                    break
                start, stop = span
            else:
                stop = start + size
                if stop > end:
                    break
            mark = buffer.find(START, start, stop)
            if mark < 0 or stop - mark < LENGTH:
                self._other(viewer, buffer[at] & 15, bytes(buffer[start:stop]))
                if viewer.state is not State.OPEN:
                    return
            else:
                sent = int(buffer[mark + 2 : mark + 21])
                number = int(buffer[mark + 22 : mark + 30])
                expected = viewer.next
                if number < expected:
                    window.repeated += 1
                else:
                    viewer.next = number + 1
                    if sent >= window.since_ns:
                        window.missed += number - expected
                        count = window.delivered
                        window.delivered = count + 1
                        window.last_ns = now
                        if count < len(window.latencies_ns):
                            window.latencies_ns[count] = now - sent
                        else:
                            window.overflow += 1
            at = stop
        if at < end:
            viewer.rest = bytes(self._view[at:end])

    def _many_frames(self, viewer: Viewer, at: int, end: int) -> None:
        """As `_frames`, with a number to expect for each operation."""
        buffer = self._buffer
        now = time.monotonic_ns()
        while (span := _frame_span(buffer, at, end)) is not None:
            start, stop = span
            mark = buffer.find(START, start, stop)
            if mark >= 0 and stop - mark >= LENGTH:
                name = buffer.find(OPERATION, start, mark) + len(OPERATION)
                operation = bytes(buffer[name : buffer.find(b'"', name, mark)])
                viewer.nexts[operation] = self._count(mark, viewer.nexts[operation], now)
            elif viewer.unseen and buffer.find(b'"current_state"', start, stop) >= 0:
                viewer.unseen -= 1
                if not viewer.unseen:
                    viewer.state = State.OPEN
                    self.opened += 1
                    self.on_open(viewer)
            else:
                self._other(viewer, buffer[at] & 15, bytes(buffer[start:stop]))
                if viewer.state is State.CLOSED:
                    return
            at = stop
        if at < end:
            viewer.rest = bytes(self._view[at:end])

    def _centrifugo_frames(self, viewer: Viewer, at: int, end: int) -> None:
        """Centrifugo joins messages that are due at the same time into one frame."""
        buffer = self._buffer
        now = time.monotonic_ns()
        while (span := _frame_span(buffer, at, end)) is not None:
            start, stop = span
            mark = buffer.find(START, start, stop)
            if mark >= 0:
                while mark >= 0 and stop - mark >= LENGTH:
                    viewer.next = self._count(mark, viewer.next, now)
                    mark = buffer.find(START, mark + LENGTH, stop)
            elif viewer.unseen and buffer.find(b'"subscribe":{', start, stop) >= 0:
                viewer.unseen = 0
                viewer.state = State.OPEN
                self.opened += 1
                self.on_open(viewer)
            elif buffer[start:stop] == CENTRIFUGO_PING:
                self._send(viewer, centrifugo_pong())
            elif buffer.find(b'"connect":{', start, stop) < 0:
                self._other(viewer, buffer[at] & 15, bytes(buffer[start:stop]))
            if viewer.state is State.CLOSED:
                return
            at = stop
        if at < end:
            viewer.rest = bytes(self._view[at:end])

    def _events(self, viewer: Viewer, at: int, end: int) -> None:
        """Server-sent events; what frames the chunks of the response does not matter here."""
        buffer = self._buffer
        now = time.monotonic_ns()
        while (stop := buffer.find(b"\n\n", at, end)) >= 0:
            mark = buffer.find(START, at, stop)
            if mark >= 0 and stop - mark >= LENGTH:
                viewer.next = self._count(mark, viewer.next, now)
            elif (data := buffer.find(b"data: ", at, stop)) >= 0:
                self._other(viewer, 1, bytes(buffer[data:stop]))
            at = stop + 2
        if at < end:
            viewer.rest = bytes(self._view[at:end])

    def _count(self, mark: int, expected: int, now: int) -> int:
        """Count the delivery with this mark; the number that is expected next. `_frames` has the
        same in line, because it is the hot one.
        """
        window = self.window
        sent = int(self._buffer[mark + 2 : mark + 21])
        number = int(self._buffer[mark + 22 : mark + 30])
        if number < expected:
            window.repeated += 1
            return expected
        if sent >= window.since_ns:
            window.missed += number - expected
            if window.delivered < len(window.latencies_ns):
                window.latencies_ns[window.delivered] = now - sent
            else:
                window.overflow += 1
            window.delivered += 1
            window.last_ns = now
        return number + 1

    def _other(self, viewer: Viewer, opcode: int, payload: bytes) -> None:
        """A frame that is no entry: rare, so it may be slow."""
        if opcode == 9:
            self._send(viewer, bytes((0x8A, 0x80 | len(payload), 0, 0, 0, 0)) + payload)
        elif opcode == 8:
            self._lose(viewer, _close_reason(payload))
        elif opcode == 1:
            self.window.other[_type_of(payload)] += 1
        else:
            self.window.other[f"opcode {opcode}"] += 1


def upgrade_request(
    address: tuple[str, int], path: str, more: Mapping[str, str] | None = None
) -> bytes:
    """The handshake, with `more` headers. The key may be constant: nobody could replay it."""
    headers = "".join(f"{name}: {value}\r\n" for name, value in (more or {}).items())
    return (
        f"GET {path} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: tidegate.v1\r\n"
        f"{headers}\r\n"
    ).encode()


def _frame_span(buffer: bytearray, at: int, end: int) -> tuple[int, int] | None:
    """Start and end of the payload of the frame at `at`, or None when it is not whole yet."""
    if end - at < 2:
        return None
    size = buffer[at + 1]
    start = at + 2
    if size == 126:
        start = at + 4
        size = int.from_bytes(buffer[at + 2 : start])
    elif size == 127:
        start = at + 10
        size = int.from_bytes(buffer[at + 2 : start])
    stop = start + size
    return None if stop > end else (start, stop)


def _close_reason(payload: bytes) -> str:
    code = int.from_bytes(payload[:2]) if len(payload) >= 2 else 1005
    return f"closed with {code} {payload[2:60].decode(errors='replace')}".rstrip()


def _type_of(payload: bytes) -> str:
    """The frame's type for the report, by searching: not worth a JSON parser."""
    for name in (b"gap", b"skipped", b"stale", b"live", b"error", b"reconnect", b"current_state"):
        if b'"' + name + b'"' in payload:
            return name.decode()
    return "unknown"


def _nothing(_: object) -> None:
    """Nobody listens."""
