"""How commands write times: durations with a unit, ages, and moments of this machine's clock.

One way for all of them: `1.2 ms`, `250 ms`, `3.0 s`, `45 s`, `5 min`, `2 h`, `3 d`; a moment has
its date unless that is today's.
"""

from __future__ import annotations

from datetime import UTC, datetime

#: The year 9999, where datetime ends.
_NEWEST_MS = 253_402_000_000_000


def duration(seconds: float | None) -> str:
    """In its largest unit; a dash for what is not known."""
    if seconds is None:
        return "-"
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    for limit, size, unit in ((59.5, 1, "s"), (3_570, 60, "min"), (84_600, 3_600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def long_duration(seconds: float) -> str:
    """In whole seconds and above, two units at most, such as `2 h 5 min`."""
    left = max(0, round(seconds))
    parts = []
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts[:2]) or "0 s"


def age(seconds: float | None) -> str:
    """How long ago; seconds are whole, and what has just happened is not `0 s ago`."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return "now"
    return f"{duration(seconds) if seconds >= 9.95 else f'{seconds:.0f} s'} ago"


def moment(ms: int, now: datetime | None = None) -> str | None:
    """`08:15:00.250`, with the date in front on another day; None for what no calendar has."""
    if not 0 <= ms <= _NEWEST_MS:
        return None
    when = datetime.fromtimestamp(ms / 1000, UTC).astimezone()
    today = (now or datetime.now(UTC)).astimezone().date()
    clock = when.strftime("%H:%M:%S.") + f"{when.microsecond // 1000:03d}"
    return clock if when.date() == today else f"{when.date().isoformat()} {clock}"
