"""Finds the primary of a key through redis-py: a single server, by Sentinel, or in a cluster.

It also owns the redis-py client that reads history, which handles discovery, pools, redirects, TLS
and logins.
"""

from __future__ import annotations

from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot

from tidegate.model.errors import RedisUnavailable
from tidegate.model.settings import RedisSettings
from tidegate.redis.address import Address, Deployment, Node, client_options, sentinel_options
from tidegate.redis.errors import CLIENT_ERRORS, in_words, translate
from tidegate.redis.names import Names

#: Commands of one kind (reading history, publishing, operation hashes) on their way to one server:
#: enough to keep one core of Redis busy, too few to drown it.
TURNS = 8
#: Pages of streams that are too large for the link, on their way from one server. Each is
#: bounded in bytes (`redis.log`), and takes a few milliseconds in which nothing else is done here.
LARGE_PAGES = 2
#: Connections to one server: for the kinds that `redis.concurrency` limits, and as many as
#: one of them for slots, leases, control messages and redirected commands.
MAX_CONNECTIONS = 4 * TURNS + LARGE_PAGES
POOL_WAIT_S = 5
#: Read at a time: each read of a page of history waits for its turn of a busy event loop.
READ_BYTES = 262_144


class Topology:
    """Where keys live now; `refresh` asks again."""

    def __init__(self, address: Address, settings: RedisSettings) -> None:
        self.address = address
        self.names = Names.of(address, settings)
        self._options = client_options(address, settings) | {"socket_read_size": READ_BYTES}
        self._sentinel: Sentinel | None = None
        self._client: Redis | RedisCluster
        self._cluster: RedisCluster | None = None
        self._single: Node | None = None
        self._by_slot: list[Node] = []
        match address.deployment:
            case Deployment.STANDALONE:
                self._single = address.nodes[0]
                self._client = Redis.from_pool(self._pool(self._single))
            case Deployment.SENTINEL:
                self._sentinel = Sentinel(
                    [(node.host, node.port) for node in address.nodes],
                    sentinel_kwargs=sentinel_options(address, settings, Retry(NoBackoff(), 0)),
                    retry=Retry(NoBackoff(), 0),
                    db=address.db,
                    max_connections=MAX_CONNECTIONS,
                    **self._options,
                )
                self._client = self._sentinel.master_for(str(address.service))
            case Deployment.CLUSTER:
                self._cluster = self._new_cluster()
                self._client = self._cluster

    @property
    def client(self) -> Redis | RedisCluster:
        """For reading history."""
        return self._client

    async def refresh(self) -> bool:
        """Ask where the primaries are; True when the answer differs from the last.

        Raises:
            RedisUnavailable: nobody answers.
        """
        try:
            if self._sentinel is not None:
                # Asked by way of the pool: the client turns to a new primary together with us,
                # although the old one may go on to answer, and take writes, for a while.
                pool: Any = self._client.connection_pool  # type: ignore[union-attr]
                host, port = await pool.get_master_address()
                found = Node(_text(host), int(port))
                changed = found != self._single
                self._single = found
                return changed
            if self._cluster is not None:
                return await self._refresh_cluster(self._cluster)
        except CLIENT_ERRORS as error:
            text = f"cannot find the primaries: {translate(error)}"
            raise RedisUnavailable(text, f"cannot find the primaries: {in_words(error)}") from None
        return False

    def node_for(self, key: bytes) -> Node | None:
        """The primary that has this key; None while it is not known."""
        if self._by_slot:
            return self._by_slot[key_slot(key)]
        return self._single

    def primaries(self) -> set[Node]:
        """All primaries that are known."""
        if self._single is not None:
            return {self._single}
        return set(self._by_slot)

    async def close(self) -> None:
        """Close the client's connections."""
        await self._client.aclose()
        if self._sentinel is not None:
            for asked in self._sentinel.sentinels:  # it does not close what it asked with
                await asked.aclose()

    async def _refresh_cluster(self, cluster: RedisCluster) -> bool:
        if not cluster.nodes_manager.slots_cache:
            _ = await cluster.initialize()
        else:
            await cluster.nodes_manager.initialize()
        slots = cluster.nodes_manager.slots_cache
        known: dict[str, Node] = {}
        by_slot = []
        for slot in range(16384):
            if slot not in slots:  # in the middle of a failover
                raise RedisUnavailable(f"no node serves slot {slot}")
            primary = slots[slot][0]
            node = known.get(primary.name)
            if node is None:
                node = known[primary.name] = Node(primary.host, int(primary.port))
            by_slot.append(node)
        changed = by_slot != self._by_slot
        self._by_slot = by_slot
        return changed

    def _new_cluster(self) -> RedisCluster:
        return RedisCluster(
            startup_nodes=[ClusterNode(node.host, node.port) for node in self.address.nodes],
            max_connections=MAX_CONNECTIONS,
            **self._options,
        )

    def _pool(self, node: Node) -> BlockingConnectionPool:
        options = dict(self._options)
        kind: type[Any] = Connection
        if node.path is not None:
            kind = UnixDomainSocketConnection
            options["path"] = node.path
        else:
            options |= {"host": node.host, "port": node.port}
            if options.pop("ssl", False):
                kind = SSLConnection
        return BlockingConnectionPool(
            connection_class=kind,
            max_connections=MAX_CONNECTIONS,
            timeout=POOL_WAIT_S,
            db=self.address.db,
            retry=Retry(NoBackoff(), 0),
            **options,
        )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
