"""Commands of many callers in few round trips, through the redis-py client of `Topology`.

Each primary has a lane: while one pipeline is in flight, the commands of others gather for the
next. So a burst of connects uses one connection and not the whole pool (and 28 us of CPU for each
slot instead of 99, with 3,000 at once), and a primary that hangs blocks only its own keys. This
module sends nothing twice except what the server refused with NOSCRIPT. After `RedisUnavailable`,
the command may have been executed, or may still be.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from tidegate.model.errors import RedisUnavailable
from tidegate.redis import lua
from tidegate.redis.address import Node
from tidegate.redis.errors import CLIENT_ERRORS, in_words, translate
from tidegate.redis.lua import Argument, Command, Script
from tidegate.redis.topology import Topology

#: Commands of one pipeline: a few milliseconds of Redis at the most.
BATCH = 64
#: Commands that may wait for a primary; a caller beyond is refused at once.
QUEUE_MAX = 20_000


class _Call(NamedTuple):
    command: Command
    script: Script | None
    reply: asyncio.Future[Any]


class Batches:
    """Sends commands while `run` runs."""

    def __init__(self, topology: Topology, *, timeout_s: float) -> None:
        self._topology = topology
        self._timeout_s = timeout_s
        self._lanes: dict[Node | None, deque[_Call]] = {}
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Own the lanes until cancelled; who still waits then is told that Redis is away."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                await asyncio.get_running_loop().create_future()
        finally:
            self._tasks = None
            for lane in self._lanes.values():
                _fail(lane, "the gateway stops")
            self._lanes.clear()

    @property
    def busy(self) -> bool:
        """Whether commands wait or are on their way."""
        return bool(self._lanes)

    async def script(self, script: Script, key: bytes, *args: Argument) -> Any:
        """Run a script on its one key. Raises RedisUnavailable."""
        return await self._call(lua.call(script, key, *args), script, key)

    async def command(self, name: str, key: bytes, *args: Argument) -> Any:
        """Send a command about one key. Raises RedisUnavailable."""
        return await self._call((name, key, *args), None, key)

    async def _call(self, command: Command, script: Script | None, key: bytes) -> Any:
        if self._tasks is None:
            raise RedisUnavailable("nothing is sent before the start or after the end")
        node = self._topology.node_for(key)
        call = _Call(command, script, asyncio.get_running_loop().create_future())
        lane = self._lanes.get(node)
        if lane is None:
            lane = self._lanes[node] = deque()
            lane.append(call)
            self._tasks.create_task(self._drain(node, lane), name=f"batches {node}")
        elif len(lane) >= QUEUE_MAX:
            raise RedisUnavailable(f"{QUEUE_MAX} commands wait for this primary already")
        else:
            lane.append(call)
        return await call.reply

    async def _drain(self, node: Node | None, lane: deque[_Call]) -> None:
        """Until nobody waits; then the lane is gone."""
        try:
            await asyncio.sleep(0)  # who else calls in this turn of the loop comes along
            while lane:
                end_if_cancelled()
                calls = [lane.popleft() for _ in range(min(BATCH, len(lane)))]
                calls = [call for call in calls if not call.reply.done()]
                try:
                    await self._send(calls)
                finally:
                    _fail(calls, "no reply from Redis")
        finally:
            del self._lanes[node]
            _fail(lane, "no reply from Redis")

    async def _send(self, calls: Sequence[_Call]) -> None:
        if not calls:
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                replies = await lua.run_together(
                    self._execute, [call.command for call in calls], [call.script for call in calls]
                )
        except CLIENT_ERRORS as error:
            unanswered = translate(error)
            _fail(calls, str(unanswered), in_words(error))
            return
        for call, reply in zip(calls, replies, strict=True):
            _settle(call, reply)

    async def _execute(self, commands: Sequence[Command]) -> list[Any]:
        client: Any = self._topology.client
        pipeline = client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies


async def run_script(
    topology: Topology, script: Script, keys: Sequence[bytes], args: Sequence[Argument]
) -> Any:
    """Run one script by itself, in no lane.

    Raises:
        RedisUnavailable: for whatever keeps it from an answer; there is no time limit here.
    """
    client: Any = topology.client
    try:
        return await lua.run(client, script, keys, args)
    except CLIENT_ERRORS as error:
        raise translate(error) from None


def end_if_cancelled() -> None:
    """For loops around redis-py: end now if a cancellation got lost on the way.

    Until Python 3.12 `asyncio.wait_for`, through which redis-py sends, drops a cancellation that
    arrives in the moment its work is done (python/cpython#86296); the loop would go on forever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _settle(call: _Call, reply: Any) -> None:
    if call.reply.done():
        return
    if isinstance(reply, Exception):
        call.reply.set_exception(translate(reply))
    else:
        call.reply.set_result(reply)


def _fail(calls: Sequence[_Call] | deque[_Call], reason: str, detail: str | None = None) -> None:
    for call in calls:
        if not call.reply.done():
            call.reply.set_exception(RedisUnavailable(reason, detail))
