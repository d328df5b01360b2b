"""Joined frames: the same text for everybody, whichever entries come as one."""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.examples import examples
from tidegate.core.ring import Ring, RingBudget
from tidegate.core.topic import Topic, TopicRules
from tidegate.model.entries import RawEntry, TerminalRules
from tidegate.model.frames import Frame, FrameKind
from tidegate.model.ids import ZERO, OperationId, StreamId
from tidegate.model.joined_frames import (
    JOINED_MAX_BYTES,
    JoinedFrame,
    entries_in,
    frames_after,
    is_across,
    join,
)

RULES = TopicRules(
    TerminalRules(), frozenset({"progress"}), append_types=frozenset({"append", "log line"})
)


def frames_of(messages: Sequence[str]) -> list[Frame]:
    """As a replica makes them of entries 1-0, 2-0, ..."""
    topic = Topic(OperationId("42"), Ring(9, 9, RingBudget(9)), RULES)
    raw = [RawEntry(b"%d-0" % n, [b"message", m.encode()]) for n, m in enumerate(messages, 1)]
    return topic.render(raw)


def message(text: str, type_: str = "append", **more: Any) -> str:
    return json.dumps({"type": type_, "data": {"text": text}, **more})


def written_as(text: str) -> str:
    """With this between the quotes."""
    return '{"type":"append","data":{"text":"' + text + '"}}'


def joined_of(messages: Sequence[str]) -> list[dict[str, Any]]:
    return [json.loads(frame.payload) for frame in join(frames_of(messages))]


def test_a_run_is_one_frame_that_stands_where_its_last_entry_does() -> None:
    [frame] = join(frames_of([message("Hel", timestamp=1), message("lo", timestamp="2")]))
    assert frame.payload == (
        b'{"id":"2-0","operation":"42","timestamp":"2","type":"append","data":{"text":"Hello"},'
        b'"joined":2}'
    )
    assert frame.id == StreamId(2, 0)
    assert frame.kind is FrameKind.APPEND


@pytest.mark.parametrize(
    "other",
    [
        json.dumps({"type": "progress", "data": {"progress": 0.5}}),
        message("c", "log line"),
        json.dumps({"type": "append", "data": {"text": "c", "status": "running"}}),
        json.dumps({"type": "append", "data": {"text": 3}}),
        json.dumps({"type": "append", "data": {"text": "c", "role": "user"}}),
        json.dumps({"type": "append", "data": {}}),
        json.dumps({"type": "append", "data": ["c"]}),
        json.dumps({"type": "append", "data": {"inner": {"text": "c"}}}),
        json.dumps({"type": "append", "text": "c", "data": {"data": {"text": "c"}}}),
        message("c", timestamp={"data": {"text": '","data":{"text":"'}}),
        '{"type":"append","data":{"text":"c","text":"d"}}',
        '{"type":"append","data":{"text":"c","te\\u0078t":"d"}}',
        '{"type":"append","data":{"text":"c',
        "\ufeff" + json.dumps({"type": "note", "data": {"text": "c"}}),
    ],
)
def test_anything_else_ends_a_run_and_stays_as_it_is(other: str) -> None:
    messages = [message("a"), message("b"), other, message("d"), message("e")]
    frames = frames_of(messages)
    found = join(frames)
    assert [entries_in(frame) for frame in found] == [2, 1, 2]
    assert found[1] is frames[2]


@pytest.mark.parametrize(
    "data",
    ['{"text":"b"}', ' { "text" : "b" } ', '{\n"text":\t"\\u0062"\r}'],
)
def test_how_the_json_is_laid_out_does_not_matter(data: str) -> None:
    [frame] = joined_of([message("a"), '{"type":"append","data":' + data + "}"])
    assert (frame["data"], frame["joined"]) == ({"text": "ab"}, 2)


@pytest.mark.parametrize(
    "written", ["a\\u0000b", "\\ud83d\\ude00", "😀", '\\"\\\\', "\\/", "\\ud83d"]
)
def test_escapes_stay_as_they_were_written(written: str) -> None:
    [frame] = join(frames_of([message("("), written_as(written)]))
    assert isinstance(frame, JoinedFrame)
    assert frame.text == b"(" + written.encode()


def test_halves_of_a_character_are_not_put_together() -> None:
    """Python reads two lone surrogates as two characters, and a pair as one."""
    halves = [written_as(half) for half in ("\\uD83D", "\\ude00")]
    assert [frame["data"]["text"] for frame in joined_of(halves)] == ["\ud83d", "\ude00"]
    [frame] = joined_of([written_as("\\\\ud83d"), message("x")])
    assert frame["data"]["text"] == "\\ud83dx"


