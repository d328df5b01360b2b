"""The first board to open: traffic, errors, latency and saturation."""

from __future__ import annotations

from dashboards.src.board import Board, Row
from dashboards.src.boards.shared import (
    closes,
    connections_by_kind,
    connections_share,
    gap_frames,
    latency_quantiles,
    loop_lag,
    of_replicas,
    refusals,
    within_objective,
)
from dashboards.src.panels import Query, above, below, graph, number
from dashboards.src.queries import (
    REPLICA,
    REPLICA_LEGEND,
    SELECTED,
    WINDOW,
    quantile,
    rate,
    select,
    total,
)

OVERVIEW = Board(
    name="overview",
    title="Tidegate / Overview",
    description="Is it healthy? Traffic, errors, latency and saturation of the gateway.",
    rows=(
        Row(
            "Is it healthy?",
            (
                number(
                    "Replicas ready",
                    "Replicas that say on /readyz that viewers may come. Less than you run: look "
                    "at the reason in /readyz of the one that is missing; it is Redis, or a drain.",
                    Query(total("tidegate_ready")),
                    limits=below(2, 1),
                ),
                number(
                    "Redis links down",
                    "Links to primaries that are not connected, over all replicas. Viewers stay "
                    "and are told `stale`; nothing new reaches them. Runbook: TidegateRedisAway.",
                    Query(f"sum({select('tidegate_redis_connected')} == bool 0)"),
                    limits=above(None, 1),
                ),
                within_objective(),
                number(
                    "Publish to socket, p99",
                    "99 of 100 deliveries took less than this from XADD to the socket. Above a "
                    "quarter of a second: open the Delivery board and see which part is slow.",
                    Query(quantile(0.99, "tidegate_publish_to_socket_seconds")),
                    unit="s",
                    limits=above(0.25, 1),
                ),
                number(
                    "Connections",
                    "Open connections of viewers, all kinds. A sudden fall is an outage in front "
                    "of the gateway, or a drain: see Drain and scaling.",
                    Query(total("tidegate_connections")),
                    decimals=0,
                ),
                number(
                    "Gap frames",
                    "Gaps told to viewers in the last hour: entries may be missing for them. Any: "
                    "see the reasons below; `trimmed` means streams are too short.",
                    Query(f"sum(increase({select('tidegate_gap_frames_total')}[1h]))"),
                    decimals=0,
                    limits=above(1, 100),
                ),
            ),
        ),
        Row(
            "Traffic",
            (
                connections_by_kind(),
                graph(
                    "Entries and deliveries",
                    "Entries that replicas took up, and frames written to live viewers. Entries "
                    "without deliveries: nobody watches. Both at 0 while backends publish: the "
                    "doorbell or Redis; see the Redis board.",
                    Query(rate("tidegate_entries_total"), "entries"),
                    Query(rate("tidegate_deliveries_total"), "deliveries"),
                    unit="ops",
                ),
                graph(
                    "Bytes to viewers",
                    "Bytes of frames written to live viewers. Compare with the network of the "
                    "nodes; close to it, viewers begin to lag: add replicas on other nodes.",
                    Query(rate("tidegate_delivered_bytes_total", by=REPLICA), REPLICA_LEGEND),
                    unit="Bps",
                    stacked=True,
                ),
            ),
        ),
        Row("Errors", (refusals(), closes(), gap_frames())),
        Row(
            "Latency",
            (
                latency_quantiles(),
                graph(
                    "Publish to viewer",
                    "From XADD to a viewer's acknowledgement, sampled: what people see, and the "
                    "way back. Much above publish to socket: the network of the viewers, or their "
                    "browsers; nothing here helps.",
                    *(
                        Query(quantile(q, "tidegate_publish_to_viewer_seconds"), name)
                        for q, name in ((0.5, "p50"), (0.99, "p99"))
                    ),
                    unit="s",
                    logarithmic=True,
                ),
                graph(
                    "Redis round trip, p99",
                    "A TIME on the link, once a second: Redis, the network and the replica's "
                    "loop. All replicas slow: Redis (SLOWLOG, its CPU). One: that replica.",
                    Query(
                        quantile(0.99, "tidegate_redis_round_trip_seconds", by=REPLICA),
                        REPLICA_LEGEND,
                    ),
                    unit="s",
                    limits=above(0.05, 0.25),
                    logarithmic=True,
                ),
            ),
        ),
        Row(
            "Saturation",
            (
                connections_share(),
                loop_lag(),
                graph(
                    "CPU",
                    "CPU seconds per second; a replica is one event loop, so 1 is all it can have. "
                    "Above 0.7: more replicas, before latency tells you.",
                    Query(
                        of_replicas(f"rate(process_cpu_seconds_total{{{SELECTED}}}[{WINDOW}])"),
                        REPLICA_LEGEND,
                    ),
                    limits=above(0.7, 0.9),
                ),
                graph(
                    "Memory",
                    "Resident memory. About 18 KiB per idle connection, and the rings "
                    "(topic.total_ring_bytes). Growth at constant connections is a leak: keep "
                    "/debug/state and report it.",
                    Query(of_replicas(select("process_resident_memory_bytes")), REPLICA_LEGEND),
                    unit="bytes",
                ),
                graph(
                    "File descriptors in use",
                    "Share of the limit of open files. Near 1 nobody can connect any more: raise "
                    "the limit of the container, or lower replica.max_connections.",
                    Query(
                        of_replicas(f"{select('process_open_fds')} / {select('process_max_fds')}"),
                        REPLICA_LEGEND,
                    ),
                    unit="percentunit",
                    limits=above(0.7, 0.9),
                ),
                graph(
                    "Versions",
                    "Replicas by version. More than one for longer than a rollout takes: the "
                    "rollout is stuck; see its events.",
                    Query(f"count by (version) ({select('tidegate_build_info')})", "{{version}}"),
                    stacked=True,
                ),
            ),
        ),
    ),
)
