"""A pod in a test: its lease and its slots over a real server, driven by hand or by its own tasks.

Driven by hand (`Pod.turn`), nothing happens that the test did not ask for, so a pause is simply not
asking. `let_time_pass` makes time go by without waiting: what the server keeps as a time is moved
back by as much, and the clocks of the pods forward.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import Any, Self

from tests.harness.names import NAMES
from tidegate.core.slots import new_connection_id
from tidegate.model.settings import Settings
from tidegate.redis.address import parse_address
from tidegate.redis.pods import Pods
from tidegate.redis.slots import RedisSlots
from tidegate.redis.topology import Topology

LEASE_S = 15.0


def slot_settings(url: str, name: str, *, reply_timeout_s: float = 10, **slots: Any) -> Settings:
    """Patient: a machine that stands still for seconds must not look like a Redis that is away."""
    redis: dict[str, Any] = {"url": url, "backoff_min_s": 0.02, "backoff_max_s": 0.1}
    redis |= {"connect_timeout_s": reply_timeout_s, "reply_timeout_s": reply_timeout_s}
    redis |= {"heartbeat_s": 0.2}
    slots = {"wait_s": 10} | slots
    return Settings.model_validate(
        {"redis": redis, "server": {"pod": name, "auth": "none"}, "slots": slots}
    )


class Clock:
    """The pod's own: the machine's, plus what was added."""

    def __init__(self) -> None:
        self.added_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.added_s


class Pod:
    """`async with Pod(url, "a") as pod` starts nothing but the sending of commands;
    `async with Pod(url, "a", lives=True)` renews and keeps its slots by itself.
    """

    def __init__(
        self,
        url: str,
        name: str,
        *,
        lives: bool = False,
        topology: Topology | None = None,
        slots: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.settings = slot_settings(url, name, **(slots or {}))
        self.clock = Clock()
        self.over: list[tuple[str, str]] = []
        self._lives = lives
        self.topology = topology or Topology(
            parse_address(self.settings.redis), self.settings.redis
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self.topology.refresh()
        self.pods = Pods(self.topology, self.settings, clock=self.clock)
        self.slots = RedisSlots(
            self.topology, self.pods, self.settings, self._on_over, clock=self.clock
        )
        works = [self.slots.run()] if self._lives else [self.slots.batches.run()]
        if self._lives:
            works.append(self.pods.run())
        self._tasks = [asyncio.create_task(work) for work in works]
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.crash()
        await self.topology.close()
        if self.topology._sentinel is not None:
            for sentinel in self.topology._sentinel.sentinels:
                await sentinel.aclose()

    async def crash(self) -> None:
        """SIGKILL: it says nothing to anybody."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        self._tasks = []

    def _on_over(self, user: str, connections: tuple[str, ...]) -> None:
        self.over += [(user, one) for one in connections]

    async def turn(self) -> None:
        """Renew, then do all the work that waits."""
        await self.pods.renew()
        await self.settle()

    async def settle(self) -> None:
        while await self.slots.turn():
            pass

    async def connect(self, user: str, count: int = 1) -> list[str]:
        """New connections that were all taken."""
        taken = []
        for _ in range(count):
            connection = new_connection_id()
            verdict = await self.slots.take(user, connection)
            assert type(verdict).__name__ == "Taken", verdict
            taken.append(connection)
        return taken


async def held(client: Any, user: str) -> dict[str, str]:
    """A user's slots in Redis: connection -> name of the pod."""
    found = await client.hgetall(f"tidegate:slots:{user}")
    return {
        connection.decode(): value.decode().split(" ")[0].rsplit(".", 2)[0]
        for connection, value in found.items()
    }


async def leases(client: Any) -> list[str]:
    return [one.decode() for one in await client.zrange(NAMES.pods, 0, -1)]


_PASS = """#!lua flags=allow-cross-slot-keys
local ms = tonumber(ARGV[1])
local leases = redis.call('ZRANGE', KEYS[1], 0, -1)
for _, one in ipairs(leases) do redis.call('ZINCRBY', KEYS[1], -ms, one) end
for _, field in ipairs({'since', 'last'}) do
  if redis.call('HEXISTS', KEYS[2], field) == 1 then redis.call('HINCRBY', KEYS[2], field, -ms) end
end
for _, key in ipairs(redis.call('KEYS', '*tidegate*')) do
  if string.sub(key, 1, 15) == 'tidegate:slots:' then
    local all = redis.call('HGETALL', key)
    for i = 1, #all, 2 do
      local incarnation, since = string.match(all[i + 1], '^(%S+) (%d+)$')
      redis.call('HSET', key, all[i], string.format('%s %d', incarnation, since - ms))
    end
  end
  local left = redis.call('PTTL', key)
  if left >= 0 then redis.call('PEXPIRE', key, math.max(left - ms, 0)) end
end
"""


async def let_time_pass(client: Any, pods: Iterable[Pod], seconds: float) -> None:
    """All that the server keeps as a time, moved back: leases, their clock, slots, TTLs."""
    await client.eval(_PASS, 2, NAMES.pods, NAMES.pods_clock, int(seconds * 1000))
    for pod in pods:
        pod.clock.added_s += seconds


async def lose_data(client: Any) -> None:
    """A restart without the data.

    Views are numbered by the time at least, and here they were taken quicker than time goes by;
    that a later one has a higher number is what the time would have seen to.
    """
    order = await client.hget(NAMES.pods_clock, "order")
    await client.flushall()
    if order is not None:
        await client.hset(NAMES.pods_clock, "order", order)


async def at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """The outcome of what waits for nothing, however slow the machine is."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    if not task.done():
        task.cancel()
        raise AssertionError("it waits for something")
    return await task
