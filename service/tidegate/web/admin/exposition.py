"""Metrics for Prometheus: in its text format, or as OpenMetrics if the request asks for that."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from starlette.responses import Response

METRICS_OFF = "metrics.enabled is false"
_openmetrics: Callable[..., bytes] = openmetrics.generate_latest
#: No name needs escaping. With any other value the library checks each character, which takes a
#: third of the time of a scrape.
_AS_IT_IS = openmetrics.ALLOWUTF8


def exposition(collector: Collector, accept: str) -> Response:
    """The current metrics as a response.

    The format is chosen here: the library's own choice fails on an invalid version in `Accept`.
    """
    if "application/openmetrics-text" in accept:
        return Response(
            _openmetrics(collector, escaping=_AS_IT_IS),
            media_type=openmetrics.CONTENT_TYPE_LATEST,
        )
    return Response(generate_latest(collector, escaping=_AS_IT_IS), media_type=CONTENT_TYPE_LATEST)
