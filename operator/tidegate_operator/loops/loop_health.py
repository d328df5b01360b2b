"""Health of the loops: when each last ended a round, how long that took, and whether one is stuck.

A loop that waits for its next round says so with `beat`, so a loop without a beat for long sits in
something that does not end: a restart may help, and nothing else will.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

#: A loop that waits beats so often.
BEAT_S = 5.0


@dataclass(slots=True)
class Loop:
    """One loop. Times by the clock of its `LoopHealth`, in seconds; `beat_at` may lie ahead."""

    beat_at: float
    ended_at: float | None = None
    lasted_s: float = 0.0
    rounds: int = 0
    errors: int = 0
    error: str = ""


class LoopHealth:
    """The loops of this process by name; they come and go with Gateways and leadership."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.loops: dict[str, Loop] = {}

    def beat(self, name: str) -> None:
        """The loop turns."""
        self._loop(name).beat_at = self._clock()

    @contextmanager
    def round(self, name: str, *, allow_s: float = 0.0) -> Iterator[Loop]:
        """One round; an error that leaves the block is counted. `error` may be set inside.

        `allow_s` is what the round may take by its own pace before it begins to look stuck.
        """
        loop = self._loop(name)
        began = self._clock()
        loop.beat_at = began + allow_s
        loop.error = ""
        try:
            yield loop
        except Exception as error:
            loop.error = str(error) or type(error).__name__
            raise
        finally:
            now = self._clock()
            loop.beat_at = loop.ended_at = now
            loop.lasted_s = now - began
            loop.rounds += 1
            loop.errors += bool(loop.error)

    async def wait(self, name: str, event: asyncio.Event) -> None:
        """Until the event, with a beat now and then; the event is cleared."""
        while not event.is_set():
            self.beat(name)
            try:
                async with asyncio.timeout(BEAT_S):
                    await event.wait()
            except TimeoutError:
                continue
        event.clear()

    def forget(self, name: str) -> None:
        """The loop is no more."""
        self.loops.pop(name, None)

    def stuck(self, after_s: float) -> list[str]:
        """Loops without a beat for so long."""
        now = self._clock()
        return sorted(name for name, loop in self.loops.items() if now - loop.beat_at > after_s)

    def age_s(self, name: str) -> float:
        """Since the loop last ended a round; since its begin, if it ended none yet."""
        loop = self.loops[name]
        since = loop.beat_at if loop.ended_at is None else loop.ended_at
        return max(0.0, self._clock() - since)

    def _loop(self, name: str) -> Loop:
        found = self.loops.get(name)
        if found is None:
            found = self.loops[name] = Loop(self._clock())
        return found
