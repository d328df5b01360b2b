"""Times as text, for the entries that we write ourselves."""

from __future__ import annotations

from datetime import datetime


def iso_time(moment: datetime) -> str:
    """A time in UTC as ISO 8601 with milliseconds: `2026-11-29T03:14:15.926Z`."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
