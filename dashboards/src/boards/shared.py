"""Panels that appear on more than one board."""

from __future__ import annotations

from dashboards.src.panels import Panel, Query, above, below, graph, number
from dashboards.src.queries import (
    REPLICA,
    REPLICA_LEGEND,
    highest,
    quantile,
    rate,
    select,
    total,
)

#: The delivery objective, as in dashboards/rules: 99 % of deliveries within this bucket.
OBJECTIVE_LE = "0.25"


def of_replicas(expr: str) -> str:
    """A metric that every program has (`process_...`), of our replicas only."""
    replicas = select("tidegate_build_info")
    return f"sum by ({', '.join(REPLICA)}) ({expr} and on (job, instance) {replicas})"


def within_objective() -> Panel:
    """The share of deliveries within the objective, over the range of the board."""
    histogram = "tidegate_publish_to_socket_seconds"
    within = select(f"{histogram}_bucket", f'le="{OBJECTIVE_LE}"')
    good = f"sum(increase({within}[$__range]))"
    every = f"sum(increase({select(f'{histogram}_count')}[$__range]))"
    return number(
        "Deliveries within 250 ms",
        "Share of the deliveries in the selected time range that took at most 250 ms from XADD to "
        "the socket. The objective is 99 %. If it is lower, see runbook "
        "TidegateDeliveryLatencyBudgetBurn.",
        Query(f"{good} / {every}"),
        unit="percentunit",
        decimals=2,
        limits=below(0.999, 0.99),
    )


def latency_quantiles(*, width: int = 8) -> Panel:
    """XADD to socket: half of the deliveries, and the slow ones."""
    return graph(
        "Publish to socket",
        "Time from the timestamp in the entry's id to the write to a live viewer's socket. Only "
        "p999 high: event loop lag or garbage collection on one replica. All quantiles high: "
        "Redis round trip or clock offsets (board Redis).",
        *(
            Query(quantile(q, "tidegate_publish_to_socket_seconds"), name)
            for q, name in ((0.5, "p50"), (0.99, "p99"), (0.999, "p999"))
        ),
        unit="s",
        limits=above(0.25, 1),
        logarithmic=True,
        exemplars=True,
        width=width,
    )


def connections_by_kind(*, width: int = 8) -> Panel:
    """Open connections by kind."""
    return graph(
        "Connections by kind",
        "Open connections: WebSockets with one operation or several, server-sent event streams "
        "and long polls. Many long polls where WebSockets are expected: a proxy does not pass on "
        "upgrades.",
        Query(total("tidegate_connections", by=("kind",)), "{{kind}}"),
        stacked=True,
        width=width,
    )


def connections_share(*, width: int = 8) -> Panel:
    """Connections of each replica relative to its limit."""
    held = total("tidegate_connections", by=REPLICA)
    limit = total("tidegate_connections_limit", by=REPLICA)
    return graph(
        "Connections relative to the limit",
        "Open connections divided by replica.max_connections. Above 0.85, add replicas; at 1, "
        "viewers are refused with 1013 and retry later. Runbook: TidegateConnectionsNearLimit.",
        Query(f"{held} / {limit}", REPLICA_LEGEND),
        unit="percentunit",
        limits=above(0.7, 0.85),
        width=width,
    )


def refusals(*, width: int = 8) -> Panel:
    """Refused connections and subscriptions by code."""
    return graph(
        "Refusals by code",
        "Refused connections and subscriptions, by the error code sent to the viewer. "
        "`connection_limit`: the user is at the limit. `expired`, `bad_token`: authentication "
        "failed. `unknown_key`: keys were rotated and cannot be fetched. `connections`, "
        "`connect_rate`: too few replicas.",
        Query(f"{rate('tidegate_refusals_total', by=('code',))} > 0", "{{code}}"),
        unit="ops",
        stacked=True,
        width=width,
    )


def closes(*, width: int = 8) -> Panel:
    """Closed connections by code."""
    return graph(
        "Closes by code",
        "Connections and subscriptions closed by replicas. `finished` is the normal end, "
        "`draining` a drain. `slow`: viewers that do not read, under a policy that disconnects "
        "them. `keepalive`: peers that do not answer pings; many at once indicate a network "
        "failure.",
        Query(f"{rate('tidegate_closes_total', by=('code',))} > 0", "{{code}}"),
        unit="ops",
        stacked=True,
        width=width,
    )


def gap_frames(*, width: int = 8) -> Panel:
    """Gap frames by reason, and malformed entries."""
    return graph(
        "Gap frames and malformed entries",
        "Gap frames sent to viewers. `trimmed`: streams are shorter than viewers' absences; keep "
        "more entries. `rewound`: a failover lost entries. `recreated`: streams expire too early. "
        "Malformed entries are an error of the backend; the log names the operation.",
        Query(rate("tidegate_gap_frames_total", by=("reason",)), "{{reason}}"),
        Query(rate("tidegate_malformed_entries_total"), "malformed"),
        unit="ops",
        width=width,
    )


def loop_lag(*, width: int = 8) -> Panel:
    """Event loop lag of each replica."""
    return graph(
        "Event loop lag, p99",
        "Delay of event loop timers; all work of the replica is delayed as much. Above 50 ms: too "
        "many viewers or entries for one CPU, or an overloaded node. Runbook: TidegateLoopLag.",
        Query(quantile(0.99, "tidegate_loop_lag_seconds", by=REPLICA), REPLICA_LEGEND),
        unit="s",
        limits=above(0.05, 0.25),
        logarithmic=True,
        width=width,
    )


def undispatched(*, width: int = 8) -> Panel:
    """Entries in a stream that are not dispatched yet."""
    return graph(
        "Entries waiting for dispatch",
        "Entries known to be waiting: left over by a dispatch call that reached its limit, or "
        "announced by a change notification. If the number grows, Redis or the event loop cannot "
        "keep up with the publishers. Runbook: TidegateDispatchBehind.",
        Query(highest("tidegate_undispatched_entries", by=REPLICA), REPLICA_LEGEND),
        limits=above(1_000, 10_000),
        width=width,
    )
