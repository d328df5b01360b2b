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
It ends when the frame was given to the socket of a live viewer, and counts each viewer.
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
at most `metrics.acks_per_s` of them a second on a replica.

A bucket of the first may carry an exemplar: the `trace_id` of an entry that was traced.

## What it costs

Nothing is locked, and nothing formatted before a scrape.
Latency is observed once per entry and turn of the loop, weighted by the viewers written to.
With all of it an entry with one viewer takes 1.1 to 1.4 us longer on its way through the process,
one with ten viewers 0.7 to 0.9 us
(1,000 viewers, from relay message to write, best of 100 and 200 rounds; three runs of the same code
with and without).
Of the CPU per delivery in the bench (`1000x1`: 62 us, `200x10`: 22 us) that is 2.2 % and 0.4 %.
The bench measures more.
`make bench ARGS="-s 1000x1 -s 200x10 --rounds 8 --seconds 6 --no-baseline --without-metrics"`
plays both in turns, scrapes the one as it is measured, and compares them round by round.
On a virtual machine of 2 cores (AMD EPYC), on which other programs took up to half a core:

| scenario | rounds | with / without, median | lowest to highest |
|---|---|---|---|
| `1000x1` | 6 of 5 s, a scrape every 5 s | 1.042 | 1.024 to 1.058 |
| | 5 of 15 s, a scrape every 15 s | 1.022 | 1.013 to 1.064 |
| | 8 of 6 s, one scrape | 1.071 | 1.012 to 1.224 |
| | 14 of 6 s, one scrape, real-time priority | 1.046 | 0.991 to 1.228 |
| `200x10` | 6 of 5 s, a scrape every 5 s | 1.002 | 0.913 to 1.074 |
| | 5 of 15 s, a scrape every 15 s | 1.050 | 1.020 to 1.111 |
| | 8 of 6 s, one scrape | 0.988 | 0.916 to 1.126 |

So the goal of 3 % is not shown for `1000x1`, where each entry has one viewer:
four runs of the same code say 2, 4, 5 and 7 %. For `200x10` the difference is lost in the noise.
A scrape takes 6 ms of a quiet replica.
What did not help: to note latencies and count them later, many at once (1.050);
to observe one write in seven above 500 a second (1.057, and 1.025 without scrapes);
without any timing of deliveries it was 1.010.
`metrics.enabled` set to false leaves out all of it but plain counters, and `/metrics`.

## What a replica tells the operator

At each renewal of its lease (`slots.renew_s`) a replica writes these fields
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
