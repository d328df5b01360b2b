"""Replicas that start and stop: readiness, drains, reconnects, and the signals for scaling."""

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
    increase,
    rate,
    select,
    total,
)

DRAIN = Board(
    name="drain",
    title="Tidegate / Drain and scaling",
    description="Readiness, drains and the reconnects that follow, and the signals for scaling.",
    rows=(
        Row(
            "Now",
            (
                number(
                    "Replicas ready",
                    "Replicas that accept viewers. Fewer than desired for longer than a rollout "
                    "takes: see the events of the pods.",
                    Query(total("tidegate_ready")),
                    decimals=0,
                    limits=below(2, 1),
                ),
                number(
                    "Draining",
                    "Replicas that are draining. More than one outside of a rollout: evictions, "
                    "or a scale-down by several pods at once.",
                    Query(total("tidegate_draining")),
                    decimals=0,
                    limits=above(2),
                ),
                number(
                    "Longest drain relative to its window",
                    "Time since a drain began divided by the time allowed for it. Above 1 it is "
                    "late, and Kubernetes kills the pod at the end of the grace period. Runbook: "
                    "TidegateDrainSlow.",
                    Query(
                        f"max({select('tidegate_drain_elapsed_seconds')}"
                        f" / {select('tidegate_drain_window_seconds')})"
                    ),
                    unit="percentunit",
                    limits=above(1, 1.5),
                ),
                number(
                    "Reconnects requested per second",
                    "Connections asked to reconnect to another replica. The rate should be "
                    "constant over the window of a drain; a peak means that the window is too "
                    "short for the number of connections.",
                    Query(rate("tidegate_moved_connections_total")),
                    unit="ops",
                ),
                number(
                    "Connections per ready replica",
                    "The primary signal for scaling. Compare with the target in the Gateway "
                    "resource; above it, more replicas should be starting.",
                    Query(f"{total('tidegate_connections')} / {total('tidegate_ready')}"),
                    decimals=0,
                ),
                number(
                    "Largest relative to the mean",
                    "Connections of the fullest replica divided by the mean. Above 1.15, "
                    "rebalancing moves some, if it is enabled; if the imbalance lasts, check the "
                    "load balancer.",
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
            "Rollouts and drains",
            (
                graph(
                    "Ready and draining",
                    "Replicas by state. In a rollout one drains while its successor is already "
                    "ready; if the number of ready replicas falls first, maxUnavailable is not 0.",
                    Query(total("tidegate_ready"), "ready"),
                    Query(total("tidegate_draining"), "draining"),
                ),
                graph(
                    "Drains",
                    "Time since the drain began, and its window. Beyond the window: connections "
                    "that do not close; see server.shutdown_timeout_s.",
                    Query(highest("tidegate_drain_elapsed_seconds", by=REPLICA), REPLICA_LEGEND),
                    Query(highest("tidegate_drain_window_seconds"), "window"),
                    unit="s",
                ),
                graph(
                    "Reconnects requested, by reason",
                    "Connections asked to reconnect, by a drain or to rebalance after a scale-up. "
                    "Rebalancing that does not end: the load balancer sends viewers back to full "
                    "replicas.",
                    Query(rate("tidegate_moved_connections_total", by=("reason",)), "{{reason}}"),
                    unit="ops",
                ),
                graph(
                    "Connections by replica",
                    "Connections of each replica. Those of a drained replica move to the others "
                    "within seconds; missing ones did not reconnect: see the refusals on board "
                    "Connections and limits.",
                    Query(total("tidegate_connections", by=REPLICA), REPLICA_LEGEND),
                    stacked=True,
                ),
                graph(
                    "Opened per second by replica",
                    "Accepted connections, including reconnects. Above replica.connects_per_s "
                    "viewers are refused and retry: spread the drain over a longer window.",
                    Query(rate("tidegate_connections_opened_total", by=REPLICA), REPLICA_LEGEND),
                    unit="ops",
                ),
                graph(
                    "Time since start",
                    "Time since the process started; a drop to 0 is a restart. Outside of a "
                    "rollout, check the reason in the last state of the pod (OOMKilled, liveness "
                    "probe).",
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
                    "Frames per second. One event loop writes about a hundred thousand small "
                    "frames per second; above half of what you have measured, add replicas.",
                    Query(rate("tidegate_deliveries_total", by=REPLICA), REPLICA_LEGEND),
                    unit="ops",
                ),
                undispatched(),
                loop_lag(),
                graph(
                    "Time in garbage collection",
                    "Share of time that the process is paused for garbage collection, by "
                    "generation. Much in generation 2 means many short-lived connections with "
                    "state; more, smaller replicas help.",
                    Query(
                        rate("tidegate_gc_pause_seconds_sum", by=(*REPLICA, "generation")),
                        f"{REPLICA_LEGEND} generation {{{{generation}}}}",
                    ),
                    unit="percentunit",
                    limits=above(0.02, 0.1),
                ),
                graph(
                    "Spans dropped",
                    "Trace spans that were not exported: the collector is unavailable or slow. "
                    "Viewers are not affected; fix the collector or sample less.",
                    Query(rate("tidegate_spans_dropped_total", by=REPLICA), REPLICA_LEGEND),
                    unit="ops",
                ),
                graph(
                    "Workers",
                    "Worker processes that serve, and those that were replaced: 1 and none unless "
                    "server.workers is set. If it stays below server.workers for more than a few "
                    "seconds, a worker does not start: see the log. Runbook: "
                    "TidegateWorkerRestarts.",
                    Query(total("tidegate_workers", by=REPLICA), REPLICA_LEGEND),
                    Query(
                        increase("tidegate_worker_restarts_total", by=REPLICA),
                        f"{REPLICA_LEGEND} replaced",
                    ),
                    width=24,
                ),
            ),
        ),
    ),
)
