"""The log line of each connection at its end, and its trace.

Implements `core.connection_record.ConnectionObserver`. Lines are limited for each kind of
connection: those above the limit are counted, and summed up in one line a second later. They hold
no token, user, address or query.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from typing import TYPE_CHECKING

import structlog

from tidegate.core.connection_record import (
    ANSWERED,
    VIEWER_LEFT,
    ConnectionKind,
    ConnectionRecord,
    Headers,
)
from tidegate.core.token_bucket import TokenBucket
from tidegate.model.close_codes import CLOSE_CODES

if TYPE_CHECKING:
    from tidegate.telemetry.connection_spans import ConnectionSpans

log = structlog.get_logger(__name__)

#: How long what is not told one by one is collected.
COLLECT_S = 1.0


class Connections:
    """`per_s` lines for each kind, 0 for none; `spans` is None when nothing is traced."""

    def __init__(self, per_s: float, spans: ConnectionSpans | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._per_s = per_s
        self._spans = spans
        burst = max(1, math.ceil(per_s))
        self._buckets = {kind: TokenBucket(per_s, burst) for kind in ConnectionKind}
        self._untold: dict[ConnectionKind, Counter[str]] = {
            kind: Counter() for kind in ConnectionKind
        }
        self._timers: dict[ConnectionKind, asyncio.TimerHandle] = {}
        #: For the metrics: those that are open, all that came, and how they ended.
        self.open: Counter[str] = Counter()
        self.opened: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()

    def came(self, kind: ConnectionKind, headers: Headers) -> ConnectionRecord:
        """See `ConnectionObserver`."""
        record = ConnectionRecord(kind, self._loop.time())
        self.open[kind.value] += 1
        self.opened[kind.value] += 1
        if self._spans is not None:
            record.trace = self._spans.begin(kind, headers)
        return record

    def left(self, record: ConnectionRecord) -> None:
        """See `ConnectionObserver`."""
        self.open[record.kind.value] -= 1
        self.ends[_end_of(record)] += 1
        if record.trace is not None:
            record.trace.finish(record)
        if not self._per_s:
            return
        now = self._loop.time()
        if self._buckets[record.kind].take(now):
            _tell(record, now)
            return
        self._untold[record.kind][record.reason] += 1
        if record.kind not in self._timers:
            self._timers[record.kind] = self._loop.call_later(COLLECT_S, self._sum_up, record.kind)

    def close(self) -> None:
        """Tell now what is still collected."""
        for kind, timer in tuple(self._timers.items()):
            timer.cancel()
            self._sum_up(kind)

    def _sum_up(self, kind: ConnectionKind) -> None:
        self._timers.pop(kind, None)
        untold, self._untold[kind] = self._untold[kind], Counter()
        log.info(
            "more connections ended",
            kind=kind.value,
            suppressed=untold.total(),
            reasons=dict(untold),
        )


def _end_of(record: ConnectionRecord) -> str:
    """The name of its close code; reasons may be anything that an administrator has said."""
    if record.reason in (VIEWER_LEFT, ANSWERED):
        return record.reason
    row = CLOSE_CODES.get(record.code)
    return str(record.code) if row is None else row.name


def _tell(record: ConnectionRecord, now: float) -> None:
    fields: dict[str, object] = {
        "kind": record.kind.value,
        "reason": record.reason,
        "duration_s": round(now - record.started, 3),
        "frames": record.frames,
        "bytes": record.size_bytes,
    }
    if record.code:
        fields["code"] = record.code
    if record.operation:
        fields["operation"] = record.operation
    if record.trace is not None:
        fields["trace_id"] = record.trace.trace_id
    log.info("connection ended", **fields)
