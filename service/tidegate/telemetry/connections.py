"""What is told of each connection: one line in the log at its end, and its trace.

Implements `core.visit.Visitors`. Lines are bounded per way in: what is above the bound is counted,
and told as one line when a second has passed. No token, user, address or query is in them.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from typing import TYPE_CHECKING

import structlog

from tidegate.core.allowance import Allowance
from tidegate.core.visit import ANSWERED, VIEWER_LEFT, Headers, Visit, VisitKind
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
        self._allowances = {kind: Allowance(per_s, burst) for kind in VisitKind}
        self._untold: dict[VisitKind, Counter[str]] = {kind: Counter() for kind in VisitKind}
        self._timers: dict[VisitKind, asyncio.TimerHandle] = {}
        #: For the metrics: those that are open, all that came, and how they ended.
        self.open: Counter[str] = Counter()
        self.opened: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()

    def came(self, kind: VisitKind, headers: Headers) -> Visit:
        """See `Visitors`."""
        visit = Visit(kind, self._loop.time())
        self.open[kind.value] += 1
        self.opened[kind.value] += 1
        if self._spans is not None:
            visit.trail = self._spans.begin(kind, headers)
        return visit

    def left(self, visit: Visit) -> None:
        """See `Visitors`."""
        self.open[visit.kind.value] -= 1
        self.ends[_end_of(visit)] += 1
        if visit.trail is not None:
            visit.trail.finish(visit)
        if not self._per_s:
            return
        now = self._loop.time()
        if self._allowances[visit.kind].take(now):
            _tell(visit, now)
            return
        self._untold[visit.kind][visit.reason] += 1
        if visit.kind not in self._timers:
            self._timers[visit.kind] = self._loop.call_later(COLLECT_S, self._sum_up, visit.kind)

    def close(self) -> None:
        """Tell now what is still collected."""
        for kind, timer in tuple(self._timers.items()):
            timer.cancel()
            self._sum_up(kind)

    def _sum_up(self, kind: VisitKind) -> None:
        self._timers.pop(kind, None)
        untold, self._untold[kind] = self._untold[kind], Counter()
        log.info(
            "more connections ended",
            kind=kind.value,
            suppressed=untold.total(),
            reasons=dict(untold),
        )


def _end_of(visit: Visit) -> str:
    """The name of its close code; reasons may be anything that an administrator has said."""
    if visit.reason in (VIEWER_LEFT, ANSWERED):
        return visit.reason
    row = CLOSE_CODES.get(visit.code)
    return str(visit.code) if row is None else row.name


def _tell(visit: Visit, now: float) -> None:
    fields: dict[str, object] = {
        "kind": visit.kind.value,
        "reason": visit.reason,
        "duration_s": round(now - visit.started, 3),
        "frames": visit.frames,
        "bytes": visit.size_bytes,
    }
    if visit.code:
        fields["code"] = visit.code
    if visit.operation:
        fields["operation"] = visit.operation
    if visit.trail is not None:
        fields["trace_id"] = visit.trail.trace_id
    log.info("connection ended", **fields)
