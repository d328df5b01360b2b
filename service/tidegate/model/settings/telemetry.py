"""Logs, metrics and traces."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from tidegate.model.settings.group import Group
from tidegate.model.settings.values import Constant, HttpUrl

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}=[\x21-\x2b\x2d-\x7e][\x20-\x2b\x2d-\x7e]*")


def _check_headers(headers: SecretStr | None) -> SecretStr | None:
    if headers is not None:
        parts = headers.get_secret_value().split(",")
        if len(parts) > 32 or not all(_HEADER.fullmatch(part.strip()) for part in parts):
            # The value stays out of the message: it may hold a key.
            raise ValueError("must look like name=value,name=value in printable ASCII")
    return headers


class LogSettings(Group):
    """Level and format of log lines."""

    group_name = "log"

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Field(description="Lowest level that is logged. At info nothing is logged per entry."),
    ] = "info"
    format: Annotated[
        Literal["auto", "json", "pretty"],
        Field(description="`auto`: pretty on a terminal, one JSON object per line elsewhere."),
    ] = "auto"
    #: Maximum number of lines per second about closed connections, for each kind (WebSocket, event
    #: stream and so on); further ones are only counted. The 20,000 connections of a drain would
    #: otherwise be 5 MB. 0: no lines.
    connections_per_s: Constant[float] = 10.0


class MetricsSettings(Group):
    """Latency measurements and the metrics endpoint."""

    group_name = "metrics"

    enabled: Annotated[
        bool,
        Field(
            description="Measure latencies and garbage collection, and serve `GET /metrics`. Off: "
            "`/metrics` answers 404 and `tidegate top` shows nothing. Counters for drains, "
            "scaling and `/debug` are kept either way."
        ),
    ] = True
    #: Maximum number of viewers per second that are asked for an acknowledgement, which measures
    #: the latency that users see. Only viewers that offered it are asked. 0: none.
    acks_per_s: Constant[float] = 2.0


class TracingSettings(Group):
    """OpenTelemetry traces: exporter and sampling."""

    group_name = "tracing"

    exporter: Annotated[
        Literal["none", "otlp"],
        Field(
            description="`otlp` sends spans to a collector over OTLP/HTTP; it needs the extra "
            "`tidegate[otlp]`. With `none`, a `traceparent` in an entry is ignored."
        ),
    ] = "none"
    endpoint: Annotated[
        HttpUrl,
        Field(description="Full URL of the collector, including the path."),
    ] = "http://127.0.0.1:4318/v1/traces"
    headers: Annotated[
        SecretStr | None,
        AfterValidator(_check_headers),
        Field(
            description="Headers for the collector: `name=value`, separated by commas. Set it by "
            "environment variable if it contains a key."
        ),
    ] = None
    #: `service.name` of the spans; the replica is `service.instance.id`.
    service_name: Constant[str] = "tidegate"
    connection_ratio: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Fraction of connections that are traced, from 0 to 1. For entries the "
            "sampling decision of the publisher applies.",
        ),
    ] = 0.01
    trust_requests: Annotated[
        bool,
        Field(
            description="Continue the trace in the `traceparent` header of a viewer's request and "
            "follow its sampled flag. Enable it only behind a proxy that sets this header; "
            "otherwise any client can have all its connections traced."
        ),
    ] = False
    #: Maximum number of queued spans; further ones are dropped and counted. About 2 KiB each.
    queue_spans: Constant[int] = 4_096
    #: Maximum number of spans in one request to the collector.
    batch_spans: Constant[int] = 512
    #: Interval of requests to the collector, unless a batch is full earlier.
    send_every_s: Constant[float] = 1.0
    #: Timeout of one batch, including retries. After it the batch is dropped and counted.
    timeout_s: Constant[float] = 5.0
    #: Maximum wait for the collector at the end of the process, after the drain. Remaining spans
    #: are dropped and counted.
    flush_s: Constant[float] = 2.0
