"""Answers that hold for some seconds, and one question at a time for each key.

After a deploy or a cut all viewers of an operation come back at once, and the backend should hear
of each user once. Those who ask while a question is under way share its answer, also a failure; if
the one who asked goes away, the next of them asks. A value is whatever the caller wants to
remember; what the question raises is not kept.

Bounds: `entries_max` answers, the oldest give way. The time is `clock`, in seconds, and only goes
forward.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class SingleFlightCache(Generic[Value]):
    """A bounded cache with single-flight questions."""

    def __init__(self, entries_max: int, clock: Callable[[], float]) -> None:
        self._entries_max = entries_max
        self._clock = clock
        self._kept: OrderedDict[Hashable, tuple[float, Value]] = OrderedDict()
        self._asked: dict[Hashable, asyncio.Future[Value]] = {}
        self.shared = 0

    def __len__(self) -> int:
        return len(self._kept)

    async def get(
        self, key: Hashable, ask: Callable[[], Awaitable[Value]], hold_s: Callable[[Value], float]
    ) -> Value:
        """The answer that is kept, or that of `ask`, which is then kept for `hold_s(answer)`."""
        while True:
            kept = self._kept.get(key)
            if kept is not None and self._clock() < kept[0]:
                return kept[1]
            asked = self._asked.get(key)
            if asked is None:
                return await self._ask(key, ask, hold_s)
            self.shared += 1
            # `wait` does not cancel what it waits for when this viewer goes away.
            await asyncio.wait((asked,))
            if not asked.cancelled():
                return asked.result()

    async def _ask(
        self, key: Hashable, ask: Callable[[], Awaitable[Value]], hold_s: Callable[[Value], float]
    ) -> Value:
        shared: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
        self._asked[key] = shared
        try:
            value = await ask()
        except Exception as error:
            shared.set_exception(error)
            shared.exception()  # nobody else may be waiting: it is raised here as well
            raise
        except BaseException:  # cancelled, as a rule
            shared.cancel()
            raise
        else:
            shared.set_result(value)
            self._keep(key, value, hold_s(value))
            return value
        finally:
            del self._asked[key]

    def _keep(self, key: Hashable, value: Value, hold_s: float) -> None:
        self._kept.pop(key, None)
        if hold_s <= 0:
            return
        self._kept[key] = (self._clock() + hold_s, value)
        while len(self._kept) > self._entries_max:
            self._kept.popitem(last=False)
