"""Which pods live, as their leases say: the sweep's view of it, renewed every second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from tidegate.model.errors import RedisUnavailable
from tidegate.redis.batches import run_script
from tidegate.redis.topology import Topology
from tidegate_operator.redis import lua
from tidegate_operator.redis.replies import read_leases
from tidegate_operator.redis.round import Round
from tidegate_operator.streams.liveness import Liveness

#: The view of who lives is renewed this often.
LIVENESS_S = 1.0


class LeaseView:
    """Ask `look` before each piece of work.

    Args:
        topology: where the leases are.
        kubernetes_pods: see `StreamSweeper`.
        reply_timeout_s: how long an answer may take.
        lease_s: the gateway's `slots.lease_s`.
        fresh_s: a consumer that read within this time is alive, whatever else is said.
        clock: seconds, only differences count.
    """

    def __init__(
        self,
        topology: Topology,
        *,
        kubernetes_pods: Callable[[], Collection[str] | None] | None,
        reply_timeout_s: float,
        lease_s: float,
        fresh_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._topology = topology
        self._kubernetes_pods = kubernetes_pods
        self._reply_timeout_s = reply_timeout_s
        self._lease_ms = int(lease_s * 1000)
        self._fresh_ms = int(fresh_s * 1000)
        self._clock = clock
        self._liveness = Liveness(None)
        self._until = 0.0

    async def look(self, at: Round) -> Liveness:
        """Who lives. Raises RedisUnavailable."""
        now = self._clock()
        if now >= self._until:
            keys = (self._topology.names.pods, self._topology.names.pods_clock)
            try:
                async with asyncio.timeout(self._reply_timeout_s):
                    reply = await run_script(self._topology, lua.LEASES, keys, ())
            except TimeoutError:
                raise RedisUnavailable("the leases cannot be read in time") from None
            at.commands += 1
            leases = read_leases(reply, self._lease_ms)
            alone = self._kubernetes_pods is None
            exist = None if self._kubernetes_pods is None else self._kubernetes_pods()
            self._liveness = Liveness.of(leases, exist, alone=alone, fresh_ms=self._fresh_ms)
            self._until = now + LIVENESS_S
        at.pods_known = at.pods_known and self._liveness.names is not None
        return self._liveness
