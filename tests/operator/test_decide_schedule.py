"""The schedule: which bounds hold at a moment, over midnight, weekends and changes of the clock."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.operator.observing import spec
from tidegate_operator.decide.schedule import Bounds, bounds_at

BERLIN = "Europe/Berlin"


def bounds(when: str, *windows: dict[str, Any], zone: str = BERLIN, **scaling: Any) -> Bounds:
    """At a time as the clocks of a zone show it."""
    wall = datetime.fromisoformat(when).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    return bounds_at(spec(**{"min": 2, "max": 10, **scaling, "schedule": windows}).scaling, wall)


def day(**more: Any) -> dict[str, Any]:
    return {"begin": "08:00", "end": "18:00", "timeZone": BERLIN, "min": 6, **more}


@pytest.mark.parametrize(
    ("when", "least"),
    [
        ("2026-01-05 07:59:59", 2),
        ("2026-01-05 08:00:00", 6),
        ("2026-01-05 17:59:59", 6),
        ("2026-01-05 18:00:00", 2),
        ("2026-07-06 08:00:00", 6),  # in summer too, by the clock on the wall
        ("2026-07-06 07:59:59", 2),
    ],
)
def test_a_window_has_its_beginning_and_not_its_end(when: str, least: int) -> None:
    assert bounds(when, day()) == (least, 10)


@pytest.mark.parametrize(
    ("when", "least"),
    [
        ("2026-01-09 21:59", 2),  # a Friday
        ("2026-01-09 22:00", 6),
        ("2026-01-10 05:59", 6),  # it belongs to the Friday
        ("2026-01-10 06:00", 2),
        ("2026-01-10 22:00", 2),
        ("2026-01-09 05:59", 2),  # Thursday's night is nobody's
    ],
)
def test_a_window_over_midnight_belongs_to_the_day_it_begins(when: str, least: int) -> None:
    assert bounds(when, day(days=["Fri"], begin="22:00", end="06:00")).min == least


def test_the_same_begin_and_end_is_a_whole_day() -> None:
    whole = day(days=["Sat"], begin="06:00", end="06:00")
    moments = ["2026-01-10 05:59", "2026-01-10 06:00", "2026-01-11 05:59", "2026-01-11 06:00"]
    assert [bounds(one, whole).min for one in moments] == [2, 6, 6, 2]


def test_of_overlapping_windows_the_higher_holds() -> None:
    noon = {"begin": "11:00", "end": "13:00", "timeZone": BERLIN, "min": 8, "max": 30}
    cheap = day(min=3, max=4)
    assert bounds("2026-01-05 12:00", day(), noon) == (8, 30)
    assert bounds("2026-01-05 12:00", cheap, noon) == (8, 30)
    assert bounds("2026-01-05 10:00", cheap, noon) == (3, 4), "a window may lower the most"
    assert bounds("2026-01-05 10:00", cheap, min=6) == (6, 6), "never below the least"


def test_the_clock_that_is_set_forward_loses_no_window() -> None:
    """On 29 March 2026 02:00 becomes 03:00 in Berlin: 02:15 is never shown."""
    early = day(begin="02:15", end="02:45"), day(begin="02:15", end="03:30", min=5)
    before = datetime(2026, 3, 29, 0, 59, tzinfo=UTC)
    after = datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
    scaling = spec(min=2, max=10, schedule=early).scaling
    assert bounds_at(scaling, before).min == 2
    assert bounds_at(scaling, after).min == 5
