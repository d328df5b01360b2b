"""Replicas that come and go: readiness, drains, where viewers go, and what a replica can bear."""

from __future__ import annotations

from dashboards.src.board import Board, Row
from dashboards.src.boards.shared import (
    connections_share,
    loop_lag,
    of_replicas,
    undispatched,
)
from dashboards.src.panels import Query, above, below, graph, number
from dashboards.src.queries import (
    REPLICA,
    REPLICA_LEGEND,
    highest,
    rate,
    select,
    total,
)

DRAIN = Board(
    name="drain",
    title="Tidegate / Drain and scaling",
    description="Readiness, drains and the wave of reconnects, and the signals for scaling.",
    rows=(
        Row(
            "Now",
            (
                number(
                    "Replicas ready",
                    "Replicas to which viewers may be sent. Below what is wanted for longer than a "
                    "rollout takes: the events of the pods.",
                    Query(total("tidegate_ready")),
                    decimals=0,
                    limits=below(2, 1),
                ),
                number(
                    "Draining",
                    "Replicas that are leaving. More than one outside of a rollout: evictions, or "
                    "a scale-down of several at once.",
                    Query(total("tidegate_draining")),
                    decimals=0,
                    limits=above(2),
                ),
                number(
                    "Longest drain, share of its window",
                    "Time since a drain began over the time it may take. Above 1: it is late, and "
                    "Kubernetes kills it at the end of the grace period. Runbook: "
                    "TidegateDrainSlow.",
                    Query(
                        f"max({select('tidegate_drain_elapsed_seconds')}"
                        f" / {select('tidegate_drain_window_seconds')})"
                    ),
                    unit="percentunit",
                    limits=above(1, 1.5),
                ),
                number(
                    "Sent away per second",
                    "Connections told to come back elsewhere. It should be level over a drain's "
                    "window; a peak means that the window is too short for the connections.",
                    Query(rate("tidegate_moved_connections_total")),
                    unit="ops",
                ),
                number(
                    "Connections per ready replica",
                    "What scaling looks at first. Compare with the target of the Gateway resource; "
                    "above it replicas should be on their way.",
                    Query(f"{total('tidegate_connections')} / {total('tidegate_ready')}"),
                    decimals=0,
                ),
                number(
                    "Fullest over mean",
                    "Connections of the fullest replica over the mean. Above 1.3 shedding moves "
                    "some, if it is on; lasting: the load balancer.",
                    Query(
                        f"max({total('tidegate_connections', by=REPLICA)})"
                        f" / avg({total('tidegate_connections', by=REPLICA)})"
                    ),
                    decimals=2,
                    limits=above(1.5, 3),
                ),
            ),
        ),
        Row(
            "Coming and going",
            (
                graph(
                    "Ready and draining",
                    "Replicas by what they are. In a rollout one drains while its successor is "
                    "ready already; ready falling first: maxUnavailable is not 0.",
                    Query(total("tidegate_ready"), "ready"),
                    Query(total("tidegate_draining"), "draining"),
                ),
                graph(
                    "Drains",
                    "Time since the drain began, and the window it has. Beyond its window: "
                    "connections that do not close; see server.shutdown_timeout_s.",
                    Query(highest("tidegate_drain_elapsed_seconds", by=REPLICA), REPLICA_LEGEND),
                    Query(highest("tidegate_drain_window_seconds"), "window"),
                    unit="s",
                ),
                graph(
                    "Sent away, by reason",
                    "Connections told to come back: by a drain, or to rebalance after a scale-up. "
                    "Rebalancing that never ends: two replicas push viewers to and fro.",
                    Query(rate("tidegate_moved_connections_total", by=("reason",)), "{{reason}}"),
                    unit="ops",
                ),
                graph(
                    "Connections by replica",
                    "Where viewers are. A drained replica's go to the others within seconds; lost "
                    "ones did not come back: see refusals on Connections and limits.",
                    Query(total("tidegate_connections", by=REPLICA), REPLICA_LEGEND),
                    stacked=True,
                ),
                graph(
                    "Opened per second by replica",
                    "The wave of reconnects. Above what replica.connects_per_s lets in, viewers "
                    "are refused and come again: spread the drain over a longer window.",
                    Query(rate("tidegate_connections_opened_total", by=REPLICA), REPLICA_LEGEND),
                    unit="ops",
                ),
                graph(
                    "Time since start",
                    "A line that falls to 0 is a restart. Outside of a rollout: the reason of the "
                    "last state of the pod (OOMKilled, liveness).",
                    Query(
                        of_replicas(f"time() - {select('process_start_time_seconds')}"),
                        REPLICA_LEGEND,
                    ),
                    unit="s",
                ),
            ),
        ),
        Row(
            "Signals for scaling",
            (
                connections_share(),
                graph(
                    "Deliveries by replica",
                    "Frames per second. One loop writes a hundred thousand small ones; above half "
                    "of what you have measured, add replicas.",
                    Query(rate("tidegate_deliveries_total", by=REPLICA), REPLICA_LEGEND),
                    unit="ops",
                ),
                undispatched(),
                loop_lag(),
                graph(
                    "Time in garbage collection",
                    "Share of the time in which the collector stood in the way, by generation. "
                    "Much in generation 2 means many short-lived connections with state; more, "
                    "smaller replicas help.",
                    Query(
                        rate("tidegate_gc_pause_seconds_sum", by=(*REPLICA, "generation")),
                        f"{REPLICA_LEGEND} generation {{{{generation}}}}",
                    ),
                    unit="percentunit",
                    limits=above(0.02, 0.1),
                ),
                graph(
                    "Spans dropped",
                    "Spans of traces that were not exported: the collector is away or slow. "
                    "Viewers are not harmed; mend the collector or sample less.",
                    Query(rate("tidegate_spans_dropped_total", by=REPLICA), REPLICA_LEGEND),
                    unit="ops",
                ),
            ),
        ),
    ),
)
