"""Traces: OpenTelemetry's SDK set up for one replica, with nothing global.

Not imported unless `tracing.exporter` is set, so a replica without traces does not pay for the SDK.
`entries` makes the spans of entries, `connections` those of connections; both go through
`SpanQueue`. Who is sampled is decided before a span is made: an entry by its publisher's flag, a
connection by `tracing.connection_ratio`.
"""

from __future__ import annotations

import asyncio

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from tidegate import __version__
from tidegate.model.errors import SettingsError
from tidegate.model.settings import TracingSettings
from tidegate.telemetry.connection_spans import ConnectionSpans
from tidegate.telemetry.entry_spans import EntrySpans
from tidegate.telemetry.span_ids import ChosenIds
from tidegate.telemetry.span_queue import SpanCounts, SpanQueue

SCOPE = "tidegate"


class Tracing:
    """Starts a thread; `close` ends it.

    Raises:
        SettingsError: the extra with the exporter is not installed.
    """

    def __init__(self, settings: TracingSettings, pod: str) -> None:
        self._flush_s = settings.flush_s
        self._queue = SpanQueue(
            _exporter(settings),
            most=settings.queue_spans,
            batch=settings.batch_spans,
            send_every_s=settings.send_every_s,
        )
        ids = ChosenIds()
        provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=Resource.create(
                {
                    "service.name": settings.service_name,
                    "service.version": __version__,
                    "service.instance.id": pod,
                }
            ),
            shutdown_on_exit=False,
            id_generator=ids,
        )
        provider.add_span_processor(self._queue)
        tracer = provider.get_tracer(SCOPE, __version__)
        self.entries = EntrySpans(tracer, ids, pod)
        self.connections = ConnectionSpans(
            tracer, ratio=settings.connection_ratio, trusting=settings.trust_requests
        )

    def counts(self) -> SpanCounts:
        """For the metrics."""
        return self._queue.counts()

    async def close(self) -> None:
        """Send what waits, for `tracing.flush_s` at the most. Safe to call twice."""
        await asyncio.to_thread(self._queue.close, self._flush_s)


def _exporter(settings: TracingSettings) -> SpanExporter:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        text = "the otlp exporter requires an extra package: pip install 'tidegate[otlp]'"
        raise SettingsError((f"tracing.exporter: {text}",)) from None
    given = "" if settings.headers is None else settings.headers.get_secret_value()
    pairs = [part.strip().partition("=") for part in given.split(",") if part.strip()]
    return OTLPSpanExporter(
        endpoint=settings.endpoint,
        headers={name.lower(): value for name, _, value in pairs},
        timeout=settings.timeout_s,
    )
