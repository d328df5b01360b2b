"""Whatever the rest of an entry is, its type and status are read, and viewers get valid JSON."""

import json
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.harness.examples import examples
from tidegate.model.entries import (
    MALFORMED_TYPE,
    TOO_LARGE,
    Entry,
    RawEntry,
    TerminalRules,
    read_entry,
)
from tidegate.model.frames import FrameKind, entry_frame
from tidegate.model.ids import StreamId

AT = StreamId(1_795_413_516_350, 7)
Json = dict[str, Any]


def no_constant(text: str) -> Any:
    raise AssertionError(f"{text} is not JSON")


def read(*fields: bytes, size_bytes: int = 0) -> tuple[Entry, Json]:
    """The entry, and its frame as a browser reads it."""
    entry = read_entry(AT, RawEntry(b"1795413516350-7", list(fields), size_bytes))
    frame = entry_frame(entry, b"1795413516350-7", b"42", FrameKind.ENTRY)
    parsed: Json = json.loads(frame.payload.decode(), parse_constant=no_constant)
    assert list(parsed) == ["id", "operation", "timestamp", "type", "data"]
    assert parsed["type"] == entry.type
    return entry, parsed


def ended(text: bytes | str) -> Json:
    """The frame of an entry that must end its operation as completed."""
    entry, frame = read(b"message", text if isinstance(text, bytes) else text.encode())
    assert (entry.type, entry.status) == ("operation_completed", "completed")
    assert TerminalRules().is_terminal(entry)
    return frame


END = '{"type":"operation_completed","data":{"status":"completed",%s}}'
END_LAST = '{"data":{%s,"status":"completed"},"type":"operation_completed"}'


# --- read as a whole


@pytest.mark.parametrize("form", [END, END_LAST])
@pytest.mark.parametrize(
    ("rest", "value"),
    [
        ("NaN", None),
        ("Infinity", None),
        ("-Infinity", None),
        (
            '[1.10,NaN,{"y":-Infinity},"NaN \\" Infinity"]',
            [1.1, None, {"y": None}, 'NaN " Infinity'],
        ),
        ('"\\udcff"', "\udcff"),
        ('"a\\ud83d"', "a\ud83d"),
        ('"\\ude00\\ud83d"', "\ude00\ud83d"),
        ('"\\ud83d\\ude00"', "\U0001f600"),
    ],
)
def test_an_end_beside_what_python_writes_is_an_end(form: str, rest: str, value: Any) -> None:
    frame = ended(form % f'"x":{rest}')
    assert frame["data"] == {"x": value, "status": "completed"}, "and nothing of it is lost"


def test_escaped_surrogates_and_numbers_go_through_as_they_are() -> None:
    text = END % '"f":"\\udcff","n":1.10,"big":12345678901234567890123,"x":NaN'
    entry, _ = read(b"message", text.encode())
    assert entry.data == text.partition('"data":')[2][:-1].replace("NaN", "null").encode()
    assert entry.is_whole


def test_an_end_behind_a_byte_order_mark_is_an_end() -> None:
    assert ended(b"\xef\xbb\xbf" + (END % '"a":1').encode())["data"] == {
        "status": "completed",
        "a": 1,
    }


def test_a_type_of_null_is_none() -> None:
    entry, frame = read(b"message", b'{"type":null,"data":{"status":"failed"}}')
    assert (entry.type, entry.status, entry.is_whole) == ("update", "failed", True)
    assert frame["data"] == {"status": "failed"}


@pytest.mark.parametrize("type_", ["7", "true", "[]", "{}"])
def test_a_type_that_is_no_text_does_not_hide_the_status(type_: str) -> None:
    entry, frame = read(b"message", b'{"type":%b,"data":{"status":"failed"}}' % type_.encode())
    assert (entry.type, entry.status, entry.is_whole) == (MALFORMED_TYPE, "failed", False)
    assert frame["data"]["status"] == "failed"


