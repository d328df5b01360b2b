"""Latest wins, and nothing else is lost, reordered or left out of the count."""

from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.conflation import conflate
from tidegate.model.frames import Frame, FrameKind
from tidegate.model.ids import ZERO, StreamId

KINDS = st.lists(st.sampled_from(list(FrameKind)), max_size=40)


def frames_of(kinds: list[FrameKind]) -> list[Frame]:
    return [Frame(StreamId(n + 1, 0), b"", kind) for n, kind in enumerate(kinds)]


@given(KINDS, st.integers(0, 45))
def test_conflation(kinds: list[FrameKind], until: int) -> None:
    frames = frames_of(kinds)
    keep_until = StreamId(until, 0)
    kept = conflate(frames, keep_until)
    found = [one.frame for one in kept]
    assert found == [frame for frame in frames if frame in found], "in order, none twice"
    dropped = [frame for frame in frames if frame not in found]
    assert all(frame.kind is FrameKind.PROGRESS and frame.id > keep_until for frame in dropped)
    assert sum(one.skipped for one in kept) == len(dropped), "every hole is counted"
    progress = [frame for frame in frames if frame.kind is FrameKind.PROGRESS]
    assert progress[-1:] == [f for f in found if f.kind is FrameKind.PROGRESS][-1:]
    newer = [f for f in found if f.kind is FrameKind.PROGRESS and f.id > keep_until]
    assert len(newer) <= 1, "of what may be dropped only the latest is left"


@given(KINDS)
def test_each_count_stands_where_its_hole_is(kinds: list[FrameKind]) -> None:
    frames = frames_of(kinds)
    at = 0
    for frame, skipped in conflate(frames, ZERO):
        at += skipped + 1
        assert frame == frames[at - 1]
