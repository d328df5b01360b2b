"""The end of tasks that run until they are cancelled.

One `cancel` may not be enough: before Python 3.12 redis-py can lose it
(`tidegate.redis.batches.end_if_cancelled`). A loop of `XADD`s went on after its cancellation, and
whoever waited for its end did so for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

AGAIN_S = 0.5
PATIENCE_S = 30.0


async def ended(tasks: Collection[asyncio.Task[Any]], *, within_s: float = PATIENCE_S) -> None:
    """Cancel all until each has ended, however. AssertionError names those that do not."""
    left = {task for task in tasks if not task.done()}
    try:
        async with asyncio.timeout(within_s):
            while left:
                for task in left:
                    task.cancel()
                _, left = await asyncio.wait(left, timeout=AGAIN_S)
    except TimeoutError:
        names = sorted(task.get_name() for task in left)
        raise AssertionError(
            f"not ended {within_s:g} s after their cancellation: {names}"
        ) from None
    # What one of them raised is the matter of whoever awaits it; unseen it would be a warning.
    for task in tasks:
        if not task.cancelled():
            _ = task.exception()
