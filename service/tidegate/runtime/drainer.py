"""Disconnects viewers at a limited rate: all of them at shutdown, or some for rebalancing."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from tidegate.core.drain import TICK_S, plan_drain
from tidegate.model.settings import DrainSettings
from tidegate.web.access.limits import ConnectionLimiter


class Drainer:
    """Owns the pace; `hurry` cuts every wait short."""

    def __init__(self, limiter: ConnectionLimiter, settings: DrainSettings) -> None:
        self._limiter = limiter
        self._settings = settings
        self._hurry = asyncio.Event()
        #: Connections told to come back elsewhere, by why: `drain`, `rebalance`.
        self.moved: Counter[str] = Counter()

    def hurry(self) -> None:
        """Wait for nothing from now on."""
        self._hurry.set()

    async def drain(self) -> None:
        """Give load balancers a moment, let nobody in, then send everyone away.

        The moment also when nobody is inside: who publishes or asks over HTTP never is.
        """
        drain = self._settings
        await self._pause(drain.delay_s)
        self._limiter.is_shut = True
        await self.shed(len(self._limiter), drain.window_s, reason="drain")
        await self.shed(len(self._limiter), 0.0, reason="drain")  # who came in at the last moment

    async def shed(self, connections: int, over_s: float, *, reason: str = "rebalance") -> None:
        """Send so many away within this time, each with its own delay to come back."""
        plan = plan_drain(
            min(connections, len(self._limiter)),
            window_s=over_s,
            absorb_per_s=self._settings.absorb_per_s,
            jitter_s=self._settings.jitter_s,
        )
        spread_ms = round(plan.spread_s * 1000)
        left = connections
        for _ in range(plan.ticks):
            for connection in self._limiter.some(min(plan.per_tick, left)):
                self._limiter.leave(connection)
                connection.ask_to_reconnect(random.randint(0, spread_ms))
                self.moved[reason] += 1
                left -= 1
            if not left or not len(self._limiter):
                return
            await self._pause(TICK_S)

    async def _pause(self, seconds: float) -> None:
        if not self._hurry.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self._hurry.wait()
            except TimeoutError:
                pass
