"""Which pods live, as their leases say: the sweep's view of it, renewed every second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from tidegate.core.slots import pod_of
from tidegate.model.errors import RedisUnavailable, TidegateError
from tidegate.redis.batches import run_script
from tidegate.redis.topology import Topology
from tidegate_operator.redis import lua
from tidegate_operator.redis.replies import read_leases
from tidegate_operator.redis.round import Round
from tidegate_operator.streams.liveness import Leases, Liveness

_NAMES_MAX = 5
#: The view of who lives is renewed this often.
LIVENESS_S = 1.0


class GatewayRuns(TidegateError):
    """A replica has a lease, so the gateway is not gone."""

    def __init__(self, incarnations: Collection[str]) -> None:
        # Anyone may write to Redis, so a name may be anything.
        pods = sorted("".join(filter(str.isprintable, pod_of(one)))[:63] for one in incarnations)
        shown = ", ".join(pods[:_NAMES_MAX]) + (", ..." if len(pods) > _NAMES_MAX else "")
        who = f"{len(pods)} replicas have a lease ({shown})" if pods else "a replica has a lease"
        super().__init__(
            f"{who}: stop the gateway first. If they belong to another gateway with the same Redis "
            "database, prefix and group, there is nothing to remove"
        )


class LeaseView:
    """Ask `look` before each piece of work.

    Args:
        topology: where the leases are.
        kubernetes_pods: see `StreamSweeper`.
        reply_timeout_s: how long an answer may take.
        lease_s: the gateway's `slots.lease_s`.
        fresh_s: a consumer that read within this time is alive, whatever else is said.
        clock: seconds, only differences count.
        is_gone: the gateway was uninstalled: all of its pods are dead, or it is a `GatewayRuns`.
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
        is_gone: bool = False,
    ) -> None:
        self._topology = topology
        self._kubernetes_pods = kubernetes_pods
        self._reply_timeout_s = reply_timeout_s
        self._lease_ms = int(lease_s * 1000)
        self._fresh_ms = int(fresh_s * 1000)
        self._clock = clock
        self._is_gone = is_gone
        self._liveness = Liveness(None)
        self._until = 0.0

    async def look(self, at: Round) -> Liveness:
        """Who lives. Raises RedisUnavailable, GatewayRuns."""
        now = self._clock()
        if now >= self._until:
            leases = await self._read()
            at.commands += 1
            if self._is_gone:
                self._liveness = _nobody(leases)
            else:
                alone = self._kubernetes_pods is None
                exist = None if self._kubernetes_pods is None else self._kubernetes_pods()
                self._liveness = Liveness.of(leases, exist, alone=alone, fresh_ms=self._fresh_ms)
            self._until = now + LIVENESS_S
        at.pods_known = at.pods_known and self._liveness.names is not None
        return self._liveness

    async def check_gone(self) -> None:
        """Raises GatewayRuns, RedisUnavailable."""
        _nobody(await self._read())

    async def _read(self) -> Leases:
        keys = (self._topology.names.pods, self._topology.names.pods_clock)
        try:
            async with asyncio.timeout(self._reply_timeout_s):
                reply = await run_script(self._topology, lua.LEASES, keys, ())
        except TimeoutError:
            raise RedisUnavailable("the leases cannot be read in time") from None
        return read_leases(reply, self._lease_ms)


def _nobody(leases: Leases) -> Liveness:
    """All pods are dead: those that ever were born before now."""
    if leases.live:
        raise GatewayRuns(leases.live)
    return Liveness(frozenset(), order=max(leases.order, leases.now_ms), fresh_ms=0)
