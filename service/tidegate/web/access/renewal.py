"""Renewal of tokens on an open connection, one at a time.

After a new token is verified, everything that the connection watches is authorized again: up to 128
requests for one message. So only one renewal is in progress at a time. Of the tokens that arrive
meanwhile the newest is used next, and the viewer is informed about the others. All of it ends with
the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None] | None]


class Renewal:
    """Of one connection; `renew` does the work for a token, `overtaken` is called for one that is
    not looked at.
    """

    __slots__ = ("_newest", "_overtaken", "_renew", "_spawn", "_task", "is_over")

    def __init__(
        self,
        renew: Callable[[str], Awaitable[None]],
        overtaken: Callable[[], None],
        spawn: Spawn,
    ) -> None:
        self._renew = renew
        self._overtaken = overtaken
        self._spawn = spawn
        self._newest: str | None = None
        self._task: asyncio.Task[None] | None = None
        self.is_over = False

    @property
    def is_overtaken(self) -> bool:
        """Whether a newer token waits, so that the rest of this renewal is for nothing."""
        return self._newest is not None

    def ask(self, token: str) -> None:
        """A token has come."""
        if self.is_over:
            return
        if self._newest is not None:
            self._overtaken()
        self._newest = token
        if self._task is None:
            self._task = self._spawn(self._run(), "refresh")

    def end(self) -> None:
        """The connection is gone."""
        self.is_over = True
        self._newest = None
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            while (token := self._newest) is not None:
                self._newest = None
                await self._renew(token)
        finally:
            self._task = None
