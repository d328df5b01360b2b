"""The links to Redis: up, quick, in time, and rung by the doorbell that was meant."""

from __future__ import annotations

from dashboards.src.board import Board, Row
from dashboards.src.panels import Query, above, graph, heat, number
from dashboards.src.queries import (
    REPLICA,
    REPLICA_LEGEND,
    buckets,
    highest,
    quantile,
    rate,
    select,
    total,
)

_NODE_LEGEND = "{{node}}"
_PRIMARY_LEGEND = f"{REPLICA_LEGEND} to {_NODE_LEGEND}"

REDIS = Board(
    name="redis",
    title="Tidegate / Redis",
    description="The replicas' links to Redis: connection, doorbell, round trip, clocks, commands.",
    rows=(
        Row(
            "Now",
            (
                number(
                    "Links up",
                    "Links to primaries that are connected. It should be replicas times "
                    "primaries; fewer: see the events, then the network and Redis itself.",
                    Query(total("tidegate_redis_connected")),
                    decimals=0,
                ),
                number(
                    "Links down",
                    "Links that are not connected. Viewers of streams there are told `stale`. "
                    "Runbook: TidegateRedisAway.",
                    Query(f"sum({select('tidegate_redis_connected')} == bool 0)"),
                    decimals=0,
                    limits=above(None, 1),
                ),
                number(
                    "Doorbells degraded",
                    "Links that notice growth by keyspace notifications or by polling, because "
                    "CLIENT TRACKING is not allowed. Slower and dearer. Runbook: "
                    "TidegateDoorbellDegraded.",
                    Query(total("tidegate_redis_doorbell", 'doorbell!="tracking"')),
                    decimals=0,
                    limits=above(1),
                ),
                number(
                    "Round trip, p99",
                    "99 % of TIME calls were faster. Above 50 ms every viewer feels it: SLOWLOG, "
                    "Redis' CPU, the network between.",
                    Query(quantile(0.99, "tidegate_redis_round_trip_seconds")),
                    unit="s",
                    limits=above(0.05, 0.25),
                ),
                number(
                    "Worst clock error",
                    "Bound of the error of the clock offsets; latencies cannot be told more "
                    "exactly than this. Large: slow round trips.",
                    Query(highest("tidegate_redis_clock_error_seconds")),
                    unit="s",
                    limits=above(0.05, 0.5),
                ),
                number(
                    "Streams to attach",
                    "Streams that wait to be attached, after a reconnect or a failover. It should "
                    "fall to 0 within seconds; if not, Redis is too slow for it.",
                    Query(total("tidegate_redis_attach_backlog")),
                    decimals=0,
                    limits=above(1_000, 20_000),
                ),
            ),
        ),
        Row(
            "Links",
            (
                graph(
                    "Connected",
                    "1 for each link that is up. One replica's at 0: its network. All of a node: "
                    "that Redis, or a failover in progress.",
                    Query(select("tidegate_redis_connected"), _PRIMARY_LEGEND),
                    width=6,
                ),
                graph(
                    "Events on the links",
                    "What happened on the links. `connect_failures`, `reply_timeouts`: away or "
                    "overloaded. `error_demoted`, `error_moved`: a failover or resharding. "
                    "`error_forbidden`: the ACL user lacks a command; the log names it. "
                    "`buffer_cuts`: Redis ended the link for its output buffer.",
                    Query(rate("tidegate_redis_events_total", by=("event",)), "{{event}}"),
                    unit="ops",
                    width=6,
                ),
                graph(
                    "Commands refused",
                    "Commands that replicas need and the ACL of Redis does not allow, by what they "
                    "are for. The log and /readyz name them; docs/protocol.md has the ACL in full.",
                    Query(total("tidegate_redis_refused_commands", by=("area",)), "{{area}}"),
                    stacked=True,
                    width=6,
                ),
                graph(
                    "Doorbells in use",
                    "Connected primaries by how growth is noticed. Anything but `tracking`: the "
                    "log says why at connect; most often an ACL without +client|tracking.",
                    Query(total("tidegate_redis_doorbell", by=("doorbell",)), "{{doorbell}}"),
                    stacked=True,
                    width=6,
                ),
            ),
        ),
        Row(
            "Round trip and clocks",
            (
                heat(
                    "Round trip",
                    "TIME on the link, once a second. Bursts of slow ones at regular times are "
                    "snapshots (fork) or a cron job with KEYS.",
                    Query(buckets("tidegate_redis_round_trip_seconds")),
                    width=8,
                ),
                graph(
                    "Round trip by primary, p99",
                    "One primary slow: its load or its slow commands. All slow on one replica: "
                    "that replica's loop.",
                    Query(
                        quantile(0.99, "tidegate_redis_round_trip_seconds", by=("node",)),
                        _NODE_LEGEND,
                    ),
                    unit="s",
                    limits=above(0.05, 0.25),
                    logarithmic=True,
                ),
                graph(
                    "Clock offset",
                    "A primary's clock minus the replica's. Latencies are corrected by it, but "
                    "entry ids are of the primary's clock: above a second mend NTP there.",
                    Query(select("tidegate_redis_clock_offset_seconds"), _PRIMARY_LEGEND),
                    unit="s",
                    signed=True,
                ),
            ),
        ),
        Row(
            "Work",
            (
                graph(
                    "Streams whose rings are answered at once",
                    "Streams for which the replica leads the dispatch. With several replicas on "
                    "the same operations one leads each; all leading all is a race that costs "
                    "Redis twice.",
                    Query(total("tidegate_redis_streams_leading", by=REPLICA), REPLICA_LEGEND),
                ),
                graph(
                    "Streams that wait to be attached",
                    "Paced after a reconnect. Falling is right; a plateau means that attaches "
                    "fail: see the events.",
                    Query(total("tidegate_redis_attach_backlog", by=REPLICA), REPLICA_LEGEND),
                ),
                graph(
                    "Scripts and pages",
                    "Calls of the dispatch script and pages read, by replica: most of what we cost "
                    "Redis. Rising without more entries: replicas race, or repairs; see Delivery.",
                    Query(
                        rate("tidegate_dispatch_calls_total", by=REPLICA),
                        f"dispatch {REPLICA_LEGEND}",
                    ),
                    Query(rate("tidegate_log_pages_total", by=REPLICA), f"pages {REPLICA_LEGEND}"),
                    unit="ops",
                ),
            ),
        ),
    ),
)
