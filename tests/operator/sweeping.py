"""A sweep over a real server in a test, and the streams, pods and time that it meets.

Time passes without waiting (`let_time_pass`): what the server keeps as a time is moved back by as
much, the ids of entries among it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.harness.backend import GROUP, PREFIX, Backend
from tests.harness.names import NAMES
from tidegate.model.errors import RedisUnavailable
from tidegate.model.settings import RedisSettings, RedisUrl
from tidegate.redis.address import parse_address
from tidegate.redis.topology import Topology
from tidegate_operator.model.streams import Streams
from tidegate_operator.redis import lua
from tidegate_operator.redis.primary import Call, PrimaryClient
from tidegate_operator.redis.sweep import StreamSweeper

HOUR_S, DAY_S = 3_600, 86_400
MARK = f"{GROUP}:expiry"
#: Long: what `live` writes holds for so long without a renewal.
LEASE_S = 120.0

#: As quick as Redis: these tests are not about the pace.
PACE = {"commands_per_s": 100_000, "changes_per_s": 100_000}


def spec(**streams: Any) -> Streams:
    streams["pace"] = PACE | streams.get("pace", {})
    return Streams.model_validate(streams)


@asynccontextmanager
async def sweeping(
    url: str,
    *,
    may_continue: Callable[[], bool] = lambda: True,
    pods: Callable[[], Collection[str] | None] | None = None,
    fresh_s: float = 0,
    **redis: Any,
) -> AsyncIterator[StreamSweeper]:
    # Patient: a machine that stands still for seconds must not look like a Redis that is away.
    patient: dict[str, Any] = {"connect_timeout_s": 20, "reply_timeout_s": 20}
    settings = RedisSettings(url=RedisUrl(url), **(patient | redis))
    topology = Topology(parse_address(settings), settings)
    sweep = StreamSweeper(
        topology,
        settings,
        may_continue=may_continue,
        kubernetes_pods=pods,
        lease_s=LEASE_S,
        fresh_s=fresh_s,
    )
    try:
        yield sweep
    finally:
        await sweep.close()
        await topology.close()


async def held_back(url: str, streams: Streams) -> list[Call]:
    """The first changes of a sweep whose connection stalls: they are on their way, and nobody waits
    for them any more.
    """
    late: list[Call] = []
    real = PrimaryClient.run

    async def run(primary: PrimaryClient, calls: Sequence[Call]) -> list[Any]:
        if not calls or calls[0].script is lua.LOOK:
            return await real(primary, calls)
        late.extend(calls)
        raise RedisUnavailable("late")

    async with sweeping(url) as sweep:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PrimaryClient, "run", run)
            try:
                while await sweep.tick(streams) is None:
                    pass
            except RedisUnavailable:
                pass
    return late


async def arrive(client: Any, late: Sequence[Call]) -> list[Any]:
    """They are executed now."""
    return [await client.eval(call.script.text, 1, call.key, *call.args) for call in late]


_PASS = """#!lua flags=allow-cross-slot-keys
-- The streams are written anew with older ids; groups, consumers and TTLs come along.
local ms = tonumber(ARGV[1])
local function earlier(id)
  local at, seq = string.match(id, '^(%d+)-(%d+)$')
  if tonumber(at) < 1e12 then return id end
  return string.format('%.0f-%s', tonumber(at) - ms, seq)
