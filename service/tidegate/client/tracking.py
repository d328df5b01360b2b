"""Items of a loop, with progress behind each: what `track` of every kind of operation does.

An item counts when the loop asks for the next one, so a bar is full when the work is done, and a
loop that is left early does not count the item at which it was left.
"""

from __future__ import annotations

import operator
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
#: What `progress` takes.
Figures = dict[str, Any]


def track(
    items: Iterable[T], total: int | None, report: Callable[[Figures], object]
) -> Iterator[T]:
    """Each item; `report` gets `current`, and `total` where it is known or the items have it."""
    if total is None:
        total = operator.length_hint(items) or None
    for done, item in enumerate(items, start=1):
        yield item
        report(figures(done, total))


async def track_async(
    items: Iterable[T] | AsyncIterable[T],
    total: int | None,
    report: Callable[[Figures], Awaitable[object]],
) -> AsyncIterator[T]:
    """The same for `async for`, over items of either kind."""
    if isinstance(items, Iterable):
        if total is None:
            total = operator.length_hint(items) or None
        for done, item in enumerate(items, start=1):
            yield item
            await report(figures(done, total))
        return
    done = 0
    async for item in items:
        yield item
        done += 1
        await report(figures(done, total))


def figures(done: float, total: float | None) -> Figures:
    """Of a loop that turns out longer than was said, the total grows with it."""
    return {"current": done} if not total else {"current": done, "total": max(done, total)}
