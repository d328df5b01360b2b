"""The connection that nobody is told of: one for all, so nothing may stay in it."""

from __future__ import annotations

from inspect import getmembers, isdatadescriptor
from typing import Any

from tidegate.core.connection_record import (
    NO_RECORD,
    ConnectionKind,
    ConnectionRecord,
    Stage,
    Unobserved,
)
from tidegate.model import close_codes


def _attributes(record: ConnectionRecord) -> dict[str, Any]:
    """Also of a compiled class, which has no `__slots__`."""
    found = {n: getattr(record, n) for n, _ in getmembers(ConnectionRecord, isdatadescriptor)}
    assert "operation" in found
    return found


def test_nothing_of_one_connection_is_left_for_the_next() -> None:
    before = _attributes(NO_RECORD)
    record = Unobserved().came(ConnectionKind.MULTIPLEX, [])
    assert record is NO_RECORD
    record.about("42")
    record.enter(Stage.LIVE)
    part = record.fork("42", 1.0)
    part.wrote(3, 100)
    record.join(part)
    record.wrote(3, 100)
    record.told(1000, "viewer_left")
    record.closed(close_codes.SLOW, "slow")
    assert _attributes(NO_RECORD) == before


def test_the_parts_of_a_visit_are_counted_when_they_end() -> None:
    record = ConnectionRecord(ConnectionKind.MULTIPLEX, 0.0)
    part = record.fork("42", 1.0)
    assert (part.operation, record.operation) == ("42", "")
    part.wrote(3, 100)
    assert record.frames == 0
    record.join(part)
    assert (record.frames, record.size_bytes) == (3, 100)
