"""Redis as the gateway sees it: streams in memory behind the ports `Feed` and `Log`.

What the server sends over the link waits in `down` in the order in which it was sent, and arrives
in the next round of the loop, or when the test says so (`hold`). A write rings at once and is
dispatched; `quietly` writes without that, as a wake-up that was lost. Away, it drops the link and
refuses reads. `tests/redis/test_port_contract.py` holds this and the real thing to one contract.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.core.stream_model import Stream
from tidegate.concurrency.fair_turns import FairConcurrencyLimiter
from tidegate.core.clock import ServerClock
from tidegate.core.ports import Cork, StreamListener
from tidegate.core.records import Page, Relay, StreamInfo
from tidegate.model.errors import RedisUnavailable, StreamUnusable
from tidegate.model.ids import OperationId, StreamId

POD = b"pod-1"
NEWEST = 101
#: More than any test needs: a loop of reads takes no time, so no timeout would end it.
PAGES_MAX = 5_000


class FakeRedis:
    """Implements `Feed` and `Log`; the methods below those are what backends and people do."""

    def __init__(self, *, page_entries: int = 500, turn: Cork | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._turn = turn
        self._page_entries = page_entries
        self._streams: dict[str, Stream] = {}
        self._unusable: set[str] = set()
        self._listeners: dict[str, StreamListener] = {}
        #: What is on its way to this replica.
        self.down: deque[Callable[[], None]] = deque()
        self._arriving = False
        self.hold = False
        self.is_away = False
        #: A read of the log waits while this is clear.
        self.answers = asyncio.Event()
        self.answers.set()
        self.attaches = 0
        self.reads: list[StreamId] = []
        self._turns = FairConcurrencyLimiter(4, 1)
        #: Whose turns at the log there were.
        self.readers: list[str] = []
        self.pages = 0
        #: By whose time ids are made: the loop's.
        self.server_clock: ServerClock | None = ServerClock()
        self.server_clock.answered(0.0, 0.0, 0.0)

    # -- Feed

    def watch(self, operation: OperationId, listener: StreamListener) -> None:
        self._listeners[operation] = listener
        self._attach(operation)

    def unwatch(self, operation: OperationId) -> None:
        self._listeners.pop(operation, None)

    def read(self, operation: OperationId, after: StreamId) -> None:
        self.reads.append(after)
        if not self.is_away:
            page = self.stream(operation).read(after)
            self._send(operation, lambda listener: listener.on_page(page))

    def clock(self, operation: OperationId) -> ServerClock | None:
        return self.server_clock

    # -- Log

    @asynccontextmanager
    async def turn(self, operation: OperationId, by: str) -> AsyncIterator[FakeRedis]:
        async with self._turns.turn(by):
            self.readers.append(by)
            yield self

    async def after(self, operation: OperationId, after: StreamId) -> Page:
        self.pages += 1
        await self._can_read(operation)
        return self.stream(operation).read(after)

    async def locate(
        self, operation: OperationId, newest: int | None
    ) -> tuple[StreamInfo, StreamId]:
        await self._can_read(operation)
        return self.stream(operation).locate(newest)

    async def _can_read(self, operation: str) -> None:
        assert self.pages < PAGES_MAX, "it reads without end"
        await asyncio.sleep(0)
        await self.answers.wait()
        if self.is_away:
            raise RedisUnavailable("away")
        if operation in self._unusable:
            raise StreamUnusable("holds no stream")

    # -- what backends do

    def stream(self, operation: str) -> Stream:
        if operation not in self._streams:
            size = self._page_entries
            self._streams[operation] = Stream(
                page_entries=size, dispatch_entries=size, newest_entries=NEWEST
            )
        return self._streams[operation]

    def write(self, operation: str, type_: str = "progress", **data: Any) -> str:
        """One entry, made and dispatched at this moment; its id."""
        entry_id = self.quietly(operation, type_, **data)
        self.ring(operation)
        return entry_id

    def write_many(self, operation: str, count: int, *, pad: int = 0, **data: Any) -> list[str]:
        return [self.write(operation, n=n, pad="x" * pad, **data) for n in range(count)]

    def quietly(self, operation: str, type_: str = "progress", **data: Any) -> str:
        """Nobody hears of it."""
        message = json.dumps({"type": type_, "data": data})
        return str(self.stream(operation).add(self._now_ms(), message).id)

    def finish(self, operation: str, status: str = "completed") -> str:
        return self.write(operation, f"operation_{status}", status=status)

    def ring(self, operation: str) -> None:
        """This replica dispatches what is new, as after a wake-up or in a sweep."""
        if self.is_away or operation not in self._listeners:
            return
        while True:
            relays, newest = self.stream(operation).dispatch(POD)
            self._relay(operation, relays)
            if newest is not None:
                break
        last = newest
        self._send(operation, lambda listener: listener.on_seen(last))

    def lose_relay(self, operation: str) -> None:
        """Another replica dispatches, and what it says is lost on the way."""
        self.stream(operation).dispatch(b"pod-2")

    def trim(self, operation: str, keep: int) -> None:
        self.stream(operation).trim(keep)

    def delete(self, operation: str) -> None:
        """And the wake-up for it."""
        self.stream(operation).delete()
        self.ring(operation)

    def spoil(self, operation: str) -> None:
        """The key holds something else from now on."""
        self._unusable.add(operation)
        if operation in self._listeners:
            error = StreamUnusable("holds no stream")
            self._send(operation, lambda listener: listener.on_failed(error))

    # -- the link

    def lose(self) -> None:
        """Redis is away."""
        self.is_away = True
        self.down.clear()
        for listener in tuple(self._listeners.values()):
            listener.on_detached()

    def come_back(self) -> None:
        self.is_away = False
        for operation in self._listeners:
            self._attach(operation)

    def arrive(self, count: int | None = None) -> None:
        """So much of what is on its way is read from the link, in one piece."""
        left = len(self.down) if count is None else min(count, len(self.down))
        if self._turn is not None:
            self._turn.begin()
        for _ in range(left):
            self.down.popleft()()
        if self._turn is not None:
            self._turn.end()

    @property
    def watched(self) -> set[str]:
        return set(self._listeners)

    def _now_ms(self) -> int:
        return round(self._loop.time() * 1000)

    def _attach(self, operation: str) -> None:
        if self.is_away:
            return
        self.attaches += 1
        if operation in self._unusable:
            error = StreamUnusable("holds no stream")
            self._send(operation, lambda listener: listener.on_failed(error))
            return
        after = self._listeners[operation].resume_after
        relays, page = self.stream(operation).attach(POD, after)
        self._relay(operation, relays)
        self._send(operation, lambda listener: listener.on_page(page))

    def _relay(self, operation: str, relays: list[Relay]) -> None:
        for relay in relays:
            self._send(operation, lambda listener, relay=relay: listener.on_relay(relay))  # type: ignore[misc]

    def _send(self, operation: str, call: Callable[[StreamListener], None]) -> None:
        listener = self._listeners[operation]

        def arrive() -> None:
            if self._listeners.get(operation) is listener:
                call(listener)

        self.down.append(arrive)
        if not self.hold and not self._arriving:
            self._arriving = True
            self._loop.call_soon(self._arrive_soon)

    def _arrive_soon(self) -> None:
        self._arriving = False
        if not self.hold:
            self.arrive()
