"""Logs, metrics and traces."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from tidegate.model.settings.group import Group
from tidegate.model.settings.values import Constant, HttpUrl, pattern

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}=[\x21-\x2b\x2d-\x7e][\x20-\x2b\x2d-\x7e]*")


def _check_headers(headers: SecretStr | None) -> SecretStr | None:
    if headers is not None:
        parts = headers.get_secret_value().split(",")
        if len(parts) > 32 or not all(_HEADER.fullmatch(part.strip()) for part in parts):
            # The value stays out of the message: it may hold a key.
            raise ValueError("must look like name=value,name=value in printable ASCII")
    return headers


class LogSettings(Group):
    """What is logged, and how it looks."""

    group_name = "log"

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Field(description="Least severity that is written. Nothing is logged per entry at info."),
    ] = "info"
    format: Annotated[
        Literal["auto", "json", "pretty"],
        Field(description="`auto`: pretty on a terminal, one JSON object per line elsewhere."),
    ] = "auto"
    #: Ends of connections told per second and way in (WebSocket, event stream and so on), one line
    #: each; what is above it is counted. 10 are read by nobody, and 20,000 that leave with a drain
    #: would be 5 MB. 0: none is told.
    connections_per_s: Constant[float] = 10.0


class MetricsSettings(Group):
    """What is measured beyond what costs nothing."""

    group_name = "metrics"

    enabled: Annotated[
        bool,
        Field(
            description="Measure latencies and garbage collection, and answer `GET /metrics`. Off: "
            "that is 404, and `tidegate top` has nothing to show. What drains, scaling and "
            "`/debug` read is counted all the same."
        ),
    ] = True
    #: Viewers asked per second, at the most, to say that they have an entry: the latency that
    #: people see. Only those that offered it are asked. 0: none.
    acks_per_s: Constant[float] = 2.0


class TracingSettings(Group):
    """Spans for OpenTelemetry: where they go, and of what."""

    group_name = "tracing"

    exporter: Annotated[
        Literal["none", "otlp"],
        Field(
            description="`otlp` sends spans to a collector over OTLP/HTTP; it needs the extra "
            "`tidegate[otlp]`. Off: a `traceparent` in an entry is not even looked for."
        ),
    ] = "none"
    endpoint: Annotated[
        HttpUrl,
        Field(description="The collector's full address, with the path."),
    ] = "http://127.0.0.1:4318/v1/traces"
    headers: Annotated[
        SecretStr | None,
        AfterValidator(_check_headers),
        Field(
            description="Sent to the collector: `name=value`, several with commas between. Give "
            "it by environment: it may hold a key."
        ),
    ] = None
    service_name: Annotated[
        str,
        pattern(
            r"^[\x20-\x7e]{1,128}$",
            "1 to 128 printable ASCII characters",
            description="`service.name` of the spans; the replica is `service.instance.id`.",
        ),
    ] = "tidegate"
    connection_ratio: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Part of the connections that are traced, from 0 to 1. Entries need no "
            "ratio: the one of their publisher holds.",
        ),
    ] = 0.01
    trust_requests: Annotated[
        bool,
        Field(
            description="Continue the trace that a viewer's request names in `traceparent`, and "
            "obey its flag. Only behind a proxy that sets this header: else anybody could have "
            "all their connections traced."
        ),
    ] = False
    #: Spans that wait for the collector; those above it are dropped and counted. About 2 KiB each.
    queue_spans: Constant[int] = 4_096
    #: Most spans of one request to the collector.
    batch_spans: Constant[int] = 512
    #: Spans wait for others this long, unless a batch is full.
    send_every_s: Constant[float] = 1.0
    #: Longest time for one batch, with all tries. It is lost then, and counted.
    timeout_s: Constant[float] = 5.0
    #: Longest wait for the collector at the end of the process, after the drain. What is left is
    #: dropped and counted.
    flush_s: Constant[float] = 2.0
