"""Writes the batches of a backlog to Redis, each under the condition that its items ask for.

| batch has   | written                                                                |
|-------------|------------------------------------------------------------------------|
| a start     | once for each run: an idempotency key, kept for a day                  |
| a step      | unless the operation has ended                                         |
| an entry    | under a key of this batch, kept for ten minutes: trying again is safe  |
| a part      | after it is counted, with what the count says of all parts             |

Blocks while Redis is slow, so only the reporter's own thread calls it.
"""

from __future__ import annotations

import secrets
from typing import Any

import orjson

from tidegate.client.messages import message
from tidegate.client.updates import PROGRESS
from tidegate.core.writes import IdempotencyKey
from tidegate.integrations.backlog import ItemBatch, ItemKind, TaskPart, WaitingItem
from tidegate.model.ids import OperationId
from tidegate.model.settings import DispatchSettings, RedisSettings
from tidegate.redis.appending import OnceBounds, Retention
from tidegate.redis.reporting import ReportAppender

#: Keys of batches: only the newest is ever tried again, and soon.
BATCHES = OnceBounds("sent", kept=16, ttl_s=600)
#: Without a TTL of the stream, the counts of parts live this long.
PARTS_TTL_S = 86_400
#: Of a part that has not ended, at most.
ALMOST = 0.999


class BatchWriter:
    """Opens its connection with the first batch."""

    def __init__(self, settings: RedisSettings, retention: Retention) -> None:
        self._settings = settings
        self._retention = retention
        self._name = secrets.token_hex(8)
        self._opened: ReportAppender | None = None

    def send(self, batch: ItemBatch) -> None:
        """Write it.

        Raises:
            RedisUnavailable: try the same batch again.
            TidegateError: it can never be written.
        """
        appender = self._appender()
        operation = batch.lane.operation
        first = batch.items[0]
        if first.part is not None:
            self._send_part(appender, operation, first, first.part)
            return
        if first.kind is ItemKind.START:
            once = IdempotencyKey(f"tidegate-start/{first.run}", b"start")
            appender.append(operation, batch.texts, once=once)
            return
        key = None
        if batch.has(ItemKind.ENTRY):
            key = IdempotencyKey(f"{self._name}/{batch.number}", b"batch")
        if batch.has(ItemKind.STEP):
            appender.append_unless_ended(
                operation, batch.texts, before=batch.items[-1].attempt, once=key, bounds=BATCHES
            )
        else:
            appender.append(operation, batch.texts, once=key, bounds=BATCHES)

    def cancel_requested(self, operation: OperationId) -> bool:
        """Whether someone asks to cancel it. Raises RedisUnavailable."""
        return self._appender().cancel_requested(operation)

    def close(self) -> None:
        """Close the connections."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def forget(self) -> None:
        """In a fork: the connections are the parent's; closing them here would end its own."""
        self._opened = None
        self._name = secrets.token_hex(8)

    def _appender(self) -> ReportAppender:
        if self._opened is None:
            self._opened = ReportAppender(self._settings, DispatchSettings(), self._retention)
        return self._opened

    def _send_part(
        self, appender: ReportAppender, operation: OperationId, item: WaitingItem, part: TaskPart
    ) -> None:
        ttl_s = self._retention.ttl_s or PARTS_TTL_S
        # A part that reports 1.0 has not returned yet, and may still fail.
        fraction = 1.0 if part.result is not None else min(part.fraction, ALMOST)
        counted = appender.count_part(operation, part.name, fraction, ttl_s)
        if part.result is not None and counted.complete >= part.of:
            appender.append_unless_ended(operation, [part.result])
            return
        data: dict[str, Any] = orjson.loads(item.text)["data"]
        # `current` counts the parts that are complete; a text keeps the part's own figures out.
        whole = {
            **{name: value for name, value in data.items() if name in ("message", "unit")},
            "progress": min(1.0, counted.sum / part.of),
            "parts": {"complete": counted.complete, "of": part.of},
        }
        appender.append_unless_ended(operation, [message(PROGRESS, whole)])
