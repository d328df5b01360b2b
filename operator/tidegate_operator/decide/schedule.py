"""The bounds that hold now: `scaling.min` and `max`, and the windows of the schedule over them.

A window belongs to the day on which it begins, by the clock on its wall. Where the clock is set
forward or back it follows: a window from 02:30 begins at the first moment that shows 02:30 or
later.
"""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from tidegate_operator.model.scaling import DAYS, Scaling, Window


class Bounds(NamedTuple):
    """Least and most pods."""

    min: int
    max: int


def bounds_at(scaling: Scaling, wall: datetime) -> Bounds:
    """The bounds at a moment, which must carry a time zone. Overlapping windows: the higher."""
    open_now = [window for window in scaling.schedule if is_open(window, wall)]
    least = max([scaling.min, *(window.min for window in open_now)])
    tops = [window.max for window in open_now if window.max is not None]
    # Of two windows one may ask for more than the other allows: someone planned for that load.
    return Bounds(least, max(least, *tops) if tops else max(least, scaling.max))


def is_open(window: Window, wall: datetime) -> bool:
    """Whether the moment lies in the window: its beginning belongs to it, its end does not."""
    there = wall.astimezone(ZoneInfo(window.time_zone))
    now, begin, end = there.time(), time.fromisoformat(window.begin), time.fromisoformat(window.end)
    today = DAYS[there.weekday()]
    yesterday = DAYS[(there - timedelta(days=1)).weekday()]
    if begin < end:
        return today in window.days and begin <= now < end
    return (today in window.days and now >= begin) or (yesterday in window.days and now < end)
