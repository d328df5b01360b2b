"""A real cluster from one server program, formed without redis-cli.

Every primary gets an equal range of slots; replicas are optional. Slots can be moved as operators
do it, in three steps, because the step in the middle is where clients meet `ASK`. Whoever moved a
slot or failed over has changed the cluster: `intact` says so, and the fixtures make a new one.
Forming takes about 2.1 s: a new node waits 2 s before it believes that the cluster is whole.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Self

import redis.asyncio
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import RedisError, ResponseError

from tests.harness.waiting import until
from tests.servers.binaries import Binary
from tests.servers.ports import free_port
from tests.servers.standalone import PLAIN, Options, Server

FORM_TIMEOUT_S = 30.0
NODE_TIMEOUT_MS = 1000
#: Where nobody can take over: a node that stands still for a while must not end the cluster.
ALONE_NODE_TIMEOUT_MS = 5000
_MOVE_BATCH = 100


class ClusterError(Exception):
    """The cluster did not come to agree in time."""


class Cluster:
    """Use as an async context manager, or `await start()` and `close()`.

    `servers` has the primaries first, then the replicas, in the order of their primaries.
    """

    def __init__(
        self,
        binary: Binary,
        options: Options = PLAIN,
        *,
        primaries: int = 3,
        replicas_each: int = 0,
    ) -> None:
        self.primaries = primaries
        self.replicas_each = replicas_each
        self.servers: list[Server] = []
        node_timeout_ms = NODE_TIMEOUT_MS if replicas_each else ALONE_NODE_TIMEOUT_MS
        for _ in range(primaries * (1 + replicas_each)):
            config = {
                "cluster-enabled": "yes",
                "cluster-config-file": "nodes.conf",
                "cluster-node-timeout": node_timeout_ms,
                "cluster-announce-ip": Server.host,
                "cluster-port": free_port(),
                "repl-diskless-sync-delay": 0,
                **(options.config or {}),
            }
            self.servers.append(Server(binary, replace(options, config=config), port=free_port()))
        self._layout_at_start: dict[str, str] | None = None

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(server.address for server in self.servers)}"

    def client(self, **kwargs: Any) -> "RedisCluster":
        """A redis-py cluster client that knows all servers. Close it: `async with`."""
        nodes = [ClusterNode(server.host, server.port) for server in self.servers]
        return RedisCluster(startup_nodes=nodes, **kwargs)

    # --- life

    async def start(self) -> Self:
        async with asyncio.timeout(FORM_TIMEOUT_S):
            await asyncio.gather(*(server.start() for server in self.servers))
            await self._join()
            await self._follow()
        self._layout_at_start = await self.layout()
        return self

    def close(self) -> None:
        for server in self.servers:
            server.close()

    async def __aenter__(self) -> Self:
        try:
            return await self.start()
        except BaseException:
            self.close()
            raise

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    async def intact(self) -> bool:
        """Every server as it was started, and every slot where it was."""
        if not all(await asyncio.gather(*(server.intact() for server in self.servers))):
            return False
        try:
            return await self.layout() == self._layout_at_start
        except (RedisError, OSError, StopIteration):
            return False

    async def wipe(self) -> None:
        roles = await asyncio.gather(*(self._role(server) for server in self.servers))
        for server, role in zip(self.servers, roles, strict=True):
            if role == "master":
                await server.wipe()

    # --- who has what

    def slot(self, key: str) -> int:
        return key_slot(key.encode())

    async def owner(self, key_or_slot: str | int) -> Server:
        """The primary that serves it now, by its own account."""
        slot = key_or_slot if isinstance(key_or_slot, int) else self.slot(key_or_slot)
        for server in self.servers:
            if server.running:
                for line in await self._nodes(server):
                    if "myself" in line[2] and "master" in line[2] and _has_slot(line, slot):
                        return server
        raise ClusterError(f"no node serves slot {slot}")

    async def other_than(self, server: Server) -> Server:
        """Another primary, as a target of a move."""
        for other in self.servers:
            if other is not server and other.running and await self._role(other) == "master":
                return other
        raise ClusterError("there is no other primary")

    async def layout(self) -> dict[str, str]:
        """address -> slots, or the primary it follows; as the first server knows it."""
        lines = await self._nodes(self.servers[0])
        return {line[1].split("@")[0]: " ".join([line[3], *line[8:]]) for line in lines}

    def keys_on(
        self, server: Server, count: int, *, layout: dict[str, str], stem: str = "op"
    ) -> list[str]:
        """`count` keys that live on `server`, for tests that need every primary to take part."""
        ranges = [part for part in layout[server.address].split()[1:] if not part.startswith("[")]
        keys = (f"{stem}-{number}" for number in range(1_000_000))
        found = (key for key in keys if _in_ranges(self.slot(key), ranges))
        return [next(found) for _ in range(count)]

    # --- changes

    async def begin_move(self, slot: int, target: Server) -> Server:
        """Migrating here, importing there: keys the source lacks are answered with ASK."""
        source = await self.owner(slot)
        source_id, target_id = await self._id(source), await self._id(target)
        await self._do(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        await self._do(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        return source

    async def move_keys(self, slot: int, source: Server, target: Server) -> int:
        """Move what the source has of the slot now; returns how many keys."""
        moved = 0
        while keys := await self._do(source, "CLUSTER", "GETKEYSINSLOT", slot, _MOVE_BATCH):
            secret = ["AUTH", target.options.password] if target.options.password else []
            await self._do(
                source, "MIGRATE", target.host, target.port, "", 0, 5000, *secret, "KEYS", *keys
            )
            moved += len(keys)
        return moved

    async def finish_move(self, slot: int, source: Server, target: Server) -> None:
        """The slot is the target's; from here on the source answers MOVED."""
        target_id = await self._id(target)
        for server in (target, source, *self.servers):
            if server.running and (await self._role(server) == "master"):
                await self._do(server, "CLUSTER", "SETSLOT", slot, "NODE", target_id)

    async def move_slot(self, slot: int, target: Server) -> None:
        source = await self.begin_move(slot, target)
        await self.move_keys(slot, source, target)
        await self.finish_move(slot, source, target)

    async def take_over(self, replica: Server) -> None:
        """Make a replica the primary of its slots, asking nobody, and wait until all know."""
        try:
            await self._do(replica, "CLUSTER", "FAILOVER", "TAKEOVER")
        except ResponseError:  # it may have been elected before we asked: its primary was killed
            if await self._role(replica) != "master":
                raise
        replica_id = await self._id(replica)

        async def known(server: Server) -> bool:
            return any(
                line[0] == replica_id and "master" in line[2] and len(line) > 8
                for line in await self._nodes(server)
            )

        await self._all([server for server in self.servers if server.running], known)

    async def replicas_of(self, primary: Server) -> list[Server]:
        primary_id = await self._id(primary)
        addresses = {
            line[1].split("@")[0] for line in await self._nodes(primary) if line[3] == primary_id
        }
        return [server for server in self.servers if server.address in addresses]

    # --- inside

    async def _join(self) -> None:
        bounds = REDIS_CLUSTER_HASH_SLOTS // self.primaries
        for number, server in enumerate(self.servers):
            # Equal epochs of two primaries would be settled later, at an unlucky moment.
            await self._do(server, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < self.primaries:
                last = number + 1 == self.primaries
                end = REDIS_CLUSTER_HASH_SLOTS - 1 if last else (number + 1) * bounds - 1
                await self._do(server, "CLUSTER", "ADDSLOTSRANGE", number * bounds, end)
        await self._all(self.servers, self._acquainted)

    async def _follow(self) -> None:
        for number, replica in enumerate(self.servers[self.primaries :]):
            primary = self.servers[number // self.replicas_each]
            await self._do(replica, "CLUSTER", "REPLICATE", await self._id(primary))
        await self._all(self.servers[self.primaries :], self._in_sync)
        await self._all(self.servers, self._is_ok)

    async def _acquainted(self, server: Server) -> bool:
        if await self._knows_all(server):
            return True
        first, *others = self.servers
        met = {line[1].split("@")[0] for line in await self._nodes(first)}
        for other in others:
            # Who does not answer within the node timeout is forgotten: then once more.
            if other.address not in met:
                bus = (other.options.config or {})["cluster-port"]
                await self._do(first, "CLUSTER", "MEET", other.host, other.port, bus)
        return False

    async def _knows_all(self, server: Server) -> bool:
        lines = await self._nodes(server)
        return len(lines) == len(self.servers) and not any("handshake" in line[2] for line in lines)

    async def _is_ok(self, server: Server) -> bool:
        info = _fields(await self._do(server, "CLUSTER", "INFO"))
        roles = [line[2] for line in await self._nodes(server)]
        replicas = sum("slave" in role for role in roles)
        return info["cluster_state"] == "ok" and replicas == len(self.servers) - self.primaries

    async def _in_sync(self, server: Server) -> bool:
        role = await self._do(server, "ROLE")
        return bool(role[0] == "slave" and role[3] == "connected")

    async def _role(self, server: Server) -> str:
        return str((await self._do(server, "ROLE"))[0])

    async def _id(self, server: Server) -> str:
        return str(await self._do(server, "CLUSTER", "MYID"))

    async def _nodes(self, server: Server) -> list[list[str]]:
        """Rows of CLUSTER NODES: id, address, flags, primary, ping, pong, epoch, link, slots..."""
        raw = await self._do(server, "CLUSTER NODES")
        return [line.split() for line in raw.splitlines()]

    async def _all(
        self, servers: Sequence[Server], holds: Callable[[Server], Awaitable[bool]]
    ) -> None:
        waiting = list(servers)

        async def all_do() -> bool:
            waiting[:] = [server for server in waiting if not await holds(server)]
            return not waiting

        try:
            await until(all_do, within_s=FORM_TIMEOUT_S)
        except AssertionError:
            tails = "\n".join(f"{s.address}\n{s.process.log_tail(15)}" for s in waiting)
            raise ClusterError(f"no agreement in {FORM_TIMEOUT_S:.0f} s\n{tails}") from None

    async def _do(self, server: Server, *command: Any) -> Any:
        async with _plain(server) as client:
            return await client.execute_command(*command)


def _plain(server: Server) -> "redis.asyncio.Redis":
    """A client without redis-py's parsing of replies: it differs from release to release."""
    client = server.client(decode_responses=True)
    client.response_callbacks.clear()
    return client


def _fields(info: str) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in info.splitlines() if ":" in line)
    return {name: value.strip() for name, value in pairs}


def _has_slot(line: list[str], slot: int) -> bool:
    return _in_ranges(slot, [part for part in line[8:] if not part.startswith("[")])


def _in_ranges(slot: int, ranges: list[str]) -> bool:
    for part in ranges:
        first, _, last = part.partition("-")
        if int(first) <= slot <= int(last or first):
            return True
    return False