def test_how_a_type_is_folded_is_kept() -> None:
    first, second = frames_of([message("a"), message("b")])
    for frame in (first, second):
        frame.payload = frame.payload.replace(b',"data"', b',"fold":"append","data"')
    [frame] = join([first, second])
    assert json.loads(frame.payload)["fold"] == "append"
    assert len(join([first, *frames_of([message("b")])])) == 2, "they are not of one kind"


def test_the_text_of_a_frame_is_bounded() -> None:
    found = join(frames_of([message("x" * 1_000)] * 200 + [message("y" * JOINED_MAX_BYTES)] * 2))
    sizes = [len(json.loads(frame.payload)["data"]["text"]) for frame in found]
    assert sizes == [65_000, 65_000, 65_000, 5_000, JOINED_MAX_BYTES, JOINED_MAX_BYTES]


def test_without_types_that_append_nothing_is_joined() -> None:
    topic = Topic(
        OperationId("42"), Ring(9, 9, RingBudget(9)), RULES._replace(append_types=frozenset())
    )
    frames = topic.render(
        [RawEntry(b"%d-0" % n, [b"message", message("a").encode()]) for n in (1, 2)]
    )
    assert join(frames) is frames


# --- any stream

#: With what JSON can name and some languages cannot: NUL, lone surrogates, astral characters.
TEXTS = st.text(
    st.one_of(
        st.sampled_from(string.ascii_letters + ' "\\/\x00\x1f\u2028'),
        st.characters(codec="utf-16", categories=["L", "So"]),
        st.sampled_from("\ud83d\ude00\udfff"),
    ),
    max_size=6,
)


@st.composite
def tokens(draw: st.DrawFn) -> str:
    text, ascii_only = draw(TEXTS), draw(st.booleans())
    if not ascii_only:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return json.dumps({"type": "append", "data": {"text": text}}, ensure_ascii=ascii_only)


OTHERS = st.sampled_from(
    [
        json.dumps({"type": "progress", "data": {"progress": 0.5}}),
        json.dumps({"type": "append", "data": {"text": "t", "more": 1}}),
        message("line", "log line"),
        "no JSON",
    ]
)
STREAMS = st.lists(st.one_of(tokens(), tokens(), tokens(), OTHERS), max_size=30)


def read(frames: Sequence[Frame]) -> list[tuple[str, str]]:
    """What a viewer makes of them: each text by its type, with neighbours put together; of all
    else the frame.
    """
    found: list[tuple[str, str]] = []
    for frame in frames:
        body = json.loads(frame.payload)
        assert body["id"] == str(frame.id)
        appends = frame.kind is FrameKind.APPEND and body["data"].keys() == {"text"}
        if not appends:
            found.append(("", frame.payload.decode()))
        elif found and found[-1][0] == body["type"]:
            found[-1] = (body["type"], found[-1][1] + body["data"]["text"])
        else:
            found.append((body["type"], body["data"]["text"]))
    return found


def check_order(frames: Sequence[Frame], cursor: StreamId, last: StreamId) -> None:
    for frame in frames:
        if isinstance(frame, JoinedFrame):
            assert frame.first > cursor
            assert json.loads(frame.payload)["joined"] == frame.joined > 1
            orjson.loads(frame.payload.replace(b"\\ud", b"\\ue"))  # it is valid JSON
        else:
            assert "joined" not in json.loads(frame.payload)
        assert frame.id > cursor
        cursor = frame.id
    assert cursor == last


@settings(max_examples=examples(300))
@given(STREAMS, st.integers(0, 30), st.integers(1, 5))
def test_everybody_reads_the_same_text(messages: list[str], cut: int, step: int) -> None:
    """Joined at once, in steps, or cut anywhere: like the entries one by one."""
    frames = frames_of(messages)
    cut = min(cut, len(frames))
    cursor = StreamId(cut, 0) if cut else ZERO
    last = StreamId(len(frames), 0) if frames else ZERO
    at_once = join(frames)
    split = join(frames, boundary=cursor)
    assert not is_across(split, cursor)
    assert read(split) == read(frames)
    in_steps: list[Frame] = []
    for at in range(0, len(frames), step):
        in_steps[-1:] = join([*in_steps[-1:], *frames[at : at + step]])
    assert [(f.id, f.payload) for f in in_steps] == [(f.id, f.payload) for f in at_once]
    rest = frames_after(at_once, cursor)
    assert sum(map(entries_in, rest)) == len(frames) - cut
    check_order(rest, cursor, last)
    check_order(at_once, ZERO, last)
    assert read(at_once) == read(frames)
    assert read(rest) == read(frames[cut:])
    assert [frame.payload for frame in rest if type(frame) is JoinedFrame] == [
        frame.payload for frame in join(frames[cut:]) if type(frame) is JoinedFrame
    ]
