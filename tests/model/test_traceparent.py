"""Which traceparents are believed: those that the standard allows, told once, and no others."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.model.entries import RawEntry
from tidegate.model.traceparent import TraceParent, parse_traceparent, traceparent_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{SPAN}-01"
PARENT = TraceParent(int(TRACE, 16), int(SPAN, 16), sampled=True)


def entry(*fields: str | bytes) -> RawEntry:
    return RawEntry(b"1-0", [f if isinstance(f, bytes) else f.encode() for f in fields])


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (GOOD, True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-02", False),  # level 2: the trace id is random
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"00-{TRACE}-{SPAN}-ff", True),
        (f"cc-{TRACE}-{SPAN}-01", True),  # a later version, read as far as it is known
        (f"cc-{TRACE}-{SPAN}-01-what the future has", True),
    ],
)
def test_what_the_standard_allows(text: str, sampled: bool) -> None:
    assert parse_traceparent(text.encode()) == PARENT._replace(sampled=sampled)


HOSTILE = [
    "",
    "00",
    GOOD[:-1],
    GOOD + "0",
    GOOD + "-",  # version 00 ends with the flags
    GOOD + "-more",
    GOOD.upper(),
    GOOD.replace("-", "_"),
    " " + GOOD,
    GOOD + "\n",
    GOOD + "," + GOOD,
    f"ff-{TRACE}-{SPAN}-01",
    f"0g-{TRACE}-{SPAN}-01",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{'g' * 32}-{SPAN}-01",
    f"00-{TRACE[:-1]}-{SPAN}0-01",
    f"00-{TRACE}-{SPAN}-1",
    f"00-{TRACE}-{SPAN}-0x",
    f"cc-{TRACE}-{SPAN}-01" + "x" * 10_240,
    f"cc-{TRACE}-{SPAN}-01-" + "x" * 10_240,
    f"cc-{TRACE}-{SPAN}-01-\n",
    "0" * 10_240,
    "\u0660\u0660-" + TRACE + "-" + SPAN + "-01",  # digits, but not ASCII ones
]


@pytest.mark.parametrize("text", HOSTILE)
def test_everything_else_is_as_good_as_absent(text: str) -> None:
    assert parse_traceparent(text.encode()) is None
    assert traceparent_of(entry("message", "{}", "traceparent", text)) is None
    assert traceparent_of(entry("message", json.dumps({"traceparent": text}))) is None


@given(st.binary(max_size=200))
def test_no_bytes_raise(raw: bytes) -> None:
    parsed = parse_traceparent(raw)
    assert parsed is None or (parsed.trace_id and parsed.span_id)
    traceparent_of(RawEntry(b"1-0", [b"traceparent", raw]))
    traceparent_of(RawEntry(b"1-0", [b"message", b'{"traceparent":"' + raw + b'"}']))


def test_the_text_of_a_parent_is_one() -> None:
    assert str(PARENT) == GOOD
    small = TraceParent(1, 2, sampled=False)
    assert parse_traceparent(str(small).encode()) == small


@pytest.mark.parametrize(
    "raw",
    [
        entry("traceparent", GOOD),
        entry("type", "x", "traceparent", GOOD),
        entry("message", "{}", "traceparent", GOOD),
        entry("message", "no json", "traceparent", GOOD),
        entry("message", json.dumps({"type": "x", "data": {}, "traceparent": GOOD})),
        entry("message", json.dumps({"traceparent": GOOD}), "more", "fields"),
        # The field goes before the message.
        entry("message", json.dumps({"traceparent": "00-junk"}), "traceparent", GOOD),
        # A value is not a name.
        entry("type", "traceparent", "message", json.dumps({"traceparent": GOOD})),
        entry("type", "message", "message", json.dumps({"traceparent": GOOD})),
    ],
)
def test_where_it_stands_in_an_entry(raw: RawEntry) -> None:
    assert traceparent_of(raw) == PARENT


@pytest.mark.parametrize(
    "raw",
    [
        entry(),
        RawEntry(b"1-0", None, 1_000_000),
        entry("message", "{}"),
        entry("message"),
        entry("message", "{}", "traceparent"),
        entry("traceparent", GOOD, "traceparent", GOOD),
        entry("message", f'{{"traceparent":"{GOOD}","traceparent":"{GOOD}"}}'),
        # Only at the top: below it is the publisher's own data.
        entry("message", json.dumps({"data": {"traceparent": GOOD}})),
        entry("message", json.dumps({"traceparent": 7})),
        entry("message", json.dumps({"traceparent": [GOOD]})),
        entry("message", json.dumps([{"traceparent": GOOD}])),
        entry("message", f'{{"traceparent":"{GOOD}"'),
        entry("message", '{"a":' * 5_000 + f'"traceparent":"{GOOD}"'),
        entry("message", '{"traceparent":"\\ud800"}'),
        entry("message", b'{"traceparent":"\xff"}'),
        entry("TRACEPARENT", GOOD),
    ],
)
def test_entries_that_name_none(raw: RawEntry) -> None:
    assert traceparent_of(raw) is None
