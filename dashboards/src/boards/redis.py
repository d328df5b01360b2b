"""The connections to Redis: state, latency, clocks and the kind of change notification in use."""

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
    description="Connections from replicas to Redis: state, change notifications, round trip, "
    "clocks, commands.",
    rows=(
        Row(
            "Now",
            (
                number(
                    "Connections up",
                    "Connections to primaries that are up. Expected: replicas times primaries. "
                    "Fewer: see the events, then the network and Redis itself.",
                    Query(total("tidegate_redis_connected")),
                    decimals=0,
                ),
                number(
                    "Connections down",
                    "Connections to primaries that are down. Viewers of streams on these "
                    "primaries receive `stale`. Runbook: TidegateRedisAway.",
                    Query(f"sum({select('tidegate_redis_connected')} == bool 0)"),
                    decimals=0,
                    limits=above(None, 1),
                ),
                number(
                    "Change notifications degraded",
                    "Connections that detect new entries by keyspace notifications or by polling, "
                    "because CLIENT TRACKING is not allowed. This is slower and costs Redis more. "
                    "Runbook: TidegateDoorbellDegraded.",
                    Query(total("tidegate_redis_doorbell", 'doorbell!="tracking"')),
                    decimals=0,
                    limits=above(1),
                ),
                number(
                    "Round trip, p99",
                    "99 % of TIME calls were faster. Above 50 ms every viewer is affected: check "
                    "SLOWLOG, the CPU of Redis and the network.",
                    Query(quantile(0.99, "tidegate_redis_round_trip_seconds")),
                    unit="s",
                    limits=above(0.05, 0.25),
                ),
                number(
                    "Worst clock error",
                    "Upper bound of the error of the clock offsets; latencies cannot be measured "
                    "more precisely than this. A large value comes from slow round trips.",
                    Query(highest("tidegate_redis_clock_error_seconds")),
                    unit="s",
                    limits=above(0.05, 0.5),
                ),
                number(
                    "Streams waiting to attach",
                    "Streams waiting to be attached after a reconnect or a failover. It should "
                    "fall to 0 within seconds; otherwise Redis is too slow.",
                    Query(total("tidegate_redis_attach_backlog")),
                    decimals=0,
                    limits=above(1_000, 20_000),
                ),
            ),
        ),
        Row(
            "Connections",
            (
                graph(
                    "Connected",
                    "1 for each connection that is up. 0 for one replica: its network. 0 for one "
                    "primary on all replicas: that server, or a failover in progress.",
                    Query(select("tidegate_redis_connected"), _PRIMARY_LEGEND),
                    width=6,
                ),
                graph(
                    "Connection events",
                    "Events on the connections to Redis. `connect_failures`, `reply_timeouts`: "
                    "unavailable or overloaded. `error_demoted`, `error_moved`: a failover or "
                    "resharding. `error_forbidden`: the ACL user lacks a command; the log names "
                    "it. `buffer_cuts`: Redis closed the connection because its output buffer was "
                    "full.",
                    Query(rate("tidegate_redis_events_total", by=("event",)), "{{event}}"),
                    unit="ops",
                    width=6,
                ),
                graph(
                    "Commands refused",
                    "Commands that replicas need and the Redis ACL refuses, by purpose. The log "
                    "and /readyz name them; docs/protocol.md has the complete ACL.",
                    Query(total("tidegate_redis_refused_commands", by=("area",)), "{{area}}"),
                    stacked=True,
                    width=6,
                ),
                graph(
                    "Change notifications in use",
                    "Connected primaries, by the kind of change notification in use. For anything "
                    "but `tracking`, the log has the reason at connect; usually an ACL without "
                    "+client|tracking.",
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
                    "Round trip of the TIME command, once a second. Slow calls at regular "
                    "intervals come from snapshots (fork) or from a cron job that runs KEYS.",
                    Query(buckets("tidegate_redis_round_trip_seconds")),
                    width=8,
                ),
                graph(
                    "Round trip by primary, p99",
                    "One primary slow: its load or its slow commands. All primaries slow from one "
                    "replica: the event loop of that replica.",
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
                    "Clock of a primary minus the clock of the replica. Latencies are corrected "
                    "by it, but entry ids use the clock of the primary: above one second, fix NTP "
                    "there.",
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
                    "Streams led",
                    "Streams that the replica dispatches without waiting for other replicas. With "
                    "several replicas on the same operations, one leads each stream; all leading "
                    "all streams is a race that doubles the load on Redis.",
                    Query(total("tidegate_redis_streams_leading", by=REPLICA), REPLICA_LEGEND),
                ),
                graph(
                    "Streams waiting to attach",
                    "Attaches are rate-limited after a reconnect. A falling line is expected; a "
                    "plateau means that attaches fail: see the events.",
                    Query(total("tidegate_redis_attach_backlog", by=REPLICA), REPLICA_LEGEND),
                ),
                graph(
                    "Scripts and pages",
                    "Calls of the dispatch script and pages read, by replica: most of the load on "
                    "Redis. A rise without more entries: replicas compete, or repairs; see board "
                    "Delivery.",
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
