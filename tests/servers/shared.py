"""One server for many tests, replaced when a test broke it.

A test may kill, pause, reconfigure or fail over what it was given; the next one that asks gets a
wiped server if the old one is `intact`, else a new one. So tests stay quick and stay apart.
"""

from collections.abc import Callable
from typing import Generic, Protocol, Self, TypeVar


class Part(Protocol):
    async def start(self) -> Self: ...
    async def intact(self) -> bool: ...
    async def wipe(self) -> None: ...
    def close(self) -> None: ...


P = TypeVar("P", bound=Part)


class Shared(Generic[P]):
    """Not bound to an event loop, so a session's fixture can hold it for every test's loop."""

    def __init__(self, make: Callable[[], P]) -> None:
        self._make = make
        self._part: P | None = None

    async def take(self) -> P:
        """A running, empty part."""
        if self._part is not None and not await self._part.intact():
            self.close()
        if self._part is None:
            part = self._make()
            try:
                await part.start()
            except BaseException:
                part.close()
                raise
            self._part = part
        await self._part.wipe()
        return self._part

    def close(self) -> None:
        if self._part is not None:
            self._part.close()
            self._part = None
