"""Reports of replicas: what is no report is refused, and reports put together say what is known."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.examples import examples
from tidegate.core.survey import (
    OPERATIONS_MAX,
    OPERATIONS_MAX_BYTES,
    USER_MAX,
    USERS_MAX,
    USERS_MAX_BYTES,
    OperationReport,
    ReplicaReport,
    ReportedFigures,
    ReportedOperation,
    ReportedUser,
    ViewerCounts,
    clean,
    read_report,
    within,
)
from tidegate.core.survey_merge import Merge, Range
from tidegate.model.operation_order import OperationOrder

ID = "0123456789abcdef01234567"


def row(operation: str, live: int = 1, **values: Any) -> ReportedOperation:
    known = {"status": "running", "finished": False, "cursor": "5-0", "entries": 0}
    known |= {"lagging": 0, "catching_up": 0, "dispatches": False}
    return ReportedOperation(operation=operation, live=live, **{**known, **values})


def report(incarnation: str, *rows: ReportedOperation, **values: Any) -> ReplicaReport:
    known: dict[str, Any] = {"operations_total": len(rows), "operations_matching": len(rows)}
    known |= {"users_matching": len(values.get("users", ())), "users": ()}
    return ReplicaReport(
        id=ID,
        incarnation=incarnation,
        figures=ReportedFigures(version="1"),
        viewers=ViewerCounts(),
        operations=rows,
        **{**known, **values},
    )


# -- what is accepted ------------------------------------------------------------------------------


def test_reports_arrive_as_they_were_sent() -> None:
    for sent in (
        report("a.1.x", row("42", dispatches=True), users=(ReportedUser("ann", 2, 10),)),
        OperationReport(ID, "a.1.x", followed=True, cursor="7-1", role="leading"),
    ):
        assert read_report(msgspec.json.encode(sent)) == sent


def changed(**values: Any) -> bytes:
    return json.dumps(
        {**json.loads(msgspec.json.encode(report("a", row("42")))), **values}
    ).encode()


ROW = json.loads(msgspec.json.encode(row("42")))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[" * 50_000,
        b'{"kind":"replica"}',
        b'{"kind":"other","id":"' + ID.encode() + b'"}',
        changed(id="short"),
        changed(id=ID + "\n"),
        changed(incarnation=""),
        changed(incarnation="x" * 600),
        changed(operations_total=-1),
        changed(operations_total=2**60),
        changed(operations=[ROW] * (OPERATIONS_MAX + 1)),
        changed(operations=[{**ROW, "operation": "<b>"}]),
        changed(operations=[{**ROW, "operation": "a" * 200}]),
        changed(operations=[{**ROW, "cursor": "x"}]),
        changed(operations=[{**ROW, "status": "x" * 100}]),
        changed(operations=[{**ROW, "live": "many"}]),
        changed(users=[{"user": "ann", "connections": 1, "limit": 1}] * (USERS_MAX + 1)),
        changed(users=[{"user": "", "connections": 1, "limit": 1}]),
        changed(figures={"uptime_s": -1}),
        b'{"kind":"operation","id":"\xff","incarnation":"a","followed":true}',
        msgspec.json.encode(report("a")).replace(b'"uptime_s":0.0', b'"uptime_s":1e999'),
    ],
)
def test_what_is_out_of_bounds_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_report(payload)


def test_a_newer_replica_may_say_more() -> None:
    assert read_report(changed(mood="good")) == report("a", row("42"))


@settings(max_examples=examples(200), deadline=None)
@given(st.text(max_size=300))
def test_a_text_of_anybody_can_be_sent(text: str) -> None:
    sent = report("a", row("42", status=clean(text)))
    assert read_report(msgspec.json.encode(sent)) == sent


def test_a_full_report_of_the_largest_rows_fits_into_a_message() -> None:
    """64 KiB, which `redis.control` accepts."""
    large = [
        row("o" * 128, status="ж" * 80, cursor=f"{2**64 - 1}-{2**64 - 1}", live=2**53)
        for _ in range(OPERATIONS_MAX)
    ]
    users = [ReportedUser("ж" * USER_MAX, 2**53, 2**53) for _ in range(USERS_MAX)]
    rows = within(large, OPERATIONS_MAX_BYTES)
    sent = report("x" * 512, *rows, users=within(users, USERS_MAX_BYTES))
    assert 0 < len(rows) < OPERATIONS_MAX
    assert len(msgspec.json.encode(sent)) < 65_536
    usual = [row(f"import-2026-11-29-{n:08d}") for n in range(OPERATIONS_MAX)]
    assert len(within(usual, OPERATIONS_MAX_BYTES)) == OPERATIONS_MAX


# -- put together ----------------------------------------------------------------------------------


def merged(*reports: ReplicaReport) -> Merge:
    merge = Merge()
    for one in reports:
        merge.add(one)
    return merge


def test_viewers_are_added_and_the_furthest_replica_tells_the_state() -> None:
    merge = merged(
        report("a", row("42", 3, cursor="9-0", status="running", entries=4, dispatches=True)),
        report("b", row("42", 2, cursor="10-0", status="completed", finished=True, entries=2)),
        report("c"),
    )
    (found,) = merge.operations(OperationOrder.VIEWERS, 10)
    assert (found.live, found.entries, found.cursor) == (5, 4, "10-0")
    assert (found.status, found.finished) == ("completed", True)
    assert (found.replicas, found.dispatchers) == (["a", "b"], ["a"])
    assert found.complete
    assert merge.operation_count() == Range(1, 1)


def test_a_replica_that_left_rows_out_makes_what_it_did_not_list_incomplete() -> None:
    merge = merged(
        report("a", row("one", 5), row("two", 4)),
        report("b", row("one", 3), operations_matching=9),
    )
    found = {one.operation: one.complete for one in merge.operations(OperationOrder.VIEWERS, 10)}
    assert found == {"one": True, "two": False}
    assert merge.operation_count() == Range(9, 11)


def test_orders_and_bounds() -> None:
    rows = (row("few", 1, lagging=1), row("busy", 2, entries=9), row("crowded", 5))
    merge = merged(report("a", *rows))
    first = {order: merge.operations(order, 1)[0].operation for order in OperationOrder}
    assert first == {"viewers": "crowded", "lagging": "few", "entries": "busy"}
    assert [one.operation for one in merge.operations(OperationOrder.VIEWERS, 2)] == [
        "crowded",
        "busy",
    ]


def test_users_are_added() -> None:
    merge = merged(
        report("a", users=(ReportedUser("ann", 2, 10), ReportedUser("bob", 3, 10))),
        report("b", users=(ReportedUser("ann", 2, 12),), users_matching=4),
    )
    ann, bob = merge.users(10)
    assert (ann.user, ann.connections, ann.limit, ann.replicas) == ("ann", 4, 12, ["a", "b"])
    assert (ann.complete, bob.complete) == (True, False)
    assert merge.user_count() == Range(4, 6)
    assert len(merge.users(1)) == 1


def test_nobody_has_answered() -> None:
    merge = merged()
    assert merge.operations(OperationOrder.VIEWERS, 10) == []
    assert (merge.operation_count(), merge.user_count()) == (Range(0, 0), Range(0, 0))


def test_ids_that_no_stream_can_have_are_compared_all_the_same() -> None:
    merge = merged(
        report("a", row("42", cursor="9" * 20 + "-0")), report("b", row("42", cursor="1-0"))
    )
    assert merge.operations(OperationOrder.VIEWERS, 1)[0].cursor == "9" * 20 + "-0"
