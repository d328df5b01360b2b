"""Limits the concurrent commands of one kind at a server; further ones wait.

The pools of redis-py differ in this: the one for a single server makes callers wait, those for
Cluster and Sentinel raise an error at once, which looks like an unavailable Redis. With this limit
the pools never run out, and one kind of work does not take the connections of another. Where work
is done for a user, no user has more than a share, and waiting users alternate.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tidegate.concurrency.fair_turns import FairConcurrencyLimiter
from tidegate.model.errors import RedisUnavailable
from tidegate.redis.address import Node
from tidegate.redis.topology import TURNS, Topology

WAIT_S = 5.0


class ConcurrencyLimiter:
    """Of one kind of work, at each primary; of these at most `share` for one user."""

    def __init__(self, topology: Topology, turns: int = TURNS, *, share: int | None = None) -> None:
        self._topology = topology
        self._turns = turns
        self._share = share or turns
        self._by_node: dict[Node | None, FairConcurrencyLimiter] = {}

    @asynccontextmanager
    async def at(self, key: str, user: str = "") -> AsyncIterator[None]:
        """A turn of this user's at the primary of this key.

        Raises:
            RedisUnavailable: there was none within `WAIT_S`.
        """
        node = self._topology.node_for(key.encode())
        turns = self._by_node.get(node)
        if turns is None:
            turns = self._by_node[node] = FairConcurrencyLimiter(self._turns, self._share)
        try:
            if not turns.take_now(user):
                async with asyncio.timeout(WAIT_S):
                    await turns.take(user)
        except TimeoutError:
            text = f"no command slot at Redis within {WAIT_S:.0f} s; try again"
            raise RedisUnavailable(text) from None
        try:
            yield
        finally:
            turns.give_back(user)
