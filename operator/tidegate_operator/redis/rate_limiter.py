"""What each command of the sweep passes: the pace, and for one that changes something, the fence.

The fence is asked in the same turn of the loop in which the command is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tidegate.model.errors import TidegateError
from tidegate.redis.batches import end_if_cancelled
from tidegate_operator.model.streams import Pace
from tidegate_operator.streams.pacing import Bucket


class Fenced(TidegateError):
    """The fence said no: nothing that changes anything was sent after it."""


class SweepRateLimiter:
    """For one sweep, whose pace may change."""

    def __init__(self, may_continue: Callable[[], bool], clock: Callable[[], float]) -> None:
        self._may_continue = may_continue
        self._clock = clock
        self._commands = Bucket(1, clock())
        self._changes = Bucket(1, clock())

    def set_pace(self, pace: Pace) -> None:
        """From here on."""
        self._commands.change(pace.commands_per_s)
        self._changes.change(pace.changes_per_s)

    async def commands(self, cost: float) -> None:
        """Wait until commands that cost this may be sent."""
        await self._wait(self._commands, cost)

    async def changes(self, number: int) -> None:
        """Wait until so many things may be changed."""
        await self._wait(self._changes, number)

    def check(self) -> None:
        """The fence. Raises Fenced."""
        end_if_cancelled()
        if not self._may_continue():
            raise Fenced("this operator may not change anything now: another one leads")

    async def _wait(self, bucket: Bucket, cost: float) -> None:
        wait_s = bucket.take(cost, self._clock())
        if wait_s > 0:
            await asyncio.sleep(wait_s)
