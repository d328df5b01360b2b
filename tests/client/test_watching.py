"""The client's protocol without a socket: cursor, status, and what to do after each close."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.cli.watch_views import describe
from tidegate.client.watching import (
    FIRST_DELAY_S,
    LATER_DELAY_S,
    MAX_DELAY_S,
    Return,
    WatchFinished,
    Watching,
    endpoint,
)
from tidegate.model.close_codes import CLOSE_CODES, ComeBack

A, B = "ws://a:1", "ws://b:2"


def watching(**more: Any) -> Watching:
    return Watching("42", [A, B], rng=random.Random(1), **more)


def state(cursor: str = "0-0", status: str = "unknown") -> dict[str, Any]:
    return {"type": "current_state", "cursor": cursor, "data": {"status": status}}


def entry(entry_id: str, type_: str = "progress", **data: Any) -> dict[str, Any]:
    return {"id": entry_id, "operation": "42", "type": type_, "data": data}


def after(*frames: dict[str, Any], **more: Any) -> Watching:
    w = watching(**more)
    for frame in frames:
        w.received(frame, 0.0)
    return w


# --- addresses and cursor


@pytest.mark.parametrize(
    ("base", "address"),
    [
        ("ws://h:1", "ws://h:1/ws/operations/a:b"),
        ("wss://h/", "wss://h/ws/operations/a:b"),
        ("https://h/gate/", "wss://h/gate/ws/operations/a:b"),
        ("http://[::1]:80", "ws://[::1]:80/ws/operations/a:b"),
        ("h:1", "ws://h:1/ws/operations/a:b"),
    ],
)
def test_the_address_below_a_replica(base: str, address: str) -> None:
    assert endpoint(base, "a:b") == address.replace("a:b", "a%3Ab")


@pytest.mark.parametrize("base", ["ftp://h", "ws://", "ws:///x"])
def test_what_is_no_address_is_refused(base: str) -> None:
    with pytest.raises(ValueError, match="no ws:// or wss:// address"):
        endpoint(base, "42")


def test_history_is_asked_for_until_there_is_a_cursor() -> None:
    w = watching(history="all")
    assert w.url == f"{A}/ws/operations/42?history=all&acks=1"
    w.received(state("5-0"), 0.0)
    assert w.url == f"{A}/ws/operations/42?last_event_id=5-0&acks=1"
    w.received(entry("6-1"), 0.0)
    assert w.url.endswith("last_event_id=6-1&acks=1")


def test_a_resume_keeps_its_cursor_over_the_one_of_current_state() -> None:
    # Else a connection that dies during the replay would lose what it had not yet got.
    assert after(state("9-9"), after="3-0").cursor == "3-0"


# --- what is folded from frames


@pytest.mark.parametrize(
    ("frame", "status", "finished"),
    [
        (state(status="running"), "running", False),
        (state(status="completed"), "completed", True),
        (entry("1-0"), "running", False),
        (entry("1-0", status="queued"), "queued", False),
        (entry("1-0", status="failed"), "failed", True),
        (entry("1-0", "operation_cancelled"), "cancelled", True),
        (entry("1-0", status=3), "running", False),
    ],
)
def test_status(frame: dict[str, Any], status: str, finished: bool) -> None:
    w = after(frame)
    assert (w.status, w.finished) == (status, finished)


def test_unknown_from_another_replica_does_not_undo_a_status() -> None:
    assert after(entry("1-0", status="running"), state(status="unknown")).status == "running"


def test_an_entry_without_a_status_does_not_undo_an_end_or_any_other_status() -> None:
    assert after(entry("1-0", status="failed"), entry("2-0", note=1)).status == "failed"
    assert after(entry("1-0", status="queued"), entry("2-0", note=1)).status == "queued"


def test_an_operation_that_was_tried_again_is_not_over() -> None:
    """`watch` told the end of the first attempt, by its exit code too."""
    again = after(
        state(status="running"),  # of now: history comes behind it
        entry("1-0", "operation_failed"),
        entry("2-0", status="running"),
    )
    assert (again.status, again.finished) == ("running", False)
    assert isinstance(again.closed(1006), Return)
    again.received(entry("3-0", "operation_completed"), 0.0)
    assert again.closed(1000) == WatchFinished("completed", "42: completed")


def test_a_type_that_only_looks_like_an_end_is_none() -> None:
    """A step may be called `failed`; only the gateway's types end an operation."""
    w = after(entry("1-0", "failed", step=3))
    assert (w.status, w.finished) == ("running", False)
    assert isinstance(w.closed(1006), Return)


