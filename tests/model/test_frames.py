"""Frames on the wire, read back by websockets' own parser."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from tidegate.model import frames
from tidegate.model.entries import Entry
from tidegate.model.frames import FrameKind, GapReason
from tidegate.model.ids import ZERO, OperationId, StreamId

OPERATION = OperationId("42")


def read_back(wire: bytes) -> list[Frame]:
    """All frames in these bytes, as a client sees them; raises when they are not frames."""
    reader = StreamReader()
    reader.feed_data(wire)
    found = []
    while reader.buffer:
        steps = Frame.parse(reader.read_exact, mask=False)
        with pytest.raises(StopIteration) as done:
            next(steps)
        found.append(done.value.value)
    return found


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 1_000_000])
def test_each_size_has_its_header(size: int) -> None:
    wire = frames.text_frame(b"x" * size)
    (frame,) = read_back(wire)
    assert frame == Frame(Opcode.TEXT, b"x" * size)
    assert wire == frame.serialize(mask=False)
    assert frames.text_payload(wire) == b"x" * size


@given(st.lists(st.binary(max_size=300), max_size=5), st.sampled_from([0, 125, 126, 65_536]))
def test_joined_frames_come_apart_again(payloads: list[bytes], size: int) -> None:
    payloads.append(b"y" * size)
    wire = b"".join(map(frames.text_frame, payloads))
    assert [bytes(frame.data) for frame in read_back(wire)] == payloads
    assert frames.split_texts(wire) == payloads


@given(st.text(max_size=200).filter(lambda t: t.isprintable()))
def test_any_type_is_quoted(type_: str) -> None:
    entry = Entry(StreamId(5, 1), type_, b'"now"', b'{"n":1.10}', None)
    frame = frames.entry_frame(entry, b"5-1", b"42", FrameKind.ENTRY)
    assert frame.payload.endswith(b'"data":{"n":1.10}}'), "data is passed on as it was written"
    assert json.loads(frame.payload) == {
        "id": "5-1",
        "operation": "42",
        "timestamp": "now",
        "type": type_,
        "data": {"n": 1.1},
    }


def body(wire: bytes) -> object:
    (frame,) = read_back(wire)
    return json.loads(bytes(frame.data))


def test_the_first_frame() -> None:
    wire = frames.current_state_frame(OPERATION, StreamId(5, 1), "running", sent=3, available=9)
    assert body(wire) == {
        "type": "current_state",
        "operation": "42",
        "cursor": "5-1",
        "data": {"status": "running"},
        "history": {"sent": 3, "available": 9},
    }


def test_a_gap_stands_just_below_the_entry_behind_it() -> None:
    gap = frames.gap_frame(OPERATION, StreamId(1, 0), StreamId(5, 0), GapReason.TRIMMED)
    assert gap.kind is FrameKind.GAP
    assert gap.id == StreamId(4, 2**64 - 1)
    data = {"after": "1-0", "before": "5-0", "reason": "trimmed"}
    assert body(gap.wire) == {"type": "gap", "operation": "42", "data": data}


def test_a_gap_with_nothing_behind_it_yet() -> None:
    gap = frames.gap_frame(OPERATION, StreamId(1, 0), None, GapReason.RECREATED)
    assert gap.id == ZERO
    assert body(gap.wire) == {
        "type": "gap",
        "operation": "42",
        "data": {"after": "1-0", "reason": "recreated"},
    }


def test_the_frames_without_an_entry() -> None:
    assert body(frames.skipped_frame(OPERATION, 17)) == {
        "type": "skipped",
        "operation": "42",
        "data": {"count": 17},
    }
    assert body(frames.live_frame(OPERATION)) == {"type": "live", "operation": "42"}
    assert body(frames.reconnect_frame(1840, "draining")) == {
        "type": "reconnect",
        "data": {"after_ms": 1840, "reason": "draining"},
    }
    assert body(frames.PONG) == {"type": "pong"}
    error = body(frames.error_frame("connection_limit", "too many", retry=False))
    assert error == {
        "type": "error",
        "data": {"code": "connection_limit", "message": "too many", "retry": False},
    }
