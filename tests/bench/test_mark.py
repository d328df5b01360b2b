"""The mark and the `XADD` around it."""

import json

import hiredis
from hypothesis import given
from hypothesis import strategies as st

from bench.mark import LENGTH, MAX_STREAM_ENTRIES, find_mark, operation_name, xadd_template
from bench.naive import frame_of

TIMES = st.integers(min_value=0, max_value=2**62)
COUNTS = st.integers(min_value=0, max_value=99_999_999)


def command(sent_ns: int, number: int) -> list[bytes]:
    """The command as a server reads it."""
    reader = hiredis.Reader()
    reader.feed(xadd_template("bench-00007") % (sent_ns, number))
    parts: list[bytes] = reader.gets()
    assert reader.gets() is False
    return parts


@given(TIMES, COUNTS)
def test_an_entry_is_a_plain_xadd_whose_mark_survives_json(sent_ns: int, number: int) -> None:
    name, key, *options, field, message = command(sent_ns, number)

    assert (name, key) == (b"XADD", b"operation-progress:bench-00007")
    assert options == [b"MAXLEN", b"~", b"%d" % MAX_STREAM_ENTRIES, b"*"]
    assert field == b"message"
    again = json.dumps(json.loads(message), separators=(",", ":")).encode()
    assert find_mark(message) == find_mark(again) == (sent_ns, number)


def test_a_frame_has_the_usual_size() -> None:
    message = command(10**15, 1)[-1].decode()
    frame = frame_of(operation_name(7), "1795000000000-0", {"message": message})

    assert 230 <= len(frame) <= 260
    assert json.loads(frame)["data"]["percent"] == 42


def test_a_text_without_a_whole_mark_has_none() -> None:
    whole = b"~T%019d.%08d~" % (1, 2)

    assert len(whole) == LENGTH
    assert find_mark(b'{"type":"skipped"}') is None
    assert find_mark(whole[:-1]) is None
