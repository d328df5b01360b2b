"""How the output of a program is read: lines, percentages, line ends of every kind."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.cli.task_process import LINE_MAX_BYTES, Lines, percent_of


def read(*parts: bytes) -> list[tuple[str, bool]]:
    lines = Lines()
    return [line for part in parts for line in lines.feed(part)] + lines.rest()


def test_lines_and_what_is_drawn_over() -> None:
    assert read(b"a\nb\r\nc") == [("a", True), ("b", True), ("c", True)]
    assert read(b"10%\r20%\rdone\n") == [("10%", False), ("20%", False), ("done", True)]
    assert read(b"a\r", b"\nb\n") == [("a", False), ("b", True)]
    assert read(b"\x1b[32mgreen\x1b[0m \xff\n") == [("green \ufffd", True)]
    assert read() == []


@given(text=st.text(alphabet="ab %1\n", max_size=60), cuts=st.lists(st.integers(0, 60), max_size=5))
def test_where_reads_end_does_not_matter(text: str, cuts: list[int]) -> None:
    data = text.encode()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    parts = [data[a:b] for a, b in itertools.pairwise(edges)]
    assert read(*parts) == read(data)


def test_a_line_without_an_end_takes_no_memory() -> None:
    lines = Lines()
    for _ in range(100):
        assert lines.feed(b"x" * 65_536) == []
    ((line, stays),) = lines.feed(b"\n")
    assert (len(line), stays) == (LINE_MAX_BYTES, True)


@pytest.mark.parametrize(
    ("line", "fraction"),
    [
        ("45%", 0.45),
        ("  1.234.567  62%  3.1MB/s", 0.62),
        ("copied 12.5 % of it", 0.125),
        ("10% of 100%", 1.0),
        ("100.0%", 1.0),
        ("0%", 0.0),
        ("150%", None),
        ("1000%", None),
        ("3 of 4", None),
        ("%", None),
        ("-5% off", 0.05),
    ],
)
def test_the_last_percentage_of_a_line(line: str, fraction: float | None) -> None:
    assert percent_of(line) == fraction
