"""A plain TCP load balancer for the demo: round robin over the replicas that are ready.

It knows nothing of HTTP: it asks each replica's `/readyz`, picks the next one for each connection,
and carries bytes both ways with the backpressure of both sides. A replica that refuses the
connection is passed over, as any balancer does. When each connection reached which replica is kept,
since that is what the demo is about.
"""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

CHECK_EVERY_S: Final = 0.5
CHECK_TIMEOUT_S: Final = 2.0
# Both ways together; a viewer's updates are far smaller.
HIGH_WATER_BYTES: Final = 65_536
BACKLOG: Final = 4096


@dataclass(slots=True)
class Backend:
    """One replica; `connected_s` are the moments (monotonic) at which connections reached it."""

    port: int
    admin_port: int
    in_rotation: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    connected_s: list[float] = field(default_factory=list)

    async def until(self, *, in_rotation: bool) -> None:
        """Wait until the readiness checks have seen this."""
        while self.in_rotation is not in_rotation:
            self.changed.clear()
            await self.changed.wait()


class Balancer:
    """Use as an async context manager; `port` is where viewers connect."""

    def __init__(self, backends: Sequence[Backend]) -> None:
        self.backends = backends
        self.port = 0
        self._turn = 0
        self._work: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "Balancer":
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Side(self), "127.0.0.1", 0, backlog=BACKLOG
        )
        self.port = self._server.sockets[0].getsockname()[1]
        for backend in self.backends:
            self._start(self._check(backend))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)

    # --- connections ----------------------------------------------------------------------------

    def accepted(self, front: "_Side") -> None:
        self._start(self._join(front))

    async def _join(self, front: "_Side") -> None:
        """Connect the next replica that takes it, and let the bytes flow."""
        loop = asyncio.get_running_loop()
        for _ in range(len(self.backends)):
            backend = self._next()
            if backend is None:
                break
            try:
                _, back = await loop.create_connection(
                    lambda: _Side(None, front), "127.0.0.1", backend.port
                )
            except OSError:
                continue
            backend.connected_s.append(time.monotonic())
            front.meet(back)
            return
        front.end()

    def _next(self) -> Backend | None:
        ready = [backend for backend in self.backends if backend.in_rotation]
        if not ready:
            return None
        self._turn += 1
        return ready[self._turn % len(ready)]

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    # --- checks ---------------------------------------------------------------------------------

    async def _check(self, backend: Backend) -> None:
        while True:
            ready = await is_ready(backend.admin_port)
            if ready is not backend.in_rotation:
                backend.in_rotation = ready
                backend.changed.set()
            await asyncio.sleep(CHECK_EVERY_S)


class _Side(asyncio.Protocol):
    """One half of a connection; bytes that come before its other half is there are kept."""

    def __init__(self, owner: Balancer | None, other: "_Side | None" = None) -> None:
        self._owner = owner
        self._other = other
        # Not `pause_reading`: uvloop starts to read after `connection_made` all the same.
        self._early: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast: uvloop's transports are no subclasses of asyncio's.
        self._transport = tcp = cast("asyncio.Transport", transport)
        tcp.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        if self._owner is not None:
            self._owner.accepted(self)

    def meet(self, other: "_Side") -> None:
        """The other half is here."""
        self._other = other
        if self._gone:
            other.end()
        early, self._early = self._early, []
        for data in early:
            other.write(data)

    def data_received(self, data: bytes) -> None:
        if self._other is not None:
            self._other.write(data)
        elif sum(map(len, self._early)) < HIGH_WATER_BYTES:
            self._early.append(data)
        else:
            self.end()  # nobody says so much before it is answered

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def pause_writing(self) -> None:
        if self._other is not None:
            self._other.hold(stop=True)

    def resume_writing(self) -> None:
        if self._other is not None:
            self._other.hold(stop=False)

    def hold(self, *, stop: bool) -> None:
        """Read no more, or again: the other half is full, or has drained."""
        if self._transport is not None and not self._transport.is_closing():
            if stop:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def end(self) -> None:
        """Send what is left, and close."""
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        self._gone = True
        other, self._other = self._other, None
        if other is not None:
            other.end()


async def is_ready(admin_port: int) -> bool:
    """Whether `/readyz` of this replica answers 200."""
    request = b"GET /readyz HTTP/1.1\r\nHost: replica\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", admin_port)
            try:
                writer.write(request)
                return (await reader.read(12)) == b"HTTP/1.1 200"
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


def peak(moments: Sequence[float], window_s: float) -> int:
    """The most of these ascending moments within any half-open window of this length."""
    return max(
        (
            at + 1 - bisect_left(moments, moment - window_s + 1e-9)
            for at, moment in enumerate(moments)
        ),
        default=0,
    )
