"""A hub over a fake Redis, with viewers on fake sockets: where each test of this folder begins."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from types import TracebackType
from typing import Any, Self

from tests.gateway.fake_redis import FakeRedis
from tests.gateway.fake_socket import FakeSocket
from tests.harness.clock import settle
from tidegate.core.records import Ask
from tidegate.gateway.channel import Channel
from tidegate.gateway.fanout import Fanout
from tidegate.gateway.hub import Hub
from tidegate.gateway.viewer import ChannelViewer, ViewerState
from tidegate.model.ids import OperationId, parse_stream_id
from tidegate.model.settings import Settings

OPERATION = OperationId("42")


def ask_for(
    *,
    after: str | None = None,
    history: int | None = 100,
    state: Mapping[str, Any] | None = None,
    acks: bool = False,
) -> Ask:
    """What a way in makes of a request."""
    return Ask(None if after is None else parse_stream_id(after), history, state, acks)


class Stage:
    """Use as an async context manager; groups of settings as keywords."""

    def __init__(self, *, page_entries: int = 500, **groups: Mapping[str, Any]) -> None:
        self.settings = Settings.model_validate({"server": {"auth": "none"}, **groups})
        self._page_entries = page_entries
        self._tasks = asyncio.TaskGroup()
        self._reads: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        await self._tasks.__aenter__()
        self.fanout = Fanout(loop)
        self.redis = FakeRedis(page_entries=self._page_entries, turn=self.fanout)
        self.hub = Hub(
            self.settings, self.redis, self.redis, self._spawn, self.fanout.wake, now=loop.time
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cancel_reads()
        await self._tasks.__aexit__(kind, error, trace)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> object:
        task = self._tasks.create_task(work, name=name)
        self._reads.add(task)
        task.add_done_callback(self._reads.discard)
        return task

    def cancel_reads(self) -> None:
        """As the end of a replica does with its tasks."""
        for task in self._reads:
            task.cancel()

    @property
    def reading(self) -> int:
        """Tasks that read for one viewer."""
        return len(self._reads)

    # -- viewers

    async def watch(
        self,
        operation: str = OPERATION,
        *,
        after: str | None = None,
        history: int | None = 100,
        socket: FakeSocket | None = None,
        state: Mapping[str, Any] | None = None,
        acks: bool = False,
    ) -> FakeSocket:
        """A viewer that has joined and, unless it waits for something, is live."""
        socket = FakeSocket() if socket is None else socket
        ask = ask_for(after=after, history=history, state=state, acks=acks)
        while not self.hub.join(OperationId(operation), socket, ask):
            await self.hub.ready(OperationId(operation))
        await self.rest()
        return socket

    def watch_now(self, *, after: str | None = None, history: int | None = 100) -> FakeSocket:
        """One that joins what is followed already, between two rounds of the loop."""
        socket = FakeSocket()
        assert self.hub.join(OPERATION, socket, ask_for(after=after, history=history))
        return socket

    async def rest(self) -> None:
        """All that can happen without time has happened."""
        await settle()

    # -- looking inside

    def channel(self, operation: str = OPERATION) -> Channel:
        return self.hub.channels[OperationId(operation)]

    def viewer(self, socket: FakeSocket) -> ChannelViewer:
        """The gateway's side of it."""
        assert isinstance(socket.listener, ChannelViewer)
        return socket.listener

    def state_of(self, socket: FakeSocket) -> ViewerState:
        return self.viewer(socket).state