def test_half_a_pair_in_type_or_status_can_be_written_wherever_they_are_needed() -> None:
    entry, _ = read(b"message", b'{"type":"\\udcff","data":{"status":"\\ud800x"}}')
    assert (entry.type, entry.status) == ("\ufffd", "\ufffdx")


# --- read in part


def test_an_end_with_cut_utf8_is_an_end() -> None:
    text = (END % '"text":"caf\xc3"').encode("latin-1")
    frame = ended(text)
    assert frame["data"]["text"] == "caf\ufffd"
    assert frame["data"]["truncated"] is True
    assert frame["data"]["bytes"] == len(text)
    assert frame["data"]["reason"] == "not UTF-8"


@pytest.mark.parametrize("form", [END, END_LAST])
@pytest.mark.parametrize(
    "rest",
    [
        '"x":tru',
        '"x":"a"b"',
        '"x":"a\\q"',
        '"x":"a\n"',
        '"x":01',
        '"x":',
        '"x"',
        "x:1",
        "'x':1",
        '"x":}',
        '"x":]',
        '"x":{',
        '"x":[[',
        '"x":"\\',
        '"x":{"status":"failed"},"y":nul',
        '"x":' + "[" * 100_000 + "]" * 100_000,
        '"steps":[{"status":"failed","type":"operation_failed"}],"x":,',
        "\0",
    ],
    ids=lambda text: repr(text[:30]),
)
def test_an_end_beside_broken_json_is_an_end(form: str, rest: str) -> None:
    data = ended(form % rest)["data"]
    assert data["status"] == "completed"
    assert data["truncated"] is True
    assert data["bytes"] == len(form % rest)
    assert data["reason"]
    assert (form % rest).startswith(data["text"][:20])


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"operation_completed","data":{"status":"completed","a":1},"x":tru}',
        '{"x":tru,"data":{"status":"completed","a":1},"type":"operation_completed"}',
        '{"data":{"status":"completed","a":1},"x":"a"b","type":"operation_completed"}',
        '{"status":"completed","x":tru,"type":"operation_completed","a":1}',
        '{"type":"operation_completed","x":tru,"status":"completed"}',
        '{"type":"operation_completed","data":{"status":"completed","log":"cut of',
        '{"type":"operation_completed","data":{"status":"completed","steps":[{"type":"a"}',
        '{"type":"operation_completed","data":{"status":"completed"}} and more',
        '{"data":{"x":1},"status":"completed"},"type":"operation_completed"}',
    ],
)
def test_an_end_is_found_on_either_side_of_the_damage(text: str) -> None:
    ended(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"step","data":{"steps":[{"status":"completed"}',
        '{"type":"step","data":{"a":1},"status":"completed","x":tru}',
        '{"type":"step","data":{"a":1},"status":"completed"} and more',
        '{"type":"step","data":{"steps":[{"status":"completed","type":"operation_completed"}',
        '{"type":"step","steps":{"status":"completed"},"x":tru}',
        '{"type":"step","steps":{"x":tru,"status":"completed"}}',
        '{"type":"step","data":{"x":tru,"step":{"status":"completed"}}}',
        '{"type":"step","data":{"x":{"status":"completed"},"y":tru}}',
        '{"type":"step","data":{"a":"\\"status\\":\\"completed\\"","y":tru}}',
    ],
)
def test_the_status_of_something_inside_is_not_that_of_the_operation(text: str) -> None:
    entry, frame = read(b"message", text.encode())
    assert (entry.type, entry.status) == ("step", None)
    assert frame["data"]["truncated"] is True


def test_members_in_front_of_the_damage_are_kept() -> None:
    frame = ended(END % '"result":[1.50,2],"why":"x","y":tru,"z":1')
    data = {k: v for k, v in frame["data"].items() if k not in ("bytes", "reason", "text")}
    assert data == {"status": "completed", "result": [1.5, 2], "why": "x", "truncated": True}


def test_what_the_backend_calls_truncated_itself_does_not_hide_what_we_say() -> None:
    frame = ended(END % '"truncated":false,"bytes":"many","x":tru')
    assert frame["data"]["truncated"] is True
    assert isinstance(frame["data"]["bytes"], int)


# --- too large


def test_of_an_entry_that_was_too_large_to_carry_what_was_kept_is_delivered() -> None:
    kept = b'{"type":"operation_completed","data":{"status":"completed","n":1.50}}'
    entry, frame = read(b"message", kept, size_bytes=300_000)
    assert (entry.type, entry.status, entry.is_whole) == ("operation_completed", "completed", False)
    assert frame["data"] == {
        "status": "completed", "n": 1.5, "truncated": True, "bytes": 300_000, "reason": TOO_LARGE,
    }  # fmt: skip


def test_of_a_large_entry_that_could_not_be_read_through_the_end_is_read_as_well() -> None:
    kept = b'{"data":{"n":1,\0ong tail","status":"completed"},"type":"operation_completed"}'
    entry, frame = read(b"message", kept, size_bytes=300_000)
    assert (entry.type, entry.status) == ("operation_completed", "completed")
    assert frame["data"] == {
        "n": 1, "status": "completed", "truncated": True, "bytes": 300_000, "reason": TOO_LARGE,
    }  # fmt: skip


def test_plain_fields_beside_what_is_too_large_are_kept() -> None:
    entry, frame = read(b"status", b"completed", b"type", b"note", size_bytes=400_000)
    assert (entry.type, entry.status) == ("note", "completed")
    assert frame["data"] == {
        "status": "completed", "truncated": True, "bytes": 400_000, "reason": TOO_LARGE,
    }  # fmt: skip


def test_an_entry_of_which_nothing_could_be_kept_says_so() -> None:
    entry, frame = read(size_bytes=400_000)
    assert (entry.type, entry.status) == (MALFORMED_TYPE, None)
    assert frame["data"] == {"bytes": 400_000, "reason": TOO_LARGE}


# --- anything

DAMAGE = st.binary(max_size=24) | st.text('"\\{}[],:x \n', max_size=24).map(str.encode)
NAMES = (b"type", b"status", b"data")


@given(DAMAGE, DAMAGE)
@settings(max_examples=examples(2000))
@example(b"{", b"")
@example(b"}", b'"')
@example(b"\\", b"\\")
def test_no_damage_behind_them_hides_type_and_status(one: bytes, other: bytes) -> None:
    for text in (
        b'{"type":"operation_completed","data":{"status":"completed",' + one + b"}," + other + b"}",
        b'{"type":"operation_completed","data":{"status":"completed","x":' + one,
        b'{"status":"completed","type":"operation_completed","x":' + one + other + b"}",
    ):
        assume(not any(name in one + other for name in NAMES))  # it is not its place to say it
        ended(text)


@given(DAMAGE)
@settings(max_examples=examples(2000))
@example(b"{")
@example(b"}")
@example(b']"')
@example(b"\\")
@example(b',"')
@example(b"][")
@example(b'"}')
@example(b'"}\x00')
def test_no_damage_in_front_of_them_hides_type_and_status(damage: bytes) -> None:
    # Behind a colon something may begin that has a status of its own.
    assume(b":" not in damage and not any(name in damage for name in NAMES))
    for rest in (b'"x":' + damage, b'"x":"' + damage, b'"a":1,"x":[' + damage):
        entry, _ = read(
            b"message",
            b'{"data":{' + rest + b',"status":"completed"},"type":"operation_completed"}',
        )
        if entry.type != MALFORMED_TYPE:  # cut off: a string that has no end
            assert (entry.type, entry.status) == ("operation_completed", "completed")


@given(DAMAGE, DAMAGE, DAMAGE)
@settings(max_examples=examples(1000))
def test_any_damage_makes_a_frame(one: bytes, two: bytes, three: bytes) -> None:
    text = b'{"type":"t"' + one + b',"data":{"a":1' + two + b',"status":"s"}' + three + b"}"
    for size in (0, 300_000):
        entry, _ = read(b"message", text, size_bytes=size)
        assert not (size and entry.is_whole)
