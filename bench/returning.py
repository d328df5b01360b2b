"""The process of viewers that come back: each resumes with its last id wherever it lands next.

Every number that a viewer was given is kept, so that in the end it can be compared with the stream
itself. Two habits: *polite* ones wait as long as `reconnect` told them and as `Retry-After` says;
*hasty* ones come back at once after a close, as a page does whose author thought of nothing.

    CONNECTING --current_state--> OPEN --close, reset--> AWAY --delay--> CONNECTING
                                    any --a close that says not to come back--> GONE

Commands are JSON lines on standard input, answers JSON lines on standard output:

    open     connect so many viewers, and wait until each had its first frame
    forget   start counting times again
    back     wait until nobody is away                                         -> counts
    judge    wait for what is missing, then compare with the streams in a file -> verdict
"""

import asyncio
import enum
import random
import time
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import orjson
import uvloop

from bench.commands import answer_commands
from bench.crowd import upgrade_request
from bench.mark import find_mark, operation_name
from bench.stats import percentile
from bench.users import sign_in
from tidegate.model.close_codes import ComeBack, come_back

IN_FLIGHT: Final = 64
BACKOFF_S: Final = 0.25
BACKOFF_MAX_S: Final = 4.0
#: A hasty viewer that found no way in tries again so soon.
HASTY_S: Final = 0.1
CONNECT_S: Final = 30.0
LOOK_S: Final = 0.05
DRAINING: Final = 1012


class State(enum.Enum):
    CONNECTING = enum.auto()
    OPEN = enum.auto()
    AWAY = enum.auto()
    GONE = enum.auto()


class Viewer:
    """One viewer over all its connections."""

    __slots__ = (
        *("after_ms", "away_since", "failures", "headers", "last_id", "longest_away_s"),
        *("operation", "seen", "state", "worst_late_ns"),
    )

    def __init__(self, operation: str, headers: Mapping[str, str]) -> None:
        self.operation = operation
        self.headers = headers
        self.seen = array("I")
        self.last_id = ""
        self.state = State.CONNECTING
        self.after_ms: int | None = None
        self.away_since: float | None = None
        self.longest_away_s = 0.0
        self.worst_late_ns = 0
        self.failures = 0


class Verdict(NamedTuple):
    """What one viewer saw against what was written."""

    lost: int
    twice: int
    disordered: int
    unknown: int


def compare(seen: Sequence[int], written: Sequence[int]) -> Verdict:
    """Pure. `written` has each number once."""
    if list(seen) == list(written):
        return Verdict(0, 0, 0, 0)
    place = {number: index for index, number in enumerate(written)}
    known: set[int] = set()
    twice = disordered = unknown = 0
    furthest = -1
    for number in seen:
        if number not in place:
            unknown += 1
        elif number in known:
            twice += 1
        else:
            known.add(number)
            disordered += place[number] < furthest
            furthest = max(furthest, place[number])
    return Verdict(len(written) - len(known), twice, disordered, unknown)


