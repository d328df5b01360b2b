"""The reference page of all metrics, made from the table: `python -m
tidegate.telemetry.metrics_page > docs/metrics.md`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from tidegate.telemetry.metric_table import markdown_rows
from tidegate.telemetry.metrics import SECTIONS

_HEAD = """\
<!-- Made by `python -m tidegate.telemetry.metrics_page`; a test keeps docs/metrics.md current. -->
# Metrics

`GET /metrics` on the admin port.
The answer is in OpenMetrics format, with exemplars, if the scraper requests it (Prometheus does),
and in the Prometheus text format otherwise.

No label contains a user or an operation id.
All listed label values are exposed from the start, so that rates have a first sample.
Values that are not listed are counted as `other`.
`node` is the address of a primary; at most 64 addresses have their own label value.

Process and garbage collector metrics of Python (`process_*`, `python_*`) are exposed as well.

With [worker processes](sizing.md#several-cores-without-kubernetes) these are the metrics of all
workers together: sums, except for gauges that all workers share, such as memory of the container.
"""

_TAIL = """\
## Latency

`tidegate_publish_to_socket_seconds` starts at the timestamp in the entry's id.
Redis sets it in whole milliseconds at `XADD`, so a value may be up to 1 ms too high.
It ends when the frame is written to the socket of a live viewer, and counts each viewer
(a sample of them at high rates, see below).
History, and entries with which a lagging viewer catches up, are not included.

The id uses the clock of the primary, the write that of the replica.
Therefore the replica sends `TIME` to each primary once a second.
The primary answered at some point within the round trip, so the error is at most half of it.
The best of the last eight answers is used.
The error bound of each answer grows by 15 ppm with its age
(RFC 5905: 8 stages, section 10; PHI, section 7.2).
An answer that contradicts it, because a clock was set, replaces it.
`tidegate_redis_clock_offset_seconds` and `tidegate_redis_clock_error_seconds` expose the result.

Deliveries without a latency are counted by `tidegate_latency_unmeasured_total`:
`no_clock` if `TIME` is not answered (the ACL user needs `+time`),
`not_a_time` for ids in the future or older than a day, which were set by a backend.

`tidegate_publish_to_viewer_seconds` ends when a viewer's answer to an `ack_request` arrives.
It includes the return path, so it is an upper bound of the latency that the viewer saw.
Only viewers that offer acknowledgements are asked ([protocol](protocol.md)),
at most two per second and replica.

A bucket of `tidegate_publish_to_socket_seconds` may have an exemplar: the `trace_id` of a traced
entry, which need not be in the sample.

## Overhead

There are no locks, and nothing is formatted before a scrape.
The latency to the socket is measured once per entry and iteration of the event loop, weighted by
the number of viewers written to. Above 500 of these measurements per second, one in eight is taken
at random and counted eight times.
The dispatch lag is measured at most every 10 ms.

`make bench ARGS="-s 1000x1 --rounds 12 --seconds 15 --no-baseline --without-metrics"`
alternates a replica with and one without metrics, scrapes the first every 15 s during the
measurement, and compares the CPU per delivery in each round.
On a virtual machine of 2 cores (AMD EPYC):

| scenario | rounds | with / without, median | lowest to highest |
|---|---|---|---|
| `1000x1` | 12 of 15 s | 1.027 | 0.975 to 1.048 |
| | 12 of 15 s, again | 1.029 | 0.978 to 1.090 |
| | 14 of 15 s, real-time priority | 1.022 | 0.976 to 1.067 |
| `200x10` | 8 of 15 s, other programs on the machine | 0.990 | 0.828 to 1.089 |

The overhead is 2 to 3 % for `1000x1`, where each entry has one viewer and wakes the process up.
For `200x10` the difference is within the noise.
With every delivery measured, four runs of `1000x1` gave 1.022 to 1.071.
A scrape takes 6 ms on an idle replica.
With `metrics.enabled` = false only plain counters are kept, and `/metrics` answers 404.

## Figures for the operator

At each renewal of its lease (every 5 s) a replica writes these fields
to the hash `{tidegate}:pod:<incarnation>`:

| field | description |
|---|---|
| `pod` | Name of the replica. |
| `started` | Time of its first lease, in ms by the clock of Redis. |
| `connections` | Open connections. |
| `deliveries_per_s` | Frames written to live viewers since the last renewal, per second. |
| `loop_lag_ms` | Mean delay of event loop timers since the last renewal. |
| `undispatched` | Entries known to be waiting for dispatch, as `tidegate_undispatched_entries`. |
| `ready` | 1 or 0, as `/readyz`. |
"""


def metrics_page() -> str:
    """The page as Markdown."""
    return "\n".join(_lines()).rstrip("\n") + "\n"


def _lines() -> Iterator[str]:
    yield _HEAD
    for title, rows in SECTIONS.items():
        yield f"## {title}"
        yield ""
        yield "| metric | kind | label | description |"
        yield "|---|---|---|---|"
        yield from markdown_rows(rows)
        yield ""
    yield _TAIL


if __name__ == "__main__":
    sys.stdout.write(metrics_page())