@pytest.mark.parametrize(
    ("datas", "fraction"),
    [
        ([{"progress": 0.25}], 0.25),
        ([{"progress": 1}], 1.0),
        ([{"progress": 50}], 0.5),
        ([{"progress": 50}, {"progress": 1}], 0.01),
        ([{"current": 3, "total": 4}], 0.75),
        ([{"current": 3, "total": 0}], None),
        ([{"progress": "half"}], None),
        ([{"progress": True}], None),
        ([{"progress": -1}], 0.0),
        ([{"progress": 0.5}, {"note": "x"}], 0.5),
    ],
)
def test_progress(datas: list[dict[str, Any]], fraction: float | None) -> None:
    w = after(*(entry(f"{n}-0", **data) for n, data in enumerate(datas, start=1)))
    assert w.fraction == fraction


def test_lag_is_the_age_of_the_entry() -> None:
    w = watching()
    w.received(entry("1500-0"), 2.0)
    assert w.lag_s == 0.5


def test_counts() -> None:
    w = after(
        {"type": "gap", "data": {"reason": "trimmed"}},
        {"type": "skipped", "data": {"count": 17}},
        {"type": "stale"},
        {"type": "pong"},
        {"type": "of a later release", "data": "text"},
    )
    state = w.state
    assert (state.gaps, state.skipped, state.stale, state.entries) == (1, 17, True, 0)
    w.received({"type": "live"}, 0.0)
    assert not w.state.stale


TYPES = ["progress", "current_state", "gap", "skipped", "reconnect", "error", "stale"]
SCALARS: list[Any] = [
    None,
    True,
    0,
    -1,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "7-0",
    "²-0",
    [],
]
KEYS = ["status", "progress", "current", "total", "count", "after_ms", "message", "code"]


@given(
    frame=st.fixed_dictionaries(
        {"type": st.sampled_from([*TYPES, *SCALARS])},
        optional={
            "id": st.sampled_from(SCALARS),
            "cursor": st.sampled_from(SCALARS),
            "data": st.sampled_from(SCALARS)
            | st.dictionaries(st.sampled_from(KEYS), st.sampled_from(SCALARS)),
        },
    )
)
def test_no_frame_breaks_it(frame: dict[str, Any]) -> None:
    w = watching()
    w.received(frame, 0.0)
    assert isinstance(describe(frame, w), str)
    assert isinstance(w.url, str)
    assert isinstance(w.closed(1006), Return)


# --- after a close


@pytest.mark.parametrize(
    "status",
    # The last: the gateway's list of terminal statuses is a setting.
    ["completed", "failed", "cancelled", "done"],
)
def test_the_status_of_a_finished_operation(status: str) -> None:
    decision = after(entry("1-0", status=status)).closed(1000)
    assert decision == WatchFinished(status, f"42: {status}")


def test_a_connection_that_dies_after_the_end_is_an_end() -> None:
    assert isinstance(after(entry("1-0", status="failed")).closed(1006), WatchFinished)
    assert isinstance(after(entry("1-0", status="failed")).not_connected("refused"), WatchFinished)


