"""The texts of the frames."""

import json

from hypothesis import given
from hypothesis import strategies as st

from tidegate.model import frames
from tidegate.model.entries import Entry
from tidegate.model.frames import Frame, FrameKind, GapReason
from tidegate.model.ids import ZERO, OperationId, StreamId

OPERATION = OperationId("42")


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


def body(frame: Frame) -> object:
    return json.loads(frame.payload)


def test_the_first_frame() -> None:
    state = frames.current_state_frame(OPERATION, StreamId(5, 1), "running", sent=3, available=9)
    assert (state.id, state.status) == (StreamId(5, 1), "running")
    assert body(state) == {
        "type": "current_state",
        "operation": "42",
        "cursor": "5-1",
        "data": {"status": "running"},
        "history": {"sent": 3, "available": 9},
    }


def test_the_first_frame_is_given_other_data_and_keeps_the_rest() -> None:
    state = frames.current_state_frame(OPERATION, StreamId(5, 1), "running", sent=3, available=9)
    told = state.with_data({"status": "done", "by": "Ada"})
    assert (told.id, told.kind, told.status) == (state.id, state.kind, "done")
    expected = json.loads(state.payload)
    expected["data"] = {"status": "done", "by": "Ada"}
    assert body(told) == expected


def test_a_gap_stands_just_below_the_entry_behind_it() -> None:
    gap = frames.gap_frame(OPERATION, StreamId(1, 0), StreamId(5, 0), GapReason.TRIMMED)
    assert gap.kind is FrameKind.GAP
    assert gap.id == StreamId(4, 2**64 - 1)
    data = {"after": "1-0", "before": "5-0", "reason": "trimmed"}
    assert body(gap) == {"type": "gap", "operation": "42", "data": data}


def test_a_gap_with_nothing_behind_it_yet() -> None:
    gap = frames.gap_frame(OPERATION, StreamId(1, 0), None, GapReason.RECREATED)
    assert gap.id == ZERO
    assert body(gap) == {
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
    error = frames.error_frame("connection_limit", "too many", retry=False)
    assert (error.code, error.message) == ("connection_limit", "too many")
    assert body(error) == {
        "type": "error",
        "data": {"code": "connection_limit", "message": "too many", "retry": False},
    }
