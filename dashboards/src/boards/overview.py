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
    description="Health, traffic, errors, latency and saturation of the gateway.",
    rows=(
        Row(
            "Health",
            (
                number(
                    "Replicas ready",
                    "Replicas whose /readyz answers 200. Fewer than expected: see the reason in "
                    "/readyz of the missing replica; it is Redis or a drain.",
                    Query(total("tidegate_ready")),
                    limits=below(2, 1),
                ),
                number(
                    "Redis connections down",
                    "Connections to primaries that are down, over all replicas. Viewers stay "
                    "connected and receive `stale`, but no new entries. Runbook: "
                    "TidegateRedisAway.",
                    Query(f"sum({select('tidegate_redis_connected')} == bool 0)"),
                    limits=above(None, 1),
                ),
                within_objective(),
                number(
                    "Publish to socket, p99",
                    "99 of 100 deliveries took at most this long from XADD to the socket. Above "
                    "250 ms, open the Delivery board to see which stage is slow.",
                    Query(quantile(0.99, "tidegate_publish_to_socket_seconds")),
                    unit="s",
                    limits=above(0.25, 1),
                ),
                number(
                    "Connections",
                    "Open connections of viewers of all kinds. A sudden drop is an outage in "
                    "front of the gateway, or a drain: see board Drain and scaling.",
                    Query(total("tidegate_connections")),
                    decimals=0,
                ),
                number(
                    "Gap frames",
                    "Gap frames sent to viewers in the last hour: entries may be missing for "
                    "them. If there are any, see the reasons below; `trimmed` means that streams "
                    "are too short.",
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
                    "Entries accepted by replicas, and frames written to live viewers. Entries "
                    "without deliveries: no viewers. Both at 0 while backends publish: change "
                    "notifications or Redis; see board Redis.",
                    Query(rate("tidegate_entries_total"), "entries"),
                    Query(rate("tidegate_deliveries_total"), "deliveries"),
                    unit="ops",
                ),
                graph(
                    "Bytes to viewers",
                    "Bytes of frames written to live viewers. Compare with the network bandwidth "
                    "of the nodes; near it, viewers begin to lag: add replicas on other nodes.",
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
                    "Time from XADD to a viewer's acknowledgement, sampled: the latency that "
                    "users see plus the return path. Much higher than publish to socket: the "
                    "viewers' network or browsers, which the gateway cannot influence.",
                    *(
                        Query(quantile(q, "tidegate_publish_to_viewer_seconds"), name)
                        for q, name in ((0.5, "p50"), (0.99, "p99"))
                    ),
                    unit="s",
                    logarithmic=True,
                ),
                graph(
                    "Redis round trip, p99",
                    "Round trip of the TIME command, once a second: Redis, the network and the "
                    "event loop of the replica. All replicas slow: Redis (SLOWLOG, CPU). One "
                    "replica slow: that replica.",
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
                    "CPU seconds per second; a replica is one event loop and cannot use more than "
                    "1. Above 0.7, add replicas before the latency rises.",
                    Query(
                        of_replicas(f"rate(process_cpu_seconds_total{{{SELECTED}}}[{WINDOW}])"),
                        REPLICA_LEGEND,
                    ),
                    limits=above(0.7, 0.9),
                ),
                graph(
                    "Memory",
                    "Resident memory. About 18 KiB per idle connection, plus the replay buffers "
                    "(topic.total_ring_bytes). Growth at a constant number of connections is a "
                    "leak: save /debug/state and report it.",
                    Query(of_replicas(select("process_resident_memory_bytes")), REPLICA_LEGEND),
                    unit="bytes",
                    width=6,
                ),
                graph(
                    "Memory of the container in use",
                    "Relative to the container's limit; 0 without one. From 0.8 on a "
                    "replica refuses new viewers, then it drops replay buffers, then it closes "
                    "viewers: raise the limit, or add replicas.",
                    Query(
                        of_replicas(
                            f"{select('tidegate_memory_used_bytes')} / "
                            f"clamp_min({select('tidegate_memory_limit_bytes')}, 1)"
                        ),
                        REPLICA_LEGEND,
                    ),
                    unit="percentunit",
                    limits=above(0.75, 0.8),
                    width=6,
                ),
                graph(
                    "File descriptors in use",
                    "Open file descriptors relative to the limit. Near 1 new connections fail: "
                    "raise the limit of the container, or lower replica.max_connections.",
                    Query(
                        of_replicas(f"{select('process_open_fds')} / {select('process_max_fds')}"),
                        REPLICA_LEGEND,
                    ),
                    unit="percentunit",
                    limits=above(0.7, 0.9),
                    width=6,
                ),
                graph(
                    "Versions",
                    "Replicas by version. More than one for longer than a rollout takes: the "
                    "rollout is stuck; see its events.",
                    Query(f"count by (version) ({select('tidegate_build_info')})", "{{version}}"),
                    stacked=True,
                    width=6,
                ),
            ),
        ),
    ),
)
