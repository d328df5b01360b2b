"""The CPU of the engine per entry, without sockets: `python -m bench.engine`.

A real link, dispatcher, hub and senders in one process. The data from Redis is prepared beforehand
and passed to the link as by the event loop, and what senders write is discarded. The result is the
CPU of everything between `data_received` and `write`. It varies by a few percent, whereas that of a
server with its system calls varies by a third, so it can compare two versions of the code.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections import deque
from collections.abc import Iterator
from time import process_time
from typing import Any, cast

import msgpack  # type: ignore[import-untyped]  # it has no stubs of its own
import typer

from tidegate.core.arming import ArmingRules
from tidegate.core.clock import ServerClock
from tidegate.core.compiled import engine
from tidegate.core.latency import EntryLatency
from tidegate.core.ports import Feed, Log
from tidegate.core.records import Ask, Page, StreamInfo
from tidegate.gateway.fanout import Fanout
from tidegate.gateway.hub import Hub
from tidegate.model.ids import ZERO, OperationId
from tidegate.model.settings import Settings
from tidegate.redis.dispatcher import Dispatcher
from tidegate.redis.link import Link, pack
from tidegate.redis.names import Names
from tidegate.redis.subscription import StreamSubscription
from tidegate.web.ws.sender import DirectSender

OPERATIONS = 200
ROUNDS = 7
#: The `data` of an entry has the same size as in the other scenarios.
MESSAGE = b'{"type":"progress","data":{"percent":%d,"step":"embedding","pad":"%s"}}'


class NoTransport:
    """Discards what is written; its buffer is never full."""

    def __init__(self) -> None:
        self.write = deque[bytes](maxlen=1).append

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


class NoSocket:
    """The socket of a viewer."""

    def __init__(self) -> None:
        self.transport = cast("asyncio.Transport", NoTransport())

    def send_close(self, code: int, reason: str) -> None:
        raise AssertionError((code, reason))


class Engine:
    """The engine of a replica up to its sockets, with `viewers` of each of `OPERATIONS`."""

    def __init__(self, viewers: int) -> None:
        settings = Settings()
        names = Names(0, settings.redis.key_prefix, settings.redis.group)
        fanout = Fanout(asyncio.get_running_loop())
        self._clock = ServerClock()
        self._clock.answered(0, 0, 0)
        self.dispatcher = Dispatcher(
            *(settings, names, self._unexpected, self._unexpected, self._unexpected),
            *(self._clock, EntryLatency()),
        )
        self.hub = Hub(
            settings, cast("Feed", self), cast("Log", None), self._unexpected, fanout.wake
        )
        self.link = Link(self.dispatcher.pushed, self._unexpected, fanout)
        self.link.connection_made(cast("asyncio.Transport", NoTransport()))
        self.dispatcher.link = self.link
        self._names = names
        limits = settings.dispatch
        self._rules = ArmingRules(limits.follow_after, limits.follow_arm_s, limits.follow_grace_s)
        self._pod = settings.server.pod.encode()
        self.operations = [f"operation-{n}" for n in range(OPERATIONS)]
        self._viewers = viewers
        self.sent = 0

    def _unexpected(self, *what: object) -> Any:
        raise AssertionError(what)

    # -- as a Feed

    def watch(self, operation: OperationId, listener: Any) -> None:
        key = self._key(operation)
        watch = StreamSubscription(
            operation, key, listener, self._rules, pack("EVALSHA", key), channel=key
        )
        watch.attached = True
        self.dispatcher.watches[key] = watch
        empty = Page(StreamInfo(), (), more=False, after=None, registered=True)
        asyncio.get_running_loop().call_soon(listener.on_page, empty)

    def clock(self, _operation: OperationId) -> ServerClock:
        return self._clock

    def _key(self, operation: str) -> bytes:
        return f"operation-progress:{operation}".encode()

    # -- what happens

    async def fill(self) -> None:
        """Let all viewers join."""
        for operation in map(OperationId, self.operations):
            await self.hub.ready(operation)
            for _ in range(self._viewers):
                self.hub.join(operation, DirectSender(NoSocket()), Ask(None, 0))
        await asyncio.sleep(0)

    def bytes_of(self, entries: int, together: int) -> Iterator[tuple[bytes, bytes]]:
        """The invalidations, and the replies to the dispatches, for `entries` of each operation."""
        ids = [ZERO] * OPERATIONS
        for first in range(0, entries * OPERATIONS, together):
            rings, answers = [], []
            for at in range(first, first + together):
                n = at % OPERATIONS
                key = self._key(self.operations[n])
                before = str(ids[n]).encode() if ids[n] != ZERO else b""
                ids[n] = ids[n]._replace(ms=1_795_970_000_000 + at)
                name = str(ids[n]).encode()
                fields = [b"message", MESSAGE % (at % 100, b"x" * 60)]
                added = None if before else 1
                relay = msgpack.packb([self._pod, before, 0, [[name, fields]], added])
                rings.append(b">2\r\n$10\r\ninvalidate\r\n*1\r\n" + _bulk(key))
                answers.append(
                    b">3\r\n$8\r\nsmessage\r\n"
                    + _bulk(key)
                    + _bulk(relay)
                    + b"*3\r\n:1\r\n"
                    + _bulk(name)
                    + b":0\r\n"
                )
            yield b"".join(rings), b"".join(answers)


def _bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


async def measure(viewers: int, together: int, entries: int) -> float:
    """CPU per entry in microseconds."""
    replica = Engine(viewers)
    await replica.fill()
    data = list(replica.bytes_of(entries, together))
    receive = replica.link.data_received
    before = process_time()
    for rings, answers in data:
        receive(rings)
        receive(answers)
    took = process_time() - before
    expected = entries * OPERATIONS
    counters = replica.hub.counters
    if counters.entries != expected or counters.deliveries != expected * viewers:
        raise RuntimeError(f"{counters.deliveries} deliveries of {expected} x {viewers}")
    return took / expected * 1e6


def main(entries: int = 100, rounds: int = ROUNDS) -> None:
    """CPU per entry, in microseconds, of the code that is imported."""
    print(engine(), sys.version.split()[0])
    for viewers in (1, 10):
        for together in (1, 4, 20):
            found = [asyncio.run(measure(viewers, together, entries)) for _ in range(rounds)]
            print(
                f"{viewers:3} viewers, {together:2} entries at a time: "
                f"{statistics.median(found):6.2f} us per entry ({min(found):.2f}..{max(found):.2f})"
            )


if __name__ == "__main__":
    typer.run(main)
