"""The spans of one connection: `connection`, and below it `admission`, `join` and `replay`.

The stages end as they come, so a connection that lasts for hours is seen before it ends; the span
above them has the end with its reason. On a multiplexed socket each operation has a `join` and a
`replay` of its own. No user, token or address is in them.
"""

from __future__ import annotations

import random

from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

from tidegate.core.connection_record import (
    ConnectionKind,
    ConnectionRecord,
    ConnectionTrace,
    Headers,
    Stage,
)
from tidegate.model.traceparent import FIELD, TraceParent, parse_traceparent

_ORDER = {stage: number for number, stage in enumerate(Stage)}


class RecordedTrace:
    """Implements `core.record.ConnectionTrace`."""

    __slots__ = ("_current", "_operation", "_root", "_stage", "_tracer", "trace_id")

    def __init__(self, tracer: Tracer, root: Span, operation: str = "") -> None:
        self._tracer = tracer
        self._root = root
        self._operation = operation
        self._stage: Stage | None = None
        self._current: Span | None = None
        self.trace_id = f"{root.get_span_context().trace_id:032x}"

    def enter(self, stage: Stage) -> None:
        """See `ConnectionTrace`."""
        if self._stage is not None and _ORDER[stage] <= _ORDER[self._stage]:
            return
        self.end()
        self._stage = stage
        if stage is not Stage.LIVE:
            attributes = {"tidegate.operation.id": self._operation} if self._operation else None
            self._current = self._tracer.start_span(
                stage.value, set_span_in_context(self._root, Context()), attributes=attributes
            )

    def fork(self, operation: str) -> ConnectionTrace:
        """See `ConnectionTrace`."""
        return RecordedTrace(self._tracer, self._root, operation)

    def end(self) -> None:
        """See `ConnectionTrace`."""
        if self._current is not None:
            self._current.end()
            self._current = None

    def finish(self, record: ConnectionRecord) -> None:
        """See `ConnectionTrace`."""
        self.end()
        root = self._root
        root.set_attribute("tidegate.connection.frames", record.frames)
        root.set_attribute("tidegate.connection.bytes", record.size_bytes)
        root.set_attribute("tidegate.connection.reason", record.reason)
        if record.code:
            root.set_attribute("tidegate.connection.code", record.code)
        if record.operation:
            root.set_attribute("tidegate.operation.id", record.operation)
        root.end()


class ConnectionSpans:
    """Begins the traces of connections; `ratio` of them, from 0 to 1."""

    def __init__(self, tracer: Tracer, *, ratio: float, trusting: bool) -> None:
        self._tracer = tracer
        self._ratio = ratio
        #: A request may say that it is traced, or not.
        self._trusting = trusting

    def begin(self, kind: ConnectionKind, headers: Headers) -> RecordedTrace | None:
        """None: this connection is not traced."""
        parent = _parent_in(headers) if self._trusting else None
        sampled = random.random() < self._ratio if parent is None else parent.sampled
        if not sampled:
            return None
        context = Context()
        if parent is not None:
            above = SpanContext(
                parent.trace_id, parent.span_id, is_remote=True, trace_flags=TraceFlags(1)
            )
            context = set_span_in_context(NonRecordingSpan(above), context)
        attributes = {"tidegate.connection.kind": kind.value}
        root = self._tracer.start_span("connection", context, SpanKind.SERVER, attributes)
        return RecordedTrace(self._tracer, root)


def _parent_in(headers: Headers) -> TraceParent | None:
    """Section 3.2: a header that is there twice is as good as none."""
    found = [value for name, value in headers if name == FIELD]
    return parse_traceparent(found[0]) if len(found) == 1 else None
