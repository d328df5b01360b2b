"""Latest wins: what a lagging viewer gets instead of every superseded progress entry.

Pure. Entries that are not progress are all kept, in order; of the progress entries only the last
is. Each hole is announced by a count in front of the next frame, so the ids a viewer sees still
rise strictly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tidegate.model.frames import Frame, FrameKind
from tidegate.model.ids import StreamId


class Kept(NamedTuple):
    """A frame to deliver, and how many were skipped just before it."""

    frame: Frame
    skipped: int


def conflate(frames: Sequence[Frame], keep_until: StreamId) -> list[Kept]:
    """Drop the progress frames above `keep_until` that a later progress frame supersedes."""
    latest = next((f for f in reversed(frames) if f.kind is FrameKind.PROGRESS), None)
    kept: list[Kept] = []
    skipped = 0
    for frame in frames:
        if frame.kind is FrameKind.PROGRESS and frame is not latest and frame.id > keep_until:
            skipped += 1
            continue
        kept.append(Kept(frame, skipped))
        skipped = 0
    return kept