end
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  local kind = redis.call('TYPE', key).ok
  if left >= 0 and left <= ms then
    redis.call('DEL', key)
  elseif kind == 'stream' then
    local at = redis.call('PEXPIRETIME', key)
    local entries, groups = redis.call('XRANGE', key, '-', '+'), redis.call('XINFO', 'GROUPS', key)
    local info, consumers = redis.call('XINFO', 'STREAM', key), {}
    local last
    for i = 1, #info, 2 do if info[i] == 'last-generated-id' then last = info[i + 1] end end
    for i, group in ipairs(groups) do
      consumers[i] = redis.call('XINFO', 'CONSUMERS', key, group[2])
    end
    redis.call('DEL', key)
    redis.call('XGROUP', 'CREATE', key, 'made', '$', 'MKSTREAM')
    redis.call('XGROUP', 'DESTROY', key, 'made')
    for _, entry in ipairs(entries) do
      redis.call('XADD', key, earlier(entry[1]), unpack(entry[2]))
    end
    redis.call('XSETID', key, earlier(last))
    for i, group in ipairs(groups) do
      local by = {}
      for j = 1, #group, 2 do by[group[j]] = group[j + 1] end
      local read = by['entries-read'] or -1
      if read == at and at > 0 then read = at - ms end
      redis.call('XGROUP', 'CREATE', key, by.name, earlier(by['last-delivered-id']), 'ENTRIESREAD',
        string.format('%.0f', read))
      for _, consumer in ipairs(consumers[i]) do
        redis.call('XGROUP', 'CREATECONSUMER', key, by.name, consumer[2])
      end
    end
    if at > 0 then redis.call('PEXPIREAT', key, string.format('%.0f', at - ms)) end
  elseif left >= 0 then
    redis.call('PEXPIRE', key, left - ms)
  end
end
for _, one in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  redis.call('ZINCRBY', KEYS[1], -ms, one)
end
for _, name in ipairs({'since', 'last'}) do
  if redis.call('HEXISTS', KEYS[2], name) == 1 then redis.call('HINCRBY', KEYS[2], name, -ms) end
end
"""


async def let_time_pass(client: Any, seconds: float) -> None:
    """On a single server."""
    await client.eval(_PASS, 2, NAMES.pods, NAMES.pods_clock, int(seconds * 1000))


async def now_ms(client: Any) -> int:
    seconds, micros = await client.time()
    return int(seconds) * 1000 + int(micros) // 1000


async def live(client: Any, *pods: str, since_s: float = 600) -> list[str]:
    """These pods, and no others, have had their leases for long; their incarnations."""
    now = await now_ms(client)
    born = now - int(since_s * 1000)
    names = [f"{pod}.{born + number}.abcdef{number}" for number, pod in enumerate(pods)]
    await client.delete(NAMES.pods)
    if names:
        await client.zadd(NAMES.pods, dict.fromkeys(names, now + 3_600_000))
    await client.hset(NAMES.pods_clock, mapping={"since": born, "last": now, "order": now})
    return names


class Streamer(Backend):
    """A backend that writes streams of any age, and pods that watch them."""

    async def aged(
        self, operation: str, age_s: float, *, type_: str = "progress", **data: Any
    ) -> str:
        """One entry that was written so long ago."""
        at = await now_ms(self.client) - int(age_s * 1000)
        text = json.dumps({"type": type_, "data": data})
        return await self.add(operation, {"message": text}, entry_id=f"{at}-*")

    async def ended(self, operation: str, age_s: float = 0, status: str = "completed") -> str:
        return await self.aged(operation, age_s, type_=f"operation_{status}", status=status)

    async def watch(self, operation: str, *pods: str) -> None:
        """As an attach does it; the consumers look as if they had not read for long."""
        key = PREFIX + operation
        if not any(group["name"] == GROUP.encode() for group in await self.groups(operation)):
            await self.client.xgroup_create(key, GROUP, "0")
        for pod in pods:
            await self.client.xgroup_createconsumer(key, GROUP, pod)

    async def ttl_s(self, operation: str) -> float | None:
        left: int = await self.client.pttl(PREFIX + operation)
        return None if left == -1 else left / 1000

    async def group_names(self, operation: str) -> set[str]:
        names = [group["name"] for group in await self.groups(operation)]
        return {name.decode() if isinstance(name, bytes) else name for name in names}


def counts(mapping: Mapping[Any, int]) -> dict[str, int]:
    return {getattr(key, "value", key): count for key, count in mapping.items() if count}
