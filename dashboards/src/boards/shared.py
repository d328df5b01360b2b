"""Panels that stand on more than one board, so that they look and read the same."""

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
        "Of the deliveries in the board's range, those that took at most 250 ms from XADD to the "
        "socket. The objective is 99 %. Below: runbook TidegateDeliveryLatencyBudgetBurn.",
        Query(f"{good} / {every}"),
        unit="percentunit",
        decimals=2,
        limits=below(0.999, 0.99),
    )


def latency_quantiles(*, width: int = 8) -> Panel:
    """XADD to socket: half of the deliveries, and the slow ones."""
    return graph(
        "Publish to socket",
        "From the time in the entry's id to the write to a live viewer's socket. Only p999 high: "
        "loop lag or GC on one replica. All high: Redis' round trip, or clocks (Redis board).",
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
    """Who is connected, and how."""
    return graph(
        "Connections by kind",
        "Open connections: one operation by WebSocket, several by WebSocket, event streams, long "
        "polls. Many long polls where WebSockets were expected: a proxy does not pass upgrades.",
        Query(total("tidegate_connections", by=("kind",)), "{{kind}}"),
        stacked=True,
        width=width,
    )


def connections_share(*, width: int = 8) -> Panel:
    """How full each replica is."""
    held = total("tidegate_connections", by=REPLICA)
    limit = total("tidegate_connections_limit", by=REPLICA)
    return graph(
        "Connections, share of the limit",
        "Open connections over replica.max_connections. From 0.85 on add replicas; at 1 viewers "
        "are refused with 1013 and come back later. Runbook: TidegateConnectionsNearLimit.",
        Query(f"{held} / {limit}", REPLICA_LEGEND),
        unit="percentunit",
        limits=above(0.7, 0.85),
        width=width,
    )


def refusals(*, width: int = 8) -> Panel:
    """Who was not let in, and why."""
    return graph(
        "Refusals by code",
        "Connections and watches refused, by the code the viewer is told. `connection_limit`: "
        "users at their limit. `expired`, `bad_token`: the sign-in. `unknown_key`: keys were "
        "rotated and cannot be fetched. `connections`, `connect_rate`: too few replicas.",
        Query(f"{rate('tidegate_refusals_total', by=('code',))} > 0", "{{code}}"),
        unit="ops",
        stacked=True,
        width=width,
    )


def closes(*, width: int = 8) -> Panel:
    """How connections ended."""
    return graph(
        "Closes by code",
        "Connections and watches that a replica ended. `finished` is the good end, `draining` a "
        "drain. `slow`: viewers that do not read, and a policy that disconnects. `keepalive`: "
        "peers that are gone; many at once is a network.",
        Query(f"{rate('tidegate_closes_total', by=('code',))} > 0", "{{code}}"),
        unit="ops",
        stacked=True,
        width=width,
    )


def gap_frames(*, width: int = 8) -> Panel:
    """What could not be proven complete."""
    return graph(
        "Gap frames and malformed entries",
        "Gaps told to viewers. `trimmed`: streams are shorter than viewers are away, so keep more "
        "entries. `rewound`: a failover lost entries. `recreated`: streams expire too early. "
        "Malformed entries are a backend's mistake; the log names the operation.",
        Query(rate("tidegate_gap_frames_total", by=("reason",)), "{{reason}}"),
        Query(rate("tidegate_malformed_entries_total"), "malformed"),
        unit="ops",
        width=width,
    )


def loop_lag(*, width: int = 8) -> Panel:
    """How late each replica's event loop is."""
    return graph(
        "Event loop lag, p99",
        "How late timers of the loop were; everything on the replica waits this long. Above 50 ms: "
        "too many viewers or entries for one CPU, or a noisy node. Runbook: TidegateLoopLag.",
        Query(quantile(0.99, "tidegate_loop_lag_seconds", by=REPLICA), REPLICA_LEGEND),
        unit="s",
        limits=above(0.05, 0.25),
        logarithmic=True,
        width=width,
    )


def undispatched(*, width: int = 8) -> Panel:
    """Entries that are in a stream and not yet on their way."""
    return graph(
        "Entries that wait for dispatch",
        "Entries known to wait: left by a bounded call, or rung for. Growing: Redis or the loop "
        "cannot follow what is published. Runbook: TidegateDispatchBehind.",
        Query(highest("tidegate_undispatched_entries", by=REPLICA), REPLICA_LEGEND),
        limits=above(1_000, 10_000),
        width=width,
    )
