"""Metrics as Prometheus reads them: its text format, or OpenMetrics where that is asked for."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from starlette.responses import Response

METRICS_OFF = "metrics.enabled is false"
_openmetrics: Callable[..., bytes] = openmetrics.generate_latest
#: All names are plain, so nothing is changed by it; else the library looks at each of their
#: characters, for a third of the time that a scrape takes.
_AS_IT_IS = openmetrics.ALLOWUTF8


def exposition(collector: Collector, accept: str) -> Response:
    """All that it has now. The library's own choice by version fails on a version that is none."""
    if "application/openmetrics-text" in accept:
        return Response(
            _openmetrics(collector, escaping=_AS_IT_IS),
            media_type=openmetrics.CONTENT_TYPE_LATEST,
        )
    return Response(generate_latest(collector, escaping=_AS_IT_IS), media_type=CONTENT_TYPE_LATEST)
