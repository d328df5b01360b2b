"""The spans of entries, in the trace of whoever published them.

    publisher's span
      +-- dispatch   on the replica that dispatched: from the call to the relay message
      |     +-- relay      there: the message is read, put in order and made into frames
      |           +-- deliver    until the first viewer's socket has it
      +-- relay      on every other replica; links to the dispatch span
            +-- deliver

Entries of one message with one publisher's context share their spans; those of different contexts
stay in their own traces and link to each other. Entries that are not sampled cost a look at their
fields and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import islice

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    Tracer,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

from tidegate.core.records import PUBLISHER, Page, Relay
from tidegate.model.entries import RawEntry
from tidegate.model.ids import OperationId, StreamId, stream_id
from tidegate.model.traceparent import TraceParent, traceparent_of
from tidegate.telemetry.span_ids import ChosenIds, dispatch_span_id

#: A batch of many publishers' entries links to so many of the others.
LINKS_MAX = 32


class EntrySpan:
    """The entries of one publisher's context in one message from Redis."""

    __slots__ = ("_attributes", "_deliver", "_parent", "_spans", "ids", "relay", "trace_id")

    def __init__(
        self,
        spans: EntrySpans,
        publisher: TraceParent,
        entries: Sequence[RawEntry],
        attributes: dict[str, AttributeValue],
        relay: Span | None = None,
    ) -> None:
        self._spans = spans
        self._parent = _remote(publisher) if relay is None else _below(relay)
        self._attributes = attributes
        self._deliver: Span | None = None
        self.relay = relay
        self.ids = frozenset(stream_id(raw.id) for raw in entries)
        #: 32 hexadecimal digits, as an exemplar has it.
        self.trace_id = f"{publisher.trace_id:032x}"

    def queued(self) -> None:
        """Its frames wait for their pass over the sockets."""
        if self._deliver is None:
            self._deliver = self._spans.start(
                "deliver", self._parent, SpanKind.PRODUCER, self._attributes
            )

    def written(self, viewers: int) -> None:
        """The first of so many viewers has them; the others follow in the same pass."""
        if self._deliver is not None:
            self._deliver.set_attribute("tidegate.viewers", viewers)
            self._deliver.end()


class BatchTrace:
    """The traced entries of one message from Redis."""

    __slots__ = ("_applied", "spans")

    def __init__(self, spans: Sequence[EntrySpan]) -> None:
        self.spans = spans
        self._applied: set[EntrySpan] = set()

    def applied(self, entry_id: StreamId) -> EntrySpan | None:
        """This entry followed on, and is a frame now; what happens to it is reported to the span.
        None: it is not traced.
        """
        for span in self.spans:
            if entry_id in span.ids:
                self._applied.add(span)
                return span
        return None

    def end(self) -> None:
        """The message has been worked through."""
        for span in self.spans:
            if span.relay is not None:
                if span not in self._applied:
                    # Already delivered, or to be read again in order: a later page brings it.
                    span.relay.add_event("not applied")
                span.relay.end()


class EntrySpans:
    """Makes them. `pod` is the name under which this replica dispatches."""

    def __init__(self, tracer: Tracer, ids: ChosenIds, pod: str) -> None:
        self._tracer = tracer
        self._ids = ids
        self._pod = pod.encode()

    def relayed(self, operation: OperationId, relay: Relay) -> BatchTrace | None:
        """A relay message arrived; None when nothing in it is traced."""
        groups = _by_context(relay.entries)
        if not groups:
            return None
        now = time.time_ns()
        spans = []
        for publisher, entries in groups.items():
            links = _links(groups, publisher)
            attributes = _attributes(operation, entries)
            parent = _remote(publisher)
            dispatch_id = dispatch_span_id(publisher, entries[0].id)
            if relay.origin == self._pod:
                self._ids.chosen = dispatch_id
                dispatch = self.start(
                    *("dispatch", parent, SpanKind.CONSUMER, attributes, links),
                    start_ns=relay.asked_ns or now,
                )
                dispatch.end(now)
                parent, links = _below(dispatch), []
            elif relay.origin != PUBLISHER:
                links = [Link(_span_context(publisher.trace_id, dispatch_id)), *links]
            span = self.start("relay", parent, SpanKind.INTERNAL, attributes, links, start_ns=now)
            spans.append(EntrySpan(self, publisher, entries, attributes, span))
        return BatchTrace(spans)

    def paged(self, operation: OperationId, page: Page) -> BatchTrace | None:
        """A page that repairs a gap; what in it is delivered gets a deliver span."""
        groups = _by_context(page.entries)
        if not groups:
            return None
        return BatchTrace(
            [
                EntrySpan(
                    self,
                    publisher,
                    entries,
                    {**_attributes(operation, entries), "tidegate.repaired": True},
                )
                for publisher, entries in groups.items()
            ]
        )

    def start(
        self,
        name: str,
        parent: Context,
        kind: SpanKind,
        attributes: dict[str, AttributeValue],
        links: Sequence[Link] = (),
        *,
        start_ns: int | None = None,
    ) -> Span:
        """A span of an entry."""
        return self._tracer.start_span(name, parent, kind, attributes, links, start_ns)


def _by_context(entries: Sequence[RawEntry]) -> dict[TraceParent, list[RawEntry]]:
    groups: dict[TraceParent, list[RawEntry]] = {}
    for raw in entries:
        publisher = traceparent_of(raw)
        if publisher is not None and publisher.sampled:
            groups.setdefault(publisher, []).append(raw)
    return groups


def _attributes(operation: OperationId, entries: Sequence[RawEntry]) -> dict[str, AttributeValue]:
    """Ids only: nothing of what an entry says."""
    return {
        "messaging.system": "redis",
        "messaging.message.id": entries[0].id.decode(),
        "messaging.batch.message_count": len(entries),
        "tidegate.operation.id": operation,
    }


def _links(groups: dict[TraceParent, list[RawEntry]], own: TraceParent) -> list[Link]:
    others = (each for each in groups if each != own)
    return [
        Link(_span_context(other.trace_id, other.span_id)) for other in islice(others, LINKS_MAX)
    ]


def _span_context(trace_id: int, span_id: int) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(1))


def _remote(publisher: TraceParent) -> Context:
    return _below(NonRecordingSpan(_span_context(publisher.trace_id, publisher.span_id)))


def _below(span: Span) -> Context:
    """A context in which this span is the parent, and nothing else."""
    return set_span_in_context(span, Context())