class Connection(asyncio.Protocol):
    """One connection of a viewer: just enough of WebSocket."""

    def __init__(self, crowd: "Returning", viewer: Viewer) -> None:
        self._crowd = crowd
        self._viewer = viewer
        self._rest = b""
        self._upgraded = False
        self._code: int | None = None
        self._retry_s: float | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast: uvloop's transports are no subclasses of asyncio's.
        self._transport = tcp = cast("asyncio.Transport", transport)
        viewer = self._viewer
        after = f"last_event_id={viewer.last_id}" if viewer.last_id else "history=all"
        path = f"/ws/operations/{viewer.operation}?{after}"
        tcp.write(upgrade_request(("127.0.0.1", self._crowd.port), path, viewer.headers))

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        if not self._upgraded:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._rest = head
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self._refused(head)
                return
            self._upgraded = True
        self._rest = self._frames(data)

    def _refused(self, head: bytes) -> None:
        self._crowd.happened[f"HTTP {head[9:12].decode('latin-1')}"] += 1
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"retry-after":
                self._retry_s = float(value)
        self._close()

    def _frames(self, data: bytes) -> bytes:
        at = 0
        while len(data) - at >= 2:
            opcode, size, start = data[at] & 15, data[at + 1], at + 2
            if size > 125:
                width = 2 if size == 126 else 8
                start += width
                if len(data) < start:
                    break
                size = int.from_bytes(data[at + 2 : start])
            if len(data) < start + size:
                break
            at = start + size
            self._take(opcode, data[start:at])
        return data[at:]

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == 1:
            self._crowd.text(self._viewer, payload)
        elif opcode == 9:
            self._write(0x8A, payload)
        elif opcode == 8:
            self._code = int.from_bytes(payload[:2]) if len(payload) >= 2 else 1005
            self._write(0x88, payload[:2])
            # The server ends the connection; if it cannot, the viewer does not wait for it.
            asyncio.get_running_loop().call_later(CONNECT_S, self._close)

    def _write(self, first: int, payload: bytes) -> None:
        if self._transport is not None:
            self._transport.write(bytes((first, 0x80 | len(payload), 0, 0, 0, 0)) + payload)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        self._crowd.lost(self._viewer, self._code, self._retry_s)


