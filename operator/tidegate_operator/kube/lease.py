"""The Lease of the election: as it is read, and as it is written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Record:
    """The Lease as it was read.

    Attributes:
        holder: identity of the leader; empty if it was released.
        duration_s: how long the holder wants others to wait after a renewal.
        renewed: text of the time of the last renewal; compared, never read.
        transitions: how often the holder changed.
        version: `resourceVersion`, which a write must name.
    """

    holder: str
    duration_s: float
    renewed: str
    transitions: int
    version: str


@dataclass(frozen=True, slots=True)
class Write:
    """A change of the Lease to ask the API server for.

    Attributes:
        holder: the holder to write; empty to release.
        transitions: their number with this write.
        version: what was read; None to create the Lease.
        begins: whether this is the begin of a new leadership.
    """

    holder: str
    transitions: int
    version: str | None
    begins: bool


def lease_time(when: datetime) -> str:
    """A MicroTime as the API server writes it: UTC with six digits."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
