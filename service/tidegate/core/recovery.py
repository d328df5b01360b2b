"""Can it be proven that nothing is missing after a cursor? A pure answer from what the stream says
of itself.

Proven is: nothing was added since (`last` is the cursor); or an entry at or before the cursor still
exists, because trimming takes the oldest first; or the cursor is the very beginning and nothing was
ever removed. Everything else is a gap, also when perhaps nothing is missing (design section 2,
Repair).
"""

from __future__ import annotations

from tidegate.core.records import StreamInfo
from tidegate.model.frames import GapReason
from tidegate.model.ids import ZERO, StreamId


def find_gap(after: StreamId, info: StreamInfo) -> GapReason | None:
    """None when the entries that follow `after` are provably all there, else why not.

    A stream that does not exist proves nothing about a cursor other than the beginning.
    """
    if after == ZERO:
        return None if info.added == info.length else GapReason.TRIMMED
    if not info.exists:
        return GapReason.RECREATED
    if after == info.last:
        return None
    if after > info.last:
        return GapReason.REWOUND
    if info.length and info.first <= after:
        return None
    # Nothing was ever removed from this log and yet the cursor's entry is not in it: it is another
    # log.
    return GapReason.RECREATED if info.added == info.length else GapReason.TRIMMED
