"""Which viewer watches which operation."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bench.million.scene import CROWDED, in_crowd, path, watched


@given(
    viewers=st.integers(1, 3_000),
    share=st.floats(0, 1),
    operations=st.integers(2, 300),
)
def test_viewers_are_dealt_out_evenly(viewers: int, share: float, operations: int) -> None:
    counts = Counter(watched(one, share=share, operations=operations) for one in range(viewers))

    assert counts.pop(CROWDED, 0) == in_crowd(viewers, share)
    assert set(counts) <= set(range(1, operations))
    others = [counts[one] for one in range(1, operations)]
    assert max(others) - min(others) <= 1


def test_the_operations_of_viewers_are_those_of_the_publisher() -> None:
    assert path(0, share=0.5, operations=100_000) == "/ws/operations/bench-00001"
    assert path(1, share=0.5, operations=100_000) == "/ws/operations/bench-00000"
