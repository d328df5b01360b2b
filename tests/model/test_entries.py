"""Whatever a publisher writes, the viewer gets valid JSON, and the next entry is fine."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tidegate.core.ring import Ring, RingBudget
from tidegate.core.topic import Topic, TopicRules
from tidegate.model.entries import (
    MALFORMED_TEXT_MAX_CHARS,
    MALFORMED_TYPE,
    Entry,
    RawEntry,
    TerminalRules,
    read_entry,
)
from tidegate.model.frames import Frame
from tidegate.model.ids import OperationId, StreamId

AT = StreamId(1_795_413_516_350, 7)
Json = dict[str, Any]


def no_constant(text: str) -> Any:
    raise AssertionError(f"{text} is not JSON")


def delivered(*fields: bytes) -> Json:
    """The frame that viewers get, parsed as strictly as a browser does."""
    raw = RawEntry(b"1795413516350-7", list(fields))
    topic = Topic(
        OperationId("42"), Ring(9, 9, RingBudget(9)), TopicRules(TerminalRules(), frozenset())
    )
    (frame,) = topic.render([raw])
    assert isinstance(frame, Frame)
    parsed: Json = json.loads(frame.payload.decode("utf-8"), parse_constant=no_constant)
    assert list(parsed) == ["id", "operation", "timestamp", "type", "data"]
    assert (parsed["id"], parsed["operation"]) == ("1795413516350-7", "42")
    assert isinstance(parsed["type"], str)
    (good,) = topic.render([RawEntry(b"1-1", [b"message", b'{"type":"ok","data":1}'])])
    assert json.loads(good.payload)["type"] == "ok"
    return parsed


def message(text: bytes | str) -> Json:
    return delivered(b"message", text if isinstance(text, bytes) else text.encode())


# --- the usual form


def test_the_usual_form_is_passed_on() -> None:
    frame = message('{"timestamp": "2026-01-01T00:00:00Z", "type": "progress", "data": {"a": 1}}')
    assert frame["timestamp"] == "2026-01-01T00:00:00Z"
    assert (frame["type"], frame["data"]) == ("progress", {"a": 1})


def test_what_is_left_out_is_filled_in() -> None:
    frame = message('{"status": "running", "n": 1}')
    assert frame["type"] == "update"
    assert frame["data"] == {"status": "running", "n": 1}
    assert frame["timestamp"] == "2026-11-23T05:58:36.350+00:00", "the entry's own time"


@pytest.mark.parametrize(
    "number",
    [
        "1.10",
        "12345678901234567890123456789",
        "1e400",
        "-0",
        "0.1000000000000000055511151231257827",
    ],
)
def test_numbers_keep_their_digits(number: str) -> None:
    raw = RawEntry(b"1-0", [b"message", b'{"data":{"n":%b}}' % number.encode()])
    assert read_entry(StreamId(1, 0), raw).data == b'{"n":%b}' % number.encode()


def test_text_keeps_its_bytes() -> None:
    text = '{"data":{"t":"\u2028\u2029\\u0000 \U0001f600 </script>"}}'
    entry = read_entry(AT, RawEntry(b"1-0", [b"message", text.encode()]))
    assert entry.data == text.encode()[8:-1]


@pytest.mark.parametrize("data", ["null", "1", '"text"', "[]", "[1, 2]", "true", "{}"])
def test_data_may_be_any_json(data: str) -> None:
    assert message(f'{{"type": "t", "data": {data}}}')["data"] == json.loads(data)


def test_of_a_key_given_twice_the_last_holds() -> None:
    assert message('{"type":"a","type":"b","data":1,"data":2}')["type"] == "b"
    assert message('{"type":"a","type":"b","data":1,"data":2}')["data"] == 2


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ('{"data":{"status":"failed"}}', "failed"),
        ('{"status":"failed"}', "failed"),
        ('{"data":{"status":7}}', None),
        ('{"data":{"status":null}}', None),
        ('{"data":["status"]}', None),
        ('{"data":"status"}', None),
        ('{"data":{"x":{"status":"failed"}}}', None),
        ('{"status":"failed","data":{}}', None),
        ('{"data":{"\\u0073tatus":"failed"}}', "failed"),
    ],
)
def test_the_status_is_read_from_the_data(text: str, status: str | None) -> None:
    entry = read_entry(AT, RawEntry(b"1-0", [b"message", text.encode()]))
    assert entry.type != MALFORMED_TYPE
    assert entry.status == status


# --- plain fields


def test_plain_fields_are_the_data() -> None:
    frame = delivered(b"type", b"note", b"a", b"1", b"status", b"failed")
    assert (frame["type"], frame["data"]) == ("note", {"a": "1", "status": "failed"})


def test_a_message_among_other_fields_is_still_the_message() -> None:
    frame = delivered(b"trace", b"x", b"message", b'{"type":"t","data":2}', b"z", b"")
    assert (frame["type"], frame["data"]) == ("t", 2)


def test_odd_or_missing_fields_are_read_as_far_as_they_go() -> None:
    assert delivered(b"a", b"1", b"b")["data"] == {"a": "1"}
    assert delivered(b"message")["data"] == {}
    assert delivered()["data"] == {}


def test_fields_need_not_be_text() -> None:
    frame = delivered(b"\xff", b"\xfe\x00", b"type", b"\xed\xa0\x80")
    assert frame["data"] == {"\ufffd": "\ufffd\0"}
    assert frame["type"] == "\ufffd\ufffd\ufffd"


@given(st.lists(st.binary(max_size=20), max_size=7))
def test_any_fields_make_a_frame(fields: list[bytes]) -> None:
    delivered(*fields)


# --- what cannot be read


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"{",
        b"null",
        b"7",
        b'"text"',
        b"[]",
        b'{"data":01}',
        b'{"data":1.}',
        b'{"data":+1}',
        b'{"data":.5}',
        b'{"data":1e}',
        b'{"data":tru}',
        b"{'data':1}",
        b'{"data":1,}',
        b'{"data":[1,]}',
        b'{"data":"\x01"}',
        b'{"data":"\n"}',
        b'{"a\tb":1}',
        b'{"data":"\\x"}',
        b'{"data":"\\u12"}',
        b"\xff\xfe{\0}\0",
        b'{"data":/* c */1}',
        b"[" * 1_000_000,
        b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"data":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
    ],
    ids=lambda text: repr(text[:24]),
)
def test_what_is_no_json_object_is_malformed(text: bytes) -> None:
    frame = message(text)
    assert frame["type"] == MALFORMED_TYPE
    assert frame["data"]["bytes"] == len(text)
    assert frame["data"]["reason"]
    assert len(frame["data"]["text"]) <= MALFORMED_TEXT_MAX_CHARS
    assert text.decode(errors="replace").startswith(frame["data"]["text"][:3])


def test_ten_megabytes_of_nonsense_are_cut() -> None:
    frame = message(b"\xff" * 10_000_000)
    assert frame["type"] == MALFORMED_TYPE
    assert len(json.dumps(frame)) < 10 * MALFORMED_TEXT_MAX_CHARS


def test_an_entry_that_was_too_large_to_carry_says_so() -> None:
    entry = read_entry(AT, RawEntry(b"1-0", None, 123_456))
    assert entry.type == MALFORMED_TYPE
    assert json.loads(entry.data) == {"reason": "too large to deliver", "bytes": 123_456}


def test_a_time_beyond_the_calendar_is_a_number() -> None:
    far = StreamId(2**63, 0)
    assert json.loads(read_entry(far, RawEntry(b"x", [b"a", b"b"])).timestamp) == 2**63


ANY_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["type", "timestamp", "data", "status", "x"]), ANY_JSON))
def test_any_json_object_makes_a_frame(value: Json) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        frame = message(text.encode("utf-8", errors="surrogatepass"))
        if isinstance(value.get("type", ""), str) and frame["type"] != MALFORMED_TYPE:
            assert frame["data"] == value.get("data", value)
            assert frame["type"] == value.get("type", "update")


@given(st.binary(max_size=60))
@example(b'{"data":"\x7f"}')
@example(b'{"data":-}')
@example(b'{"data":\x0c1}')
def test_any_bytes_make_a_frame(text: bytes) -> None:
    message(text)
    message(b'{"type":"t","data":' + text + b"}")
    message(b'{"type":' + text + b',"data":1}')
    message(b'{"timestamp":' + text + b',"data":1}')
    message(b'{"data":"' + text + b'"}')
    message(b'{"type":"' + text + b'"}')


# --- ends


def entry(type_: str, status: str | None = None) -> Entry:
    return Entry(AT, type_, b"0", b"{}", status)


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_ends_by_status_or_by_type(status: str) -> None:
    rules = TerminalRules()
    assert rules.is_terminal(entry("anything", status))
    assert rules.is_terminal(entry(f"operation_{status}"))
    assert rules.status_of(entry(f"operation_{status}")) == status
    assert rules.status_of(entry(f"operation_{status}", "odd")) == status
    assert not rules.is_terminal(entry(status))
    assert not rules.is_terminal(entry("progress", "running"))
    assert rules.status_of(entry("progress")) is None


def test_the_last_entry_that_sets_a_status_decides() -> None:
    rules = TerminalRules()
    done, again, late = entry("operation_completed"), entry("started", "running"), entry("log")
    assert rules.deciding([done, late]) is done
    assert rules.deciding([done, again, late]) is again
    assert rules.deciding([late]) is None
    assert rules.deciding([]) is None


# --- how it is folded


@pytest.mark.parametrize(
    ("text", "has_fold"),
    [
        ('{"type":"t","data":{"text":"a","fold":"append"}}', True),
        ('{"fold":"merge"}', True),
        ('{"data":{"\\u0066old":"append"}}', True),
        ('{"fold":"append","data":{}}', False),  # of the message, not of its data
        ('{"data":{"x":{"fold":"append"}}}', False),
        ('{"data":["fold"]}', False),
        ('{"data":"\\"fold\\""}', False),
    ],
)
def test_whether_the_data_says_how_it_is_folded(text: str, has_fold: bool) -> None:
    assert read_entry(AT, RawEntry(b"1-0", [b"message", text.encode()])).has_fold is has_fold
    fields = [b"text", b"a", b"fold", b"append"]
    assert read_entry(AT, RawEntry(b"1-0", fields)).has_fold
