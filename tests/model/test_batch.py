"""Batches on the wire: read back by websockets' own parser, and against what was sent before there
were batches, when each form was made from the joined WebSocket frames.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode
from websockets.streams import StreamReader

from tests.harness.text_frames import split_texts
from tidegate.model import frames
from tidegate.model.batch import Batch, JoinedBatch, event_of, text_frame
from tidegate.model.entries import Entry
from tidegate.model.frames import Frame, FrameKind, GapReason
from tidegate.model.ids import HALF_MAX, ZERO, OperationId, StreamId

OPERATION = OperationId("42")


def read_back(wire: bytes) -> list[WireFrame]:
    """All frames in these bytes, as a client sees them; raises when they are not frames."""
    reader = StreamReader()
    reader.feed_data(wire)
    found = []
    while reader.buffer:
        steps = WireFrame.parse(reader.read_exact, mask=False)
        with pytest.raises(StopIteration) as done:
            next(steps)
        found.append(done.value.value)
    return found


def event_of_text(text: bytes) -> bytes:
    """As it was: by what the JSON says."""
    text = text.translate(bytes.maketrans(b"\r\n", b"  "))
    if text.startswith(b'{"id":"'):
        return b"id: %b\ndata: %b\n\n" % (text[7 : text.index(b'"', 7)], text)
    frame = orjson.loads(text)
    match frame["type"]:
        case "current_state":
            return b"id: %b\ndata: %b\n\n" % (frame["cursor"].encode(), text)
        case "reconnect":
            return b"retry: %d\ndata: %b\n\n" % (frame["data"]["after_ms"], text)
    return b"data: %b\n\n" % text


ids = st.builds(StreamId, st.integers(0, HALF_MAX), st.integers(0, HALF_MAX))
words = st.text(max_size=30)
# JSON of any length with a line break between two tokens, as a backend may have written it.
entry_data = st.builds(
    lambda text, breaks, pad: b'{"n":%b%b}' % (breaks, orjson.dumps(text + "x" * pad)),
    words,
    st.sampled_from([b"", b"\n", b"\r\n", b" \r"]),
    st.sampled_from([0, 0, 40, 126, 65_400, 65_536]),
)
entries = st.builds(
    lambda id_, type_, data: Entry(id_, type_, b'"now"', data, None), ids, words, entry_data
)
any_frame = st.one_of(
    st.builds(
        lambda entry, kind: frames.entry_frame(entry, str(entry.id).encode(), b"42", kind),
        entries,
        st.sampled_from([FrameKind.ENTRY, FrameKind.PROGRESS]),
    ),
    st.builds(lambda entry: frames.unstored_entry_frame(entry, b"42"), entries),
    st.builds(
        lambda cursor, status, known: frames.current_state_frame(
            OPERATION, cursor, status, sent=None, available=7, known=known
        ),
        ids,
        st.sampled_from(["unknown", "running", "done"]),
        st.none() | st.dictionaries(words, words, max_size=3),
    ),
    st.builds(
        lambda after, before, reason: frames.gap_frame(OPERATION, after, before, reason),
        ids,
        st.none() | ids.filter(lambda position: position != ZERO),
        st.sampled_from(GapReason),
    ),
    st.builds(lambda text: frames.error_frame("code", text, retry=True), words),
    st.builds(lambda ms: frames.reconnect_frame(ms, "draining"), st.integers(0, 10_000)),
    st.builds(lambda count: frames.skipped_frame(OPERATION, count), st.integers(1, 10_000)),
    st.builds(lambda entry_id: frames.ack_request_frame(OPERATION, entry_id), ids),
    st.just(frames.stale_frame(OPERATION, "2026-11-29T02:00:00Z")),
    st.just(frames.live_frame(OPERATION)),
    st.just(frames.PONG),
)
some_frames = st.lists(any_frame, min_size=1, max_size=6)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 1_000_000])
def test_each_size_has_its_header(size: int) -> None:
    batch = Batch([Frame(ZERO, b"x" * size, FrameKind.CONTROL)])
    (frame,) = read_back(batch.websocket())
    assert frame == WireFrame(Opcode.TEXT, b"x" * size)
    assert batch.websocket() == frame.serialize(mask=False) == text_frame(b"x" * size)
    assert batch.size_bytes == len(batch.websocket())


@given(some_frames)
def test_each_form_is_what_was_sent_before_and_is_made_once(sent: list[Frame]) -> None:
    batch = Batch(sent)
    wire = b"".join(text_frame(frame.payload) for frame in sent)
    texts = split_texts(wire)
    events = b"".join(map(event_of_text, texts))
    assert batch.websocket() == wire
    assert batch.size_bytes == len(wire)
    assert [bytes(frame.data) for frame in read_back(wire)] == texts
    assert batch.events() == events
    assert batch.event_chunk() == b"%x\r\n%b\r\n" % (len(events), events)
    for form in (batch.websocket, batch.events, batch.event_chunk):
        assert form() is form()


@given(st.lists(some_frames, min_size=1, max_size=4))
def test_joined_batches_are_one_of_all_their_frames(parts: Sequence[list[Frame]]) -> None:
    whole = Batch([frame for part in parts for frame in part])
    joined = JoinedBatch([Batch(part) for part in parts])
    assert joined.frames == whole.frames
    assert joined.size_bytes == whole.size_bytes
    assert joined.websocket() == whole.websocket()
    assert joined.events() == whole.events()
    assert joined.websocket() is joined.websocket()


def test_no_line_break_gets_out_of_a_data_line() -> None:
    text = b'{"id":"1-0",\r\n"data":{"event":\r"x"},\n"more":1}'
    event = event_of(Frame(StreamId(1, 0), text, FrameKind.ENTRY))
    assert event.count(b"\n") == 3
    assert b"\r" not in event
    assert json.loads(event.split(b"data: ")[1]) == json.loads(text)
