"""Feeds: streams like any other, whose entries list operations.

    XADD operation-progress:user:42 * message \
        '{"type":"listed","data":{"operation":"7","title":"Export"}}'

A feed has an id like an operation and is watched, read and authorised like one. It never ends: an
entry that lists an operation sets no status. An operation that is listed again counts by its newest
entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tidegate.model.errors import InvalidOperationId
from tidegate.model.ids import OperationId, parse_operation_id

#: Of the entries that list an operation.
LISTED_TYPE = "listed"
#: Operations that a list of a feed has at the most.
LISTED_MAX = 100
TITLE_MAX_CHARS = 200


class Listed(NamedTuple):
    """An operation as a feed lists it; `entry_id` is where."""

    operation: OperationId
    title: str
    entry_id: str


def listed_data(operation: OperationId, title: str = "") -> dict[str, str]:
    """The data of an entry that lists an operation."""
    return {"operation": operation, "title": title} if title else {"operation": operation}


def read_listed(frame: Mapping[str, Any]) -> Listed | None:
    """What an entry of a feed lists; None where it is something else, or no id of an operation."""
    data, entry_id = frame.get("data"), frame.get("id")
    if frame.get("type") != LISTED_TYPE or not isinstance(data, Mapping):
        return None
    operation, title = data.get("operation"), data.get("title")
    if not isinstance(operation, str) or not isinstance(entry_id, str):
        return None
    try:
        parsed = parse_operation_id(operation)
    except InvalidOperationId:
        return None
    return Listed(parsed, title[:TITLE_MAX_CHARS] if isinstance(title, str) else "", entry_id)


def newest_first(frames: Iterable[Mapping[str, Any]], limit: int = LISTED_MAX) -> list[Listed]:
    """The operations of a feed's entries, which come in order; each one once, at most `limit`."""
    by_operation: dict[OperationId, Listed] = {}
    for frame in frames:
        listed = read_listed(frame)
        if listed is not None:
            by_operation.pop(listed.operation, None)
            by_operation[listed.operation] = listed
    return list(reversed(by_operation.values()))[:limit]
