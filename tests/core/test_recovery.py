"""The proof of continuity, against everything that can have happened to a small stream."""

from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.records import StreamInfo
from tidegate.core.recovery import find_gap
from tidegate.model.frames import GapReason
from tidegate.model.ids import ZERO, StreamId

IDS = st.lists(st.integers(1, 60), unique=True, max_size=12).map(sorted)


@given(IDS, st.integers(0, 12), st.integers(0, 70))
def test_what_is_proven_is_complete(written: list[int], trimmed: int, cursor: int) -> None:
    """Trimming takes the oldest. A cursor is an id the viewer has seen, or the beginning."""
    left = written[min(trimmed, len(written)) :]
    info = StreamInfo(
        exists=True,
        first=StreamId(left[0], 0) if left else ZERO,
        last=StreamId(written[-1], 0) if written else ZERO,
        length=len(left),
        added=len(written),
    )
    missing = [n for n in written if n > cursor and n not in left]
    reason = find_gap(StreamId(cursor, 0), info)
    if reason is None:
        assert not missing
    if cursor in left or (cursor == 0 and left == written):
        assert reason is None, "proven, so no alarm"


def test_each_reason() -> None:
    whole = StreamInfo(exists=True, first=StreamId(5, 0), last=StreamId(9, 0), length=3, added=3)
    cut = whole._replace(added=10)
    for cursor, info, reason in (
        (ZERO, StreamInfo(), None),
        (ZERO, whole, None),
        (ZERO, cut, GapReason.TRIMMED),
        (StreamId(9, 0), whole, None),
        (StreamId(6, 3), whole, None),
        (StreamId(5, 0), cut, None),
        (StreamId(4, 9), cut, GapReason.TRIMMED),
        (StreamId(4, 9), whole, GapReason.RECREATED),
        (StreamId(9, 1), whole, GapReason.REWOUND),
        (StreamId(9, 0), StreamInfo(), GapReason.RECREATED),
        (StreamId(9, 0), cut._replace(length=0), None),
        (StreamId(8, 0), cut._replace(length=0), GapReason.TRIMMED),
    ):
        assert find_gap(cursor, info) is reason, (cursor, info)
