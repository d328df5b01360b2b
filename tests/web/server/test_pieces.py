"""Pieces of what was read end where requests end, however it was read."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.examples import examples
from tidegate.web.server.pieces import PIECE_BYTES, Pieces

heads = st.sampled_from([b"GET / HTTP/1.1\r\n\r\n", b"POST /x HTTP/1.1\r\nA: b\r\nC: d\r\n\r\n"])
bodies = st.sampled_from([b"", b"x", b"\r\n\r\n", b"{}\r\n", b"\r\n\r\n\r\n" * 3, b"y" * 10_000])


@settings(max_examples=examples(400))
@given(st.lists(st.tuples(heads, bodies), max_size=6), st.lists(st.integers(0, 12_000)))
def test_a_piece_ends_with_a_head_or_a_body_and_nothing_is_lost(
    messages: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    data = b"".join(head + body for head, body in messages)
    ends: list[int] = []
    for head, body in messages:
        start = ends[-1] if ends else 0
        ends += [start + len(head), start + len(head) + len(body)]
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces, at = Pieces(), 0
    for start, end in pairwise(edges):
        pieces.add(data[start:end])
        while pieces:
            head_end, body_end = next(
                (h, b) for h, b in zip(ends[::2], ends[1::2], strict=True) if at < b
            )
            piece = pieces.next(body_end - at if at >= head_end else 0)
            assert piece == data[at : at + len(piece)] != b""
            at += len(piece)
            assert at <= (head_end if at <= head_end else body_end)
            assert len(piece) <= max(PIECE_BYTES, body_end - head_end)
    assert at == len(data)


def test_what_is_cleared_is_gone() -> None:
    pieces = Pieces()
    pieces.add(b"GET / HTTP/1.1\r\n\r\nmore")
    assert pieces.next(0) == b"GET / HTTP/1.1\r\n\r\n"
    pieces.clear()
    assert not pieces
