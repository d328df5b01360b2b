"""The one way to wait for what nothing announces: another process, Redis, a peer that has gone.

Where there is an event, await that. Bounds are for a machine that stands still for seconds, not
for how long it should take: how fast something is belongs into a benchmark.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

PATIENCE_S = 60.0
_POLL_MIN_S = 0.002
_POLL_MAX_S = 0.25
#: Asked again after this share of the time waited so far: late by a twentieth at the most.
_POLL_SHARE = 0.05


async def until(
    holds: Callable[[], object | Awaitable[object]],
    what: str | Callable[[], str] = "it did not come true",
    *,
    within_s: float = PATIENCE_S,
) -> float:
    """Ask until the answer is true; how long that took, in seconds. AssertionError says `what`."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(within_s):
            while True:
                answer = holds()
                if isinstance(answer, Awaitable):
                    answer = await answer
                waited = time.monotonic() - began
                if answer:
                    return waited
                await asyncio.sleep(min(max(_POLL_MIN_S, waited * _POLL_SHARE), _POLL_MAX_S))
    except TimeoutError:
        text = what if isinstance(what, str) else what()
        raise AssertionError(f"not within {within_s:g} s: {text}") from None
