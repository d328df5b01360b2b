"""Turns at a server: so many commands of one kind are on their way to it at a time, and who comes
later waits.

redis-py's pools differ in this: the one for a single server makes callers wait, those for Cluster
and Sentinel raise an error at once, which looks as if Redis were away. With turns the pools never
run out, and one kind of work does not take the connections of another.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tidegate.model.errors import RedisUnavailable
from tidegate.redis.address import Node
from tidegate.redis.topology import TURNS, Topology

WAIT_S = 5.0


class Turns:
    """Of one kind of work, at each primary."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._by_node: dict[Node | None, asyncio.Semaphore] = {}

    @asynccontextmanager
    async def at(self, key: str) -> AsyncIterator[None]:
        """A turn at the primary of this key.

        Raises:
            RedisUnavailable: there was none within `WAIT_S`.
        """
        node = self._topology.node_for(key.encode())
        free = self._by_node.get(node)
        if free is None:
            free = self._by_node[node] = asyncio.Semaphore(TURNS)
        try:
            if free.locked():
                async with asyncio.timeout(WAIT_S):
                    _ = await free.acquire()
            else:
                _ = await free.acquire()
        except TimeoutError:
            text = f"{TURNS} commands have been on their way for {WAIT_S:.0f} s; try again"
            raise RedisUnavailable(text) from None
        try:
            yield
        finally:
            free.release()
