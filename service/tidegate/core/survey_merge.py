"""Reports of replicas put together: the first operations and users of all.

The sum over lists of firsts is not the first of the sums: a replica that left an operation out of
its list may have viewers of it that are not counted here. Such a row is not `complete`, and a
number of rows is a range.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from tidegate.core.survey import ReplicaReport, ReportedOperation, ReportedUser
from tidegate.model.operation_order import OperationOrder


class MergedOperation(msgspec.Struct):
    """One operation over all replicas that answered.

    `replicas` are those on which it is followed, `dispatchers` those of them that dispatch it.
    Status and cursor are of the replica that is furthest.
    """

    operation: str
    status: str
    finished: bool
    cursor: str
    entries: int
    live: int
    lagging: int
    catching_up: int
    replicas: list[str]
    dispatchers: list[str]
    complete: bool = True


class MergedUser(msgspec.Struct):
    """One user over all replicas that answered. `slots` is what Redis counts, None if unknown."""

    user: str
    connections: int
    limit: int
    replicas: list[str]
    complete: bool = True
    slots: int | None = None


class Range(NamedTuple):
    """How many there are, over all replicas: known exactly where both are the same."""

    at_least: int
    at_most: int


class Merge:
    """Takes reports one by one; at the end tells the first rows of all."""

    def __init__(self) -> None:
        self._operations: dict[str, MergedOperation] = {}
        self._users: dict[str, MergedUser] = {}
        self._cut_operations: set[str] = set()
        self._cut_users: set[str] = set()
        self._operation_counts: list[int] = []
        self._user_counts: list[int] = []

    def add(self, report: ReplicaReport) -> None:
        """One replica's; not twice."""
        self._operation_counts.append(report.operations_matching)
        self._user_counts.append(report.users_matching)
        if report.operations_matching > len(report.operations):
            self._cut_operations.add(report.incarnation)
        if report.users_matching > len(report.users):
            self._cut_users.add(report.incarnation)
        for row in report.operations:
            self._add_operation(report.incarnation, row)
        for user in report.users:
            self._add_user(report.incarnation, user)

    def operations(self, order: OperationOrder, most: int) -> list[MergedOperation]:
        """The first ones in this order."""
        key = _KEYS[order]
        rows = sorted(self._operations.values(), key=lambda row: (-key(row), row.operation))[:most]
        for row in rows:
            row.complete = self._cut_operations <= set(row.replicas)
        return rows

    def users(self, most: int) -> list[MergedUser]:
        """Those with the most connections."""
        rows = sorted(self._users.values(), key=lambda row: (-row.connections, row.user))[:most]
        for row in rows:
            row.complete = self._cut_users <= set(row.replicas)
        return rows

    def operation_count(self) -> Range:
        """How many operations match."""
        return _range(self._operation_counts, len(self._operations), bool(self._cut_operations))

    def user_count(self) -> Range:
        """How many users match."""
        return _range(self._user_counts, len(self._users), bool(self._cut_users))

    def _add_operation(self, incarnation: str, row: ReportedOperation) -> None:
        found = self._operations.get(row.operation)
        if found is None:
            found = self._operations[row.operation] = MergedOperation(
                *(row.operation, row.status, row.finished, row.cursor),
                *(0, 0, 0, 0),
                replicas=[],
                dispatchers=[],
            )
        elif _position(row.cursor) > _position(found.cursor):
            found.status, found.finished, found.cursor = row.status, row.finished, row.cursor
        found.entries = max(found.entries, row.entries)
        found.live += row.live
        found.lagging += row.lagging
        found.catching_up += row.catching_up
        found.replicas.append(incarnation)
        if row.dispatches:
            found.dispatchers.append(incarnation)

    def _add_user(self, incarnation: str, row: ReportedUser) -> None:
        found = self._users.setdefault(row.user, MergedUser(row.user, 0, 0, []))
        found.connections += row.connections
        found.limit = max(found.limit, row.limit)
        found.replicas.append(incarnation)


def _position(cursor: str) -> tuple[int, int]:
    """To compare by; an answer may be of anyone, so it need not be a stream's."""
    ms, _, seq = cursor.partition("-")
    return int(ms), int(seq)


def _range(counts: list[int], distinct: int, is_cut: bool) -> Range:
    if not is_cut:
        return Range(distinct, distinct)
    return Range(max(distinct, *counts), sum(counts))


_KEYS: dict[OperationOrder, Callable[[MergedOperation], int]] = {
    OperationOrder.VIEWERS: lambda row: row.live + row.lagging + row.catching_up,
    OperationOrder.LAGGING: lambda row: row.lagging,
    OperationOrder.ENTRIES: lambda row: row.entries,
}
