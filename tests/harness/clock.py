"""A clock that the test moves: an event loop whose time stands still while anything can run, and
jumps to the next timer when nothing can.

`await asyncio.sleep(3600)` takes no time, and what is due within that hour has happened by then, in
order. Nothing outside the loop is waited for: a test that waits for what cannot come fails at once.
For a whole folder, `pytest_asyncio_loop_factories` in its conftest; for one function `run`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from looptime import LoopTimeEventLoop

T = TypeVar("T")

#: Not 0, which as a time often stands for "never".
START_S = 1000.0
#: Rounds of the loop in which nothing happens before time moves: more than any await here needs.
_IDLE_ROUNDS = 3


class MovedClockLoop(LoopTimeEventLoop, asyncio.SelectorEventLoop):
    """Its `time()` is the clock."""

    def __init__(self) -> None:
        super().__init__(start=START_S, idle_timeout=0, noop_cycles=_IDLE_ROUNDS)


def run(main: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, on a clock of its own."""
    with asyncio.Runner(loop_factory=MovedClockLoop) as runner:
        return runner.run(main)


async def settle() -> None:
    """Everything that can happen now has happened; time has moved by next to nothing."""
    await asyncio.sleep(1e-6)
