"""A concurrency limit that is shared fairly between users.

A semaphore gives the next turn to whoever has waited longest, so one user with a hundred slow
requests keeps everyone waiting. Who is next here is `core.fair_share`'s to say; this makes tasks
wait for it. Who waits is bounded by the callers, each of which has a deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tidegate.core.fair_share import FairShare


class FairConcurrencyLimiter:
    """`turns` at a time, and of these at most `share` for one user."""

    def __init__(self, turns: int, share: int) -> None:
        self._share: FairShare[asyncio.Future[None]] = FairShare(turns, share)

    @asynccontextmanager
    async def turn(self, user: str) -> AsyncIterator[None]:
        """A turn of this user's, as soon as there is one; the caller bounds the wait."""
        await self.take(user)
        try:
            yield
        finally:
            self.give_back(user)

    def held(self, user: str) -> int:
        """How many turns this user has now."""
        return self._share.held(user)

    @property
    def free(self) -> int:
        """Turns that nobody has."""
        return self._share.free

    @property
    def waiting(self) -> int:
        """Users who wait for one."""
        return self._share.waiting

    def take_now(self, user: str) -> bool:
        """A turn if there is one for this user; to be given back."""
        return self._share.take(user)

    async def take(self, user: str) -> None:
        """A turn as soon as there is one; to be given back, unless this raises."""
        if self._share.take(user):
            return
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._share.wait(user, given)
        try:
            await given
        except asyncio.CancelledError:
            if given.cancelled():
                self._share.forget(user, given)
            else:  # it was given in the same moment
                self.give_back(user)
            raise

    def give_back(self, user: str, cost: float = 1.0) -> None:
        """This user's turn has ended, and has cost so much, in whatever unit."""
        self._share.give_back(user, cost)
        while (found := self._share.next()) is not None:
            next_user, given = found
            if not given.done():
                given.set_result(None)
                return
            self._share.give_back(next_user)  # it is cancelled, and its task has not run yet
