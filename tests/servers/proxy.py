"""A TCP proxy on the loopback address that does to connections what networks do.

| call                | what the two ends see                                               |
|---------------------|---------------------------------------------------------------------|
| `cut()`             | reset by peer, on every connection that is open now                 |
| `await refuse()`    | connection refused, until `await accept()`; open ones stay          |
| `way.delay(s)`      | bytes arrive that much later, in order; throughput is not limited   |
| `way.stall()`       | nobody reads: the sender's buffers fill, until `way.flow()`         |
| `way.swallow()`     | bytes and closes vanish (a dead link), until `way.flow()`           |
| `way.filter = make` | `make()` gives a `bytes -> bytes` per connection, see `relay_loss`  |

`way` is `proxy.up` (client to server) or `proxy.down`. Runs in the loop that started it. What is
held back is bounded: past `HELD_BYTES` the proxy stops reading, as a real link would.
"""

import asyncio
import contextlib
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Self, cast

from tests.servers.ports import free_port

HELD_BYTES = 1 << 20
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s

Filter = Callable[[bytes], bytes]


class _End(Enum):
    """What may follow the last byte of a lane."""

    HALF_CLOSE = 1
    CLOSE = 2


class Way:
    """The knobs of one direction; they act on open connections and on those to come."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.stalled = False
        self.swallowing = False
        self.filter: Callable[[], Filter] | None = None
        self.bytes = 0
        self.swallowed = 0
        self.lanes: set[_Lane] = set()

    def delay(self, seconds: float) -> None:
        self.delay_s = seconds

    def stall(self) -> None:
        self._set(stalled=True, swallowing=False)

    def swallow(self) -> None:
        self._set(stalled=False, swallowing=True)

    def flow(self) -> None:
        """The end of `stall` and `swallow`. What was swallowed stays lost."""
        self._set(stalled=False, swallowing=False)

    def _set(self, *, stalled: bool, swallowing: bool) -> None:
        self.stalled, self.swallowing = stalled, swallowing
        for lane in list(self.lanes):
            lane.govern()


class _Lane:
    """The bytes of one connection in one direction: held for the delay, then written."""

    def __init__(
        self,
        way: Way,
        source: asyncio.Transport,
        sink: asyncio.Transport,
        on_end: Callable[[], None],
    ) -> None:
        self._way, self._source, self._sink, self._on_end = way, source, sink, on_end
        self.ended = False
        self._filter = way.filter() if way.filter is not None else None
        self._held: deque[tuple[float, bytes | _End]] = deque()
        self._held_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._swallowed_end: _End | None = None
        self.sink_full = False
        way.lanes.add(self)
        self.govern()

    def feed(self, data: bytes) -> None:
        if self._way.swallowing:
            self._way.swallowed += len(data)
            return
        if self._filter is not None:
            data = self._filter(data)
        if data:
            self._way.bytes += len(data)
            self._hold(data, len(data))

    def end(self, how: _End) -> None:
        if self._way.swallowing:
            self._swallowed_end = how
        else:
            self._hold(how, 0)

    def drop(self) -> None:
        self._way.lanes.discard(self)
        self._held.clear()
        if self._timer is not None:
            self._timer.cancel()

    def govern(self) -> None:
        """Read from the source, or do not, as things are now."""
        if self._swallowed_end is not None and not self._way.swallowing:
            how, self._swallowed_end = self._swallowed_end, None
            self._hold(how, 0)
        if self._source.is_closing():
            return
        if self._way.stalled or self.sink_full or self._held_bytes > HELD_BYTES:
            self._source.pause_reading()
        else:
            self._source.resume_reading()

    def _hold(self, item: bytes | _End, size: int) -> None:
        due = asyncio.get_running_loop().time() + self._way.delay_s
        if self._held:
            due = max(due, self._held[-1][0])  # a shorter delay does not overtake
        self._held.append((due, item))
        self._held_bytes += size
        if self._timer is None:
            self._release()
        self.govern()

    def _release(self) -> None:
        loop, self._timer = asyncio.get_running_loop(), None
        while self._held:
            due, item = self._held[0]
            if due > loop.time():
                self._timer = loop.call_at(due, self._release)
                break
            self._held.popleft()
            self._emit(item)
        self.govern()

    def _emit(self, item: bytes | _End) -> None:
        if self._sink.is_closing():
            return
        if isinstance(item, bytes):
            self._held_bytes -= len(item)
            self._sink.write(item)
        elif item is _End.HALF_CLOSE and not self._source.is_closing():
            with contextlib.suppress(OSError):  # reset by now: the loss is on its way
                self._sink.write_eof()
            self.ended = True
            self._on_end()
        else:
            self._sink.close()


class _Socket(asyncio.Protocol):
    """One of the two sockets of a connection. `out` takes what is read, `into` what is written."""

    out: _Lane | None = None
    into: _Lane | None = None

    def __init__(self, link: "_Link") -> None:
        self._link = link
        self.transport: asyncio.Transport | None = None
        #: Read before there was a lane: uvloop starts reading after `connection_made`, whatever
        #: was paused in it.
        self.early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._link.connected(self)

    def data_received(self, data: bytes) -> None:
        if self.out is not None:
            self.out.feed(data)
        else:
            self.early.append(data)

    def eof_received(self) -> bool:
        if self.out is not None:
            self.out.end(_End.HALF_CLOSE)
        return True  # the other direction may have more to say

    def pause_writing(self) -> None:
        if self.into is not None:
            self.into.sink_full = True
            self.into.govern()

    def resume_writing(self) -> None:
        if self.into is not None:
            self.into.sink_full = False
            self.into.govern()

    def connection_lost(self, error: Exception | None) -> None:
        self._link.lost(self, error)


class _Link:
    """A client's connection and the one made for it to the target."""

    def __init__(self, proxy: "Proxy") -> None:
        self._proxy = proxy
        self.client = _Socket(self)
        self.server = _Socket(self)
        self._dialling: asyncio.Task[None] | None = None

    def connected(self, which: _Socket) -> None:
        if which is self.client and which.transport is not None:
            self._proxy.links.add(self)
            self._proxy.accepted += 1
            which.transport.pause_reading()  # until there is somebody to give it to
            self._dialling = asyncio.get_running_loop().create_task(self._dial(), name="dial")
        elif self.client.transport is not None and which.transport is not None:
            client, server = self.client.transport, which.transport
            if client.is_closing():
                server.abort()
                return
            up = _Lane(self._proxy.up, client, server, self._ended)
            down = _Lane(self._proxy.down, server, client, self._ended)
            self.client.out = self.server.into = up
            self.server.out = self.client.into = down
            for end in (self.client, self.server):
                early, end.early = end.early, []
                for data in early:
                    end.data_received(data)

    async def _dial(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self.server, *self._proxy.target)
        except OSError:  # the target refuses: so do we, as well as an accepted socket can
            self.reset()

    def _ended(self) -> None:
        """Two half-closes are a close, and no event loop sees that by itself."""
        ends = (self.client, self.server)
        if all(end.out is not None and end.out.ended for end in ends):
            for end in ends:
                if end.transport is not None:
                    end.transport.close()

    def lost(self, which: _Socket, error: Exception | None) -> None:
        other = self.server if which is self.client else self.client
        if which.into is not None:
            which.into.drop()
        if error is not None or which.out is None:
            self.reset()
        else:
            which.out.end(_End.CLOSE)
        if other.transport is None or other.transport.is_closing():
            self._forget()

    def reset(self) -> None:
        """Both ends get a reset, whatever is on its way."""
        if self._dialling is not None:
            self._dialling.cancel()
        for end in (self.client, self.server):
            if end.transport is not None and not end.transport.is_closing():
                _set_linger(end.transport)
                end.transport.abort()
        self._forget()

    def _forget(self) -> None:
        for lane in (self.client.out, self.server.out):
            if lane is not None:
                lane.drop()
        self._proxy.links.discard(self)


