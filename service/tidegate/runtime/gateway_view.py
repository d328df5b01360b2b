"""What the console shows: all replicas of the gateway, their operations and users, seen from one.
Implements `web.admin.gateway.GatewayInspector`.

Figures of other replicas come from surveys, what Redis keeps is read here. Answers are shared: any
number of consoles with the same view cost one survey in `FRESH_S`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from tidegate.concurrency.single_flight import SingleFlightCache
from tidegate.core.slots import pod_of
from tidegate.core.survey import (
    OPERATIONS_MAX,
    USERS_MAX,
    OperationReport,
    ReplicaReport,
    clean,
)
from tidegate.core.survey_merge import Merge, MergedUser
from tidegate.gateway.node import GatewayNode
from tidegate.gateway.surveys import SurveyedReplica
from tidegate.model.entries import RawEntry, read_entry
from tidegate.model.errors import RedisUnavailable
from tidegate.model.ids import OperationId, stream_id
from tidegate.model.operation_order import OperationOrder

#: An answer is given again for so long, and so many are kept.
FRESH_S = 1.0
ANSWERS_KEPT = 32
#: Of one operation: its newest entries, and characters of the data of each.
HISTORY_ENTRIES = 25
HISTORY_DATA_MAX = 300
#: Of one user.
SLOTS_SHOWN = 100
#: Figures of a lease, which are texts of anyone with access to Redis.
LEASE_FIGURES = ("connections", "deliveries_per_s", "loop_lag_ms", "undispatched", "ready")


class GatewayView:
    """Reads the parts and changes nothing of them."""

    def __init__(self, node: GatewayNode) -> None:
        self._node = node
        self._answers: SingleFlightCache[dict[str, Any]] = SingleFlightCache(
            ANSWERS_KEPT, time.monotonic
        )

    async def overview(
        self, order: OperationOrder, search: str, user_search: str
    ) -> dict[str, Any]:
        """See `GatewayInspector`."""
        return await self._answers.get(
            ("overview", order, search, user_search),
            lambda: self._overview(order, search, user_search),
            lambda _: FRESH_S,
        )

    async def operation(self, operation: OperationId) -> dict[str, Any]:
        """See `GatewayInspector`."""
        return await self._answers.get(
            ("operation", operation), lambda: self._operation(operation), lambda _: FRESH_S
        )

    async def user(self, user: str) -> dict[str, Any]:
        """See `GatewayInspector`."""
        slots = await self._node.slots.stored(user)
        return {
            "user": user,
            "slots": sum(slot.is_live for slot in slots),
            "limit": self._node.settings.slots.limit,
            "omitted": max(0, len(slots) - SLOTS_SHOWN),
            "connections": [
                {
                    "connection": clean(slot.connection),
                    "replica": clean(pod_of(slot.incarnation), 512),
                    "since_ms": slot.since_ms,
                    "live": slot.is_live,
                }
                for slot in slots[:SLOTS_SHOWN]
            ],
        }

    # -- the overview -----------------------------------------------------------------------------

    async def _overview(
        self, order: OperationOrder, search: str, user_search: str
    ) -> dict[str, Any]:
        survey = await self._node.surveys.ask(order, search, user_search)
        merge = Merge()
        for one in survey.replicas:
            if isinstance(one.report, ReplicaReport):
                merge.add(one.report)
                await asyncio.sleep(0)  # about 0.1 ms each
        users = merge.users(USERS_MAX)
        if survey.redis_error is None:
            await self._count_slots(users)
        return {
            "pod": self._node.settings.server.pod,
            "redis_error": survey.redis_error,
            "replicas": [_replica(one) for one in survey.replicas],
            "omitted_replicas": survey.omitted,
            "operations": {
                **merge.operation_count()._asdict(),
                "rows": msgspec.to_builtins(merge.operations(order, OPERATIONS_MAX)),
            },
            "users": {
                **merge.user_count()._asdict(),
                "rows": msgspec.to_builtins(users),
            },
        }

    async def _count_slots(self, users: list[MergedUser]) -> None:
        """As Redis has them; a user whose slots cannot be read keeps None."""
        found = await asyncio.gather(
            *(self._node.slots.stored(row.user) for row in users), return_exceptions=True
        )
        for row, slots in zip(users, found, strict=True):
            if isinstance(slots, RedisUnavailable):
                continue
            if isinstance(slots, BaseException):
                raise slots
            row.slots = sum(slot.is_live for slot in slots)

    # -- one operation ----------------------------------------------------------------------------

    async def _operation(self, operation: OperationId) -> dict[str, Any]:
        survey = await self._node.surveys.ask_operation(operation)
        replicas = [
            {
                "pod": _pod(one),
                "incarnation": one.record.incarnation,
                "answered": one.report is not None,
                "report": msgspec.to_builtins(one.report)
                if isinstance(one.report, OperationReport)
                else None,
            }
            for one in survey.replicas
        ]
        body: dict[str, Any] = {
            "operation": operation,
            "redis_error": survey.redis_error,
            "replicas": replicas,
            "omitted_replicas": survey.omitted,
            "stream": None,
            "group": None,
            "history": [],
        }
        try:
            body.update(await self._of_stream(operation))
        except RedisUnavailable as error:
            body["redis_error"] = str(error)
        return body

    async def _of_stream(self, operation: OperationId) -> dict[str, Any]:
        """Raises RedisUnavailable, StreamUnusable."""
        log = self._node.log
        page = await log.newest(operation, HISTORY_ENTRIES)
        info = page.info
        if not info.exists:
            return {}
        group = await log.group(operation)
        return {
            "stream": {
                "first": str(info.first),
                "last": str(info.last),
                "length": info.length,
                "entries_added": info.added,
            },
            "group": None if group is None else group._asdict(),
            "history": [_entry(raw) for raw in reversed(page.entries)],
        }


def _pod(one: SurveyedReplica) -> str:
    return clean(pod_of(one.record.incarnation), 512)


def _replica(one: SurveyedReplica) -> dict[str, Any]:
    report = one.report if isinstance(one.report, ReplicaReport) else None
    body: dict[str, Any] = {
        "pod": _pod(one),
        "incarnation": one.record.incarnation,
        "answered": report is not None,
        "lease_left_ms": one.record.lease_left_ms,
        "lease": _lease(one.record.figures),
    }
    if report is not None:
        body["figures"] = msgspec.to_builtins(report.figures)
        body["viewers"] = msgspec.to_builtins(report.viewers)
        body["operations"] = report.operations_total
    return body


def _lease(figures: Mapping[str, str]) -> dict[str, float]:
    """The numbers of a lease; what is none is left out."""
    found = {}
    for name in LEASE_FIGURES:
        try:
            number = float(figures.get(name, "")[:40])
        except ValueError:
            continue
        if math.isfinite(number):
            found[name] = number
    return found


def _entry(raw: RawEntry) -> dict[str, Any]:
    """One entry for people: the beginning of its data, as text."""
    entry = read_entry(stream_id(raw.id), raw)
    data = entry.data.decode(errors="replace")
    return {
        "id": str(entry.id),
        "type": clean(entry.type),
        "data": clean(data, HISTORY_DATA_MAX),
        "cut": len(data) > HISTORY_DATA_MAX or not entry.is_whole,
    }
