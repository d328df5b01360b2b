"""The reference page of all metrics, made from the table: `python -m
tidegate.telemetry.metrics_page > docs/metrics.md`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from tidegate.telemetry.metrics import SECTIONS, Kind, Row

_HEAD = """\
<!-- Made by `python -m tidegate.telemetry.metrics_page`; a test keeps docs/metrics.md current. -->
# Metrics

`GET /metrics` on the admin port.
A scraper that asks for OpenMetrics (Prometheus does) gets it, with exemplars.
Others get Prometheus' text format.

No label carries a user or an operation id.
Every label has the values of the table, all of them from the start:
a rate has something to begin with.
What is none of them is counted as `other`.
`node` is a primary's address; at most 64 are told apart.

The metrics of Python's process and garbage collector (`process_*`, `python_*`) are there as well.
"""

_TAIL = """\
## Latency

`tidegate_publish_to_socket_seconds` begins with the time in the entry's id.
Redis sets it in whole milliseconds at `XADD`, so a figure may be up to 1 ms too long.
It ends when the frame was given to the socket of a live viewer, and counts each viewer
(a sample of them while they are many, see below).
History, and what a lagging viewer is caught up with, is not in it.

The id is of the primary's clock, the write of this replica's.
Once a second each primary is asked for its `TIME`.
The answer was given somewhere within the round trip, so half of that bounds the error.
The best of the last eight answers is used.
The bound of each grows by 15 ppm with its age (RFC 5905: 8 stages, section 10; PHI, section 7.2).
An answer that contradicts it, because a clock was set, takes its place.
`tidegate_redis_clock_offset_seconds` and `tidegate_redis_clock_error_seconds` say what came of it.

What cannot be told is counted by `tidegate_latency_unmeasured_total`:
`no_clock` where `TIME` is not answered (an ACL user needs `+time`),
`not_a_time` for ids in the future or older than a day, which a backend chose itself.

`tidegate_publish_to_viewer_seconds` ends when a viewer's answer to an `ack_request` is here.
It holds the way back as well: it is an upper bound of what the viewer saw.
Only viewers that offer it are asked ([protocol](protocol.md)),
at most two of them a second on a replica.

A bucket of the first may carry an exemplar: the `trace_id` of an entry that was traced, also of one
that is not in the sample.

## What it costs

Nothing is locked, and nothing formatted before a scrape.
The latency to the socket is taken once for each entry and turn of the loop, weighted by the viewers
written to. Above 500 of these a second one in eight is taken, at random, and counts for eight;
as soon as they are fewer each is taken again.
The lag of dispatch is taken every 10 ms at the most.

`make bench ARGS="-s 1000x1 --rounds 12 --seconds 15 --no-baseline --without-metrics"`
plays a replica with and one without in turns, scrapes the first as it is measured, once in 15 s,
and compares the CPU per delivery round by round.
On a virtual machine of 2 cores (AMD EPYC):

| scenario | rounds | with / without, median | lowest to highest |
|---|---|---|---|
| `1000x1` | 12 of 15 s | 1.027 | 0.975 to 1.048 |
| | 12 of 15 s, again | 1.029 | 0.978 to 1.090 |
| | 14 of 15 s, real-time priority | 1.022 | 0.976 to 1.067 |
| `200x10` | 8 of 15 s, other programs on the machine | 0.990 | 0.828 to 1.089 |

So it is 2 to 3 % for `1000x1`, where each entry has one viewer and wakes the process up;
for `200x10` the difference is lost in the noise.
When each delivery was timed, four runs of it gave 1.022 to 1.071.
A scrape takes 6 ms of a quiet replica.
`metrics.enabled` set to false leaves out all of it but plain counters, and `/metrics`.

## What a replica tells the operator

At each renewal of its lease (every 5 s) a replica writes these fields
into the hash `{tidegate}:pod:<incarnation>`:

| field | what |
|---|---|
| `pod` | Its name. |
| `started` | When it took its first lease, in ms of Redis' clock. |
| `connections` | Open connections. |
| `deliveries_per_s` | Frames written to live viewers since the last renewal, per second. |
| `loop_lag_ms` | Mean lateness of the event loop's timers since the last renewal. |
| `undispatched` | Entries known to wait for dispatch, as `tidegate_undispatched_entries`. |
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
        yield "| metric | kind | label | what |"
        yield "|---|---|---|---|"
        yield from map(_row, rows)
        yield ""
    yield _TAIL


def _row(row: Row) -> str:
    label = ""
    if row.label is not None:
        label = f"`{row.label}`"
        if row.values:
            label += ": " + ", ".join(f"`{value}`" for value in row.values)
    text = row.help
    if row.kind is Kind.HISTOGRAM:
        bounds = f"{row.bounds[0]:g} to {row.bounds[-1]:,g}"
        text += f" {len(row.bounds)} buckets, {bounds}."
    return f"| `{row.name}` | {row.kind.value} | {label} | {text} |"


if __name__ == "__main__":
    sys.stdout.write(metrics_page())