class Proxy:
    """Use as an async context manager. `target` may be changed: new connections go there."""

    host = "127.0.0.1"

    def __init__(self, target: tuple[str, int], *, port: int | None = None) -> None:
        self.target = target
        self.port = port or free_port()
        self.up = Way()
        self.down = Way()
        self.accepted = 0
        self.links: set[_Link] = set()
        self._listener: asyncio.Server | None = None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def connections(self) -> int:
        return len(self.links)

    def cut(self) -> int:
        """Reset every open connection; returns how many."""
        links = list(self.links)
        for link in links:
            link.reset()
        return len(links)

    async def refuse(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            await asyncio.sleep(0)  # uvloop closes the socket in its next round

    async def accept(self) -> None:
        if self._listener is None:
            loop = asyncio.get_running_loop()
            self._listener = await loop.create_server(
                lambda: _Link(self).client, self.host, self.port
            )

    async def aclose(self) -> None:
        await self.refuse()
        self.cut()
        await asyncio.sleep(0)  # let the aborted transports close their sockets

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


def _set_linger(transport: asyncio.Transport) -> None:
    """So that closing sends RST instead of FIN. By a duplicate: uvloop's sockets are not real."""
    fileno = transport.get_extra_info("socket").fileno()
    if fileno >= 0:
        with socket.socket(fileno=os.dup(fileno)) as twin:
            twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
