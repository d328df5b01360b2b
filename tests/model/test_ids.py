"""Ids from outside: strict, ordered by number, and back to the text they came from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.model.errors import InvalidOperationId, InvalidStreamId
from tidegate.model.ids import (
    ZERO,
    StreamId,
    is_stream_id,
    parse_operation_id,
    parse_stream_id,
    stream_id,
    stream_id_ms,
)

HALVES = st.integers(0, 2**64 - 1)
IDS = st.builds(StreamId, HALVES, HALVES)


@given(IDS)
def test_an_id_survives_its_text(one: StreamId) -> None:
    assert parse_stream_id(str(one)) == one
    assert is_stream_id(str(one).encode())
    assert stream_id(str(one).encode()) == one
    assert type(stream_id(str(one).encode())) is StreamId
    assert stream_id_ms(str(one).encode()) == one.ms


@given(IDS, IDS)
def test_ids_are_ordered_as_redis_orders_them(one: StreamId, two: StreamId) -> None:
    assert (one < two) == ((one.ms << 64 | one.seq) < (two.ms << 64 | two.seq))


@given(IDS.filter(lambda one: one != ZERO))
def test_nothing_is_between_an_id_and_the_one_before(one: StreamId) -> None:
    below = one.before()
    assert (one.ms << 64 | one.seq) - (below.ms << 64 | below.seq) == 1


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"1", b"1-", b"-1", b"+1-0", b" 1-0", b"1_0-0", b"1-0-0", b"1-0\n", b"\xb2-0"),
        b"9" * 21 + b"-0",
    ],
)
def test_what_redis_writes_as_no_id(raw: bytes) -> None:
    assert not is_stream_id(raw)


def test_before_the_first_there_is_nothing() -> None:
    assert ZERO.before() == ZERO
    assert parse_stream_id("5") == StreamId(5, 0)


@pytest.mark.parametrize(
    "text",
    [
        *("", "-", "1-", "-1", "1-2-3", " 1-0", "1-0 ", "1-0\n", "+1-0", "1_0-0", "0x1-0", "1.0-0"),
        *("1-*", "*", "$", ">", "\u0661-0", "1\u20130", "1-0\0", "18446744073709551616-0"),
        *("0-18446744073709551616", "9" * 21, "9" * 100_000, "NaN", "(1-0"),
    ],
)
def test_what_is_no_stream_id(text: str) -> None:
    with pytest.raises(InvalidStreamId) as caught:
        parse_stream_id(text, "after")
    assert caught.value.field == "after"
    assert len(str(caught.value)) < 200, "the text from outside is not repeated"


@given(st.text(max_size=140))
def test_an_operation_id_is_what_is_allowed_and_nothing_else(text: str) -> None:
    letters = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")
    good = 0 < len(text) <= 128 and text[0] in letters and set(text) <= letters | set(".:@~+=-")
    if good:
        assert parse_operation_id(text) == text
    else:
        with pytest.raises(InvalidOperationId):
            parse_operation_id(text)


HOSTILE = (
    "a\n",
    "a b",
    "{a}",
    "a}",
    "a*",
    "a?",
    "[a]",
    "a/b",
    "../a",
    ".a",
    "a\0",
    "-a",
    "+a",
    ":a",
)
HIDDEN = ("\u00e4", "\u0430", "a\u200bb", "a%20", "a'b", 'a"b', "a\\b", "a#b", "a" * 129)


@pytest.mark.parametrize("text", HOSTILE + HIDDEN)
def test_what_is_no_operation_id(text: str) -> None:
    with pytest.raises(InvalidOperationId):
        parse_operation_id(text)


@pytest.mark.parametrize(
    "text", ["42", "_", "a" * 128, "job:2026-11-23T00:00:00+01:00", "a@b.c~1="]
)
def test_what_is_an_operation_id(text: str) -> None:
    assert parse_operation_id(text) == text
