"""The span of OpenTelemetry that a program of a publisher is in.

Asks only when something has loaded OpenTelemetry already: else there is no span, and loading it
would take longer than publishing.
"""

from __future__ import annotations

import sys

from tidegate.model.traceparent import TraceParent


def current_traceparent() -> str | None:
    """As a W3C header, with the flag that says whether it is sampled; None outside of a span."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return str(TraceParent(context.trace_id, context.span_id, context.trace_flags.sampled))
