"""Items of a loop, with progress behind each: what `track` of every kind of operation does.

An item counts when the loop asks for the next one, so a bar is full when the work is done, and a
loop that is left early does not count the item at which it was left. Where neither a total is given
nor the items have a length, only a count is reported.
"""

from __future__ import annotations

import operator
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
#: `current` and `total`, as `progress` takes them.
Figures = dict[str, Any]


def track(
    items: Iterable[T],
    total: int | None,
    progress: Callable[[Figures], object],
    count: Callable[[int], object],
) -> Iterator[T]:
    """Each item; behind it `progress`, or `count` without a total."""
    if total is None:
        total = operator.length_hint(items) or None
    for done, item in enumerate(items, start=1):
        yield item
        if total:
            progress(figures(done, total))
        else:
            count(done)


async def track_async(
    items: Iterable[T] | AsyncIterable[T],
    total: int | None,
    progress: Callable[[Figures], Awaitable[object]],
    count: Callable[[int], Awaitable[object]],
) -> AsyncIterator[T]:
    """The same for `async for`, over items of either kind."""
    if total is None and isinstance(items, Iterable):
        total = operator.length_hint(items) or None
    done = 0
    async for item in _each(items):
        yield item
        done += 1
        if total:
            await progress(figures(done, total))
        else:
            await count(done)


async def _each(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(items, Iterable):
        for item in items:
            yield item
    else:
        async for item in items:
            yield item


def figures(done: float, total: float) -> Figures:
    """Of a loop that turns out longer than was said, the total grows with it."""
    return {"current": done, "total": max(done, total)}