def test_a_connection_that_dies_before_the_end_was_sent_is_none() -> None:
    """Who joins a finished operation is told so first, and has its history still to come."""
    w = after(state("1-0", status="completed"), entry("2-0", status="running"))
    assert isinstance(w.closed(1006), Return)
    assert w.url.endswith("last_event_id=2-0&acks=1")
    assert isinstance(after(state(status="completed")).not_connected("refused"), Return)


@pytest.mark.parametrize("row", CLOSE_CODES.values(), ids=lambda row: row.name)
def test_every_row_of_the_table(row: Any) -> None:
    w = after(state(status="running"))
    decision = w.closed(row.code)
    if row.code == 1000:
        assert decision == WatchFinished("running", "42: running")
    elif row.come_back is ComeBack.NO:
        assert isinstance(decision, WatchFinished)
        assert decision.refused == row.code
        assert row.meaning in decision.text
    else:
        assert isinstance(decision, Return)
        assert w.base == B
        least = LATER_DELAY_S if row.come_back is ComeBack.LATER else 0.0
        assert least <= decision.delay_s <= least + FIRST_DELAY_S


def test_an_unknown_code_is_a_network_fault() -> None:
    assert isinstance(after(state()).closed(4999), Return)


def test_a_refusal_says_what_the_error_frame_said() -> None:
    error = {"type": "error", "data": {"code": "x", "message": "no token", "retry": False}}
    assert after(error).closed(4401) == WatchFinished("unknown", "refused (4401): no token", 4401)


def test_a_token_that_can_be_renewed_may_expire_once_per_connection() -> None:
    w = after(state(), renewable=True)
    assert w.closed(4401) == Return(0.0, "token missing or invalid")
    assert w.base == A
    assert isinstance(w.closed(4401), WatchFinished)  # the new one is no good either
    assert isinstance(watching(renewable=True).closed(4401), WatchFinished)


def test_the_connection_limit_refuses_a_newcomer_but_not_one_who_comes_back() -> None:
    assert isinstance(watching().closed(4429), WatchFinished)
    assert isinstance(after(state()).closed(4429), Return)


def test_the_delay_of_a_reconnect_frame_is_obeyed_once() -> None:
    w = after(state(), {"type": "reconnect", "data": {"after_ms": 1840, "reason": "draining"}})
    assert w.closed(1012) == Return(1.84, "this replica is shutting down")
    second = w.closed(1012)
    assert isinstance(second, Return)
    assert second.delay_s <= FIRST_DELAY_S


@pytest.mark.parametrize("after_ms", [None, "soon", [], -5, True, 10**400, float("nan")])
def test_a_senseless_delay_does_no_harm(after_ms: object) -> None:
    decision = after({"type": "reconnect", "data": {"after_ms": after_ms}}).closed(1012)
    assert isinstance(decision, Return)
    assert 0 <= decision.delay_s <= FIRST_DELAY_S


def test_backoff_grows_to_its_bound_and_starts_again_after_a_frame() -> None:
    w = watching()
    delays = []
    for _ in range(40):
        decision = w.not_connected("refused")
        assert isinstance(decision, Return)
        delays.append(decision.delay_s)
    assert max(delays) <= MAX_DELAY_S
    assert max(delays[8:]) > 5
    w.received(state(), 0.0)
    decision = w.closed(1006)
    assert isinstance(decision, Return)
    assert decision.delay_s <= FIRST_DELAY_S


def test_replicas_take_turns() -> None:
    w = watching()
    seen = []
    for _ in range(4):
        seen.append(w.base)
        w.not_connected("refused")
    assert seen == [A, B, A, B]
    assert w.reconnects == 4


@pytest.mark.parametrize(
    ("status", "comes_back"), [(404, False), (403, False), (429, True), (503, True)]
)
def test_http_answers(status: int, comes_back: bool) -> None:
    decision = watching().not_connected("words", status=status, retry_after_s=2)
    assert isinstance(decision, Return) is comes_back
    if isinstance(decision, Return):
        assert decision.delay_s >= 2
