"""Takes out of Redis what a gateway leaves behind when it is uninstalled.

    wait until no replica has a lease --> a round of the sweep --> the leases' own keys

The round is the usual one, with two differences: every pod is dead, and the gateway's group goes
from each stream. Entries are not deleted: streams that have ended get their TTL, and one that runs
is its backend's. Whatever has a TTL (figures of pods, revocations, requests to cancel) goes by
itself. A replica that has a lease stops all of it, also one that comes in the middle: another
gateway may have the same server, database, prefix and group.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from tidegate.model.errors import RedisUnavailable
from tidegate.model.settings import RedisSettings
from tidegate.redis.batches import run_script
from tidegate.redis.topology import Topology
from tidegate_operator.model.streams import Streams
from tidegate_operator.redis import lua
from tidegate_operator.redis.leases import GatewayRuns
from tidegate_operator.redis.sweep import StreamSweeper
from tidegate_operator.streams.report import SweepReport

#: Between two looks at the leases: nothing announces that one is given up.
LOOK_S = 1.0


class GatewayRemoval:
    """`run` once.

    Args:
        topology: of the Redis, with the names of the gateway that is gone.
        settings: how to log in there.
        lease_s: the gateway's `slots.lease_s`.
        clock: seconds, only differences count.
    """

    def __init__(
        self,
        topology: Topology,
        settings: RedisSettings,
        *,
        lease_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._topology = topology
        self._clock = clock
        self.sweep = StreamSweeper(
            topology, settings, lease_s=lease_s, fresh_s=0, clock=clock, is_gone=True
        )

    async def run(
        self, streams: Streams, *, wait_s: float, patience_s: float, on_tick: Callable[[], None]
    ) -> SweepReport:
        """Remove, and report.

        Args:
            streams: the spec; in a dry run nothing is changed.
            wait_s: how long replicas may take to end.
            patience_s: how long Redis may be away at a stretch.
            on_tick: see `StreamSweeper.round`.

        Raises:
            GatewayRuns: a replica has a lease.
            RedisUnavailable: it was away for too long, or cannot say whether one has.
        """
        await self._wait(wait_s, patience_s)
        report = await self.sweep.round(streams, patience_s=patience_s, on_tick=on_tick)
        if not streams.dry_run:
            names = self._topology.names
            left = await run_script(
                self._topology, lua.REMOVE_LEASES, (names.pods, names.pods_clock), ()
            )
            if left < 0:
                raise GatewayRuns(())
            report.tally.done["own_keys"] += left
        return report

    async def close(self) -> None:
        """Close the connection; the topology is the caller's."""
        await self.sweep.close()

    async def _wait(self, wait_s: float, patience_s: float) -> None:
        began = answered = self._clock()
        while True:
            try:
                return await self.sweep.leases.check_gone()
            except GatewayRuns:
                answered = self._clock()
                if answered - began >= wait_s:
                    raise
            except RedisUnavailable:
                if self._clock() - answered >= patience_s:
                    raise
            await asyncio.sleep(LOOK_S)
