"""Turns at something that can do so many things at a time, shared fairly between users.

A semaphore gives the next turn to whoever has waited longest, so one user with a hundred slow
requests keeps everybody waiting. Here nobody has more than `share` turns at a time, and a turn that
becomes free goes to the user who has the fewest of those who wait for one, the longest waiting
first. Who waits is bounded by the callers, each of which has a deadline.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class FairTurns:
    """`turns` at a time, and of these at most `share` for one user."""

    def __init__(self, turns: int, share: int) -> None:
        self._free = turns
        self._share = share
        self._held: Counter[str] = Counter()
        #: Those who wait, by user; the user that has waited longest first.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def turn(self, user: str) -> AsyncIterator[None]:
        """A turn of this user's, as soon as there is one; the caller bounds the wait."""
        await self._take(user)
        try:
            yield
        finally:
            self._give_back(user)

    def held(self, user: str) -> int:
        """How many turns this user has now."""
        return self._held[user]

    async def _take(self, user: str) -> None:
        if self._free and self._held[user] < self._share:
            self._grant(user)
            return
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(user, deque()).append(given)
        try:
            await given
        except asyncio.CancelledError:
            if given.cancelled():
                self._forget(user, given)
            else:  # it was given in the same moment
                self._give_back(user)
            raise

    def _grant(self, user: str) -> None:
        self._free -= 1
        self._held[user] += 1

    def _give_back(self, user: str) -> None:
        self._free += 1
        self._held[user] -= 1
        if not self._held[user]:
            del self._held[user]
        self._next()

    def _next(self) -> None:
        """One turn is free: whose is it?"""
        while (user := self._who_is_next()) is not None:
            given = self._waiting[user].popleft()
            self._move_behind(user)
            if not given.done():  # else it is cancelled, and its task has not run yet
                self._grant(user)
                given.set_result(None)
                return

    def _who_is_next(self) -> str | None:
        best: str | None = None
        for user in self._waiting:
            held = self._held[user]
            if held < self._share and (best is None or held < self._held[best]):
                best = user
                if not held:  # nobody has fewer; no more users have any than there are turns
                    break
        return best

    def _forget(self, user: str, given: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(user)
        if waiting is not None and given in waiting:
            waiting.remove(given)
            if not waiting:
                del self._waiting[user]

    def _move_behind(self, user: str) -> None:
        waiting = self._waiting.pop(user)
        if waiting:
            self._waiting[user] = waiting
