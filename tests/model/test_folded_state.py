"""The fold takes whatever JSON there is, and never changes the state that it was given."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import asdict
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.examples import examples
from tidegate.model.folded_state import FoldedState, fold, fold_all, is_entry
from tidegate.model.frame_values import TEXT_MAX_UNITS
from tidegate.model.state_data import bounded, state_data

IDS = st.sampled_from(
    ["0-0", "1-0", "2-0", "1795000000000-0", "1795000001000-1", f"{2**64 - 1}-{2**64 - 1}", "7", ""]
)
NUMBERS = st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(max_size=5) | st.sampled_from(["0.5", "70", "1e3", "\ud83d", "append", "merge"])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS | IDS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=3)
    ),
    max_leaves=6,
)
CONTROL_TYPES = ["current_state", "gap", "skipped", "stale", "live"]
ENTRY_TYPES = ["append", "merge", "progress", "operation_started", "operation_completed"]
TYPES = st.sampled_from([*CONTROL_TYPES, *ENTRY_TYPES])
FIELDS = [
    *("status", "progress", "current", "total", "unit", "title", "message", "error", "result"),
    *("text", "fold", "eta_s", "after", "before", "reason", "count", "merged", "partial"),
    *("started_ms", "updated_ms", "ended_ms", "estimated_end_ms", "in_percent", "result_omitted"),
]
USUAL: dict[str, st.SearchStrategy[Any]] = {
    "status": st.sampled_from(["running", "completed", "failed", "unknown", "queued"]),
    "fold": st.sampled_from(["append", "merge", "replace"]),
    "reason": st.sampled_from(["trimmed", "recreated"]),
    "after": IDS,
    "before": IDS,
}
DATA = st.fixed_dictionaries({}, optional={name: USUAL.get(name, JSON) | JSON for name in FIELDS})
FRAMES = st.lists(
    st.fixed_dictionaries(
        {"type": TYPES | JSON},
        optional={
            "id": IDS | JSON,
            "timestamp": JSON,
            "data": DATA | JSON,
            "cursor": IDS | JSON,
            "at": IDS | JSON,
            "fold": USUAL["fold"] | JSON,
        },
    ),
    max_size=8,
)


@settings(max_examples=examples(100))
@given(FRAMES)
def test_any_frames_fold(frames: list[dict[str, Any]]) -> None:
    given_frames = deepcopy(frames)
    state = FoldedState()
    for frame in frames:
        before = asdict(state)
        after, shown = fold(state, frame)
        assert asdict(state) == before, "a state is never changed"
        assert shown or after is state
        assert after.progress is None or 0 <= after.progress <= 1
        assert len(after.text.encode("utf-16-le")) <= 2 * TEXT_MAX_UNITS
        state = after
    assert frames == given_frames
    assert fold_all(FoldedState(), frames) == state


@settings(max_examples=examples(100))
@given(FRAMES)
def test_a_state_that_is_told_is_the_same_state(frames: list[dict[str, Any]]) -> None:
    """Whatever the entries say: told up to the last of them, it is that of who has them all."""
    state = bounded(fold_all(FoldedState(cursor="0-0"), filter(is_entry, frames)))
    data = json.loads(orjson.dumps(state_data(state)))
    frame = {"type": "current_state", "at": state.cursor, "data": data}
    told = fold_all(FoldedState(cursor=state.cursor), [frame])
    passing = {"entries": 0, "at": None}
    if state.cursor != "0-0":  # else its entries are in no stream, and it has no state to tell
        assert asdict(told) | passing == asdict(state) | passing