class Returning:
    """All viewers of a run."""

    def __init__(self) -> None:
        self.port = 0
        self.viewers: list[Viewer] = []
        self.happened: Counter[str] = Counter()
        self.away_s: list[float] = []
        self._polite = True
        self._free = asyncio.Semaphore(IN_FLIGHT)
        self._attempts: set[asyncio.Task[None]] = set()

    # --- commands -------------------------------------------------------------------------------

    async def open(
        self,
        *,
        port: int,
        viewers: int,
        operations: int,
        polite: bool,
        secret: str,
        connections_per_user: int,
        deadline_s: float,
    ) -> dict[str, Any]:
        self.port, self._polite = port, polite
        for index in range(viewers):
            headers = sign_in(secret, f"user-{index // connections_per_user}") if secret else {}
            viewer = Viewer(operation_name(index % operations), headers)
            self.viewers.append(viewer)
            await self._free.acquire()
            self._connect(viewer)
        return await self.back(deadline_s=deadline_s)

    async def forget(self) -> dict[str, Any]:
        self.happened.clear()
        self.away_s.clear()
        for viewer in self.viewers:
            viewer.longest_away_s, viewer.worst_late_ns = 0.0, 0
        return {}

    async def back(self, *, deadline_s: float) -> dict[str, Any]:
        await _until(lambda: self._count(State.OPEN) == len(self.viewers), deadline_s)
        return {
            "open": self._count(State.OPEN),
            "viewers": len(self.viewers),
            "happened": dict(self.happened),
        }

    async def judge(self, *, streams: str, deadline_s: float) -> dict[str, Any]:
        written: dict[str, list[tuple[str, int]]] = orjson.loads(_read(streams))
        await _until(
            lambda: all(
                viewer.state is State.GONE or len(viewer.seen) >= len(written[viewer.operation])
                for viewer in self.viewers
            ),
            deadline_s,
        )
        verdicts = []
        elsewhere = 0
        for viewer in self.viewers:
            truth = written[viewer.operation]
            verdicts.append(compare(viewer.seen, [number for _, number in truth]))
            elsewhere += bool(truth) and viewer.last_id != truth[-1][0]
        return {
            "entries": sum(len(viewer.seen) for viewer in self.viewers),
            "lost": sum(one.lost for one in verdicts),
            "twice": sum(one.twice for one in verdicts),
            "disordered": sum(one.disordered for one in verdicts),
            "unknown": sum(one.unknown for one in verdicts),
            "last_id_differs": elsewhere,
            "open": self._count(State.OPEN),
            "happened": dict(self.happened),
            "came_back": len(self.away_s),
            "away_s": _summary(self.away_s),
            "longest_away_s": _summary([viewer.longest_away_s for viewer in self.viewers]),
            "worst_late_s": _summary([viewer.worst_late_ns / 1e9 for viewer in self.viewers]),
        }

    def _count(self, state: State) -> int:
        return sum(viewer.state is state for viewer in self.viewers)

    # --- what happens to viewers ----------------------------------------------------------------

    def _connect(self, viewer: Viewer) -> None:
        viewer.state = State.CONNECTING
        task = asyncio.get_running_loop().create_task(self._attempt(viewer))
        self._attempts.add(task)
        task.add_done_callback(self._attempts.discard)

    async def _attempt(self, viewer: Viewer) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                await asyncio.get_running_loop().create_connection(
                    lambda: Connection(self, viewer), "127.0.0.1", self.port
                )
        except (OSError, TimeoutError) as error:
            self.happened[type(error).__name__] += 1
            self.lost(viewer, None, None)

    def text(self, viewer: Viewer, payload: bytes) -> None:
        """A frame from the gateway."""
        frame = orjson.loads(payload)
        if "id" in frame:
            mark = find_mark(payload)
            if mark is not None:
                viewer.seen.append(mark.number)
                late = time.monotonic_ns() - mark.sent_ns
                viewer.worst_late_ns = max(viewer.worst_late_ns, late)
            viewer.last_id = frame["id"]
            return
        match frame["type"]:
            case "current_state":
                viewer.last_id = viewer.last_id or frame["cursor"]
                self._welcomed(viewer)
            case "reconnect":
                viewer.after_ms = frame["data"]["after_ms"]
            case "error":
                self.happened[f"error {frame['data']['code']}"] += 1
            case other:
                self.happened[other] += 1

    def _welcomed(self, viewer: Viewer) -> None:
        viewer.state = State.OPEN
        viewer.failures = 0
        if viewer.away_since is None:
            self._free.release()
            return
        away_s = time.monotonic() - viewer.away_since
        viewer.away_since = None
        viewer.longest_away_s = max(viewer.longest_away_s, away_s)
        self.away_s.append(away_s)

    def lost(self, viewer: Viewer, code: int | None, retry_s: float | None) -> None:
        """Its connection has ended; `code` is None when nobody said goodbye."""
        if code is not None:
            self.happened[f"close {code}"] += 1
        if viewer.state is State.OPEN:
            viewer.away_since = time.monotonic()
        else:
            viewer.failures += 1
        told_ms, viewer.after_ms = viewer.after_ms, None
        if code is not None and come_back(code) is ComeBack.NO:
            if viewer.state is State.CONNECTING and viewer.away_since is None:
                self._free.release()  # it never got in
            viewer.state = State.GONE
            return
        viewer.state = State.AWAY
        delay_s = self._delay_s(viewer.failures, code, told_ms, retry_s)
        asyncio.get_running_loop().call_later(delay_s, self._connect, viewer)

    def _delay_s(
        self, failures: int, code: int | None, told_ms: int | None, retry_s: float | None
    ) -> float:
        if not self._polite:
            return 0.0 if code == DRAINING else HASTY_S
        if told_ms is not None:
            return told_ms / 1000
        base_s = min(BACKOFF_S * 2**failures, BACKOFF_MAX_S) if retry_s is None else retry_s
        return base_s * random.uniform(0.5, 1.5)


async def _until(holds: Callable[[], bool], deadline_s: float) -> None:
    """Look now and then: an event per viewer and entry would cost more than the load itself."""
    deadline = time.monotonic() + deadline_s
    while not holds() and time.monotonic() < deadline:  # noqa: ASYNC110 - see above
        await asyncio.sleep(LOOK_S)


def _summary(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values) or [0.0]
    return {"p50": percentile(ordered, 50), "p99": percentile(ordered, 99), "max": ordered[-1]}


def _read(path: str) -> bytes:
    return Path(path).read_bytes()


async def serve() -> None:
    """Answer commands until standard input ends."""
    crowd = Returning()
    await answer_commands(
        {"open": crowd.open, "forget": crowd.forget, "back": crowd.back, "judge": crowd.judge}
    )


if __name__ == "__main__":
    uvloop.run(serve())
