"""From XADD to the browser: where the time is spent, and what is repaired."""

from __future__ import annotations

from dashboards.src.board import Board, Row
from dashboards.src.boards.shared import (
    gap_frames,
    latency_quantiles,
    undispatched,
    within_objective,
)
from dashboards.src.panels import Query, above, graph, heat, number
from dashboards.src.queries import (
    REPLICA,
    REPLICA_LEGEND,
    SELECTED_OPERATOR,
    buckets,
    quantile,
    rate,
    select,
    total,
)

_SOCKET = "tidegate_publish_to_socket_seconds"
_VIEWER = "tidegate_publish_to_viewer_seconds"
_BURN = (("5m", "5m"), ("1h", "1h"), ("6h", "6h"))


def _burn(ratio: str, budget: float) -> tuple[Query, ...]:
    """The burn rate of an error budget, by window."""
    return tuple(
        Query(
            f"max({select(f'release:{ratio}:ratio_rate{window}', where=SELECTED_OPERATOR)})"
            f" / {budget:g}",
            name,
        )
        for window, name in _BURN
    )


DELIVERY = Board(
    name="delivery",
    title="Tidegate / Delivery",
    description="From XADD to the browser: latency, dispatch, order, and lagging viewers.",
    rows=(
        Row(
            "Publish to browser",
            (
                *(
                    number(
                        f"Publish to socket, {name}",
                        f"{what} of deliveries were faster than this, from XADD to the socket. "
                        "Red: read the lines below from left to right; the first that is high too "
                        "is the cause.",
                        Query(quantile(q, _SOCKET)),
                        unit="s",
                        limits=above(*limits),
                    )
                    for q, name, what, limits in (
                        (0.5, "p50", "Half", (0.05, 0.25)),
                        (0.99, "p99", "99 %", (0.25, 1)),
                        (0.999, "p999", "99.9 %", (1, 5)),
                    )
                ),
                within_objective(),
                number(
                    "Publish to viewer, p99",
                    "Time within which 99 % of the sampled viewers acknowledged an entry. High "
                    "while publish to socket is low: the viewers' network.",
                    Query(quantile(0.99, _VIEWER)),
                    unit="s",
                    limits=above(1, 5),
                ),
                number(
                    "Viewers lagging",
                    "Viewers whose send buffer is full. They catch up when they read again. "
                    "Runbook: TidegateViewersLagging.",
                    Query(total("tidegate_viewers", 'state="lagging"')),
                    decimals=0,
                    limits=above(10, 100),
                ),
                heat(
                    "Publish to socket",
                    "Deliveries by latency. A second band far above the first comes from some of "
                    "the replicas or streams: compare the replicas below.",
                    Query(buckets(_SOCKET)),
                ),
                heat(
                    "Publish to viewer",
                    "Sampled acknowledgements by latency, including the return path. A constant "
                    "offset is distance; a wide spread is jitter of the network.",
                    Query(buckets(_VIEWER)),
                ),
                latency_quantiles(),
                graph(
                    "Publish to socket by replica, p99",
                    "One replica slower than the others: its event loop, its node or its "
                    "connection to Redis. Restart it; if it is still slow, move it to another "
                    "node.",
                    Query(quantile(0.99, _SOCKET, by=REPLICA), REPLICA_LEGEND),
                    unit="s",
                    limits=above(0.25, 1),
                    logarithmic=True,
                    exemplars=True,
                ),
                graph(
                    "Acknowledgements and unmeasured deliveries",
                    "Requested acknowledgements by outcome, and deliveries whose latency is "
                    "unknown. `unanswered`: the viewer is gone or hangs. `no_clock`: the Redis "
                    "user needs +time. `not_a_time`: backends set entry ids themselves.",
                    Query(rate("tidegate_acks_total", by=("outcome",)), "ack {{outcome}}"),
                    Query(
                        rate("tidegate_latency_unmeasured_total", by=("reason",)),
                        "unmeasured {{reason}}",
                    ),
                    unit="ops",
                ),
            ),
        ),
        Row(
            "Service level objectives",
            (
                graph(
                    "Latency budget: burn rate",
                    "Burn rate of the error budget of 1 % slow deliveries; at 1 the budget lasts "
                    "exactly 30 days. Above 14.4 for an hour, an alert pages. Needs the recording "
                    "rules. Runbook: TidegateDeliveryLatencyBudgetBurn.",
                    *_burn("tidegate_delivery_slow", 0.01),
                    limits=above(1, 14.4),
                    width=12,
                ),
                graph(
                    "Loss budget: burn rate",
                    "Burn rate of the error budget of 0.1 % gap frames. Above 14.4 for an hour, "
                    "an alert pages. Needs the recording rules. Runbook: "
                    "TidegateDeliveryLossBudgetBurn.",
                    *_burn("tidegate_delivery_lost", 0.001),
                    limits=above(1, 14.4),
                    width=12,
                ),
            ),
        ),
        Row(
            "From Redis to the replica",
            (
                graph(
                    "Dispatch lag",
                    "Time from XADD to the arrival of the relay message at the replica. High: "
                    "change notifications (polling instead of tracking), load on Redis, or "
                    "replicas that wait up to two seconds for a dead dispatch leader.",
                    *(
                        Query(quantile(q, "tidegate_dispatch_lag_seconds"), name)
                        for q, name in ((0.5, "p50"), (0.99, "p99"))
                    ),
                    unit="s",
                    limits=above(0.1, 0.5),
                    logarithmic=True,
                ),
                heat(
                    "Dispatch lag",
                    "Dispatch lag as a heat map. A band at 0.25 s is polling; at 2 s, a lost "
                    "dispatch leader; at 10 s, the periodic check, so change notifications were "
                    "missed.",
                    Query(buckets("tidegate_dispatch_lag_seconds")),
                    width=8,
                ),
                undispatched(),
                graph(
                    "Change notifications",
                    "Change notifications received for followed streams, and those that did not "
                    "arrive: the periodic check found the entries, up to 10 s late. Any missed: "
                    "runbook TidegateDoorbellMissed.",
                    Query(rate("tidegate_doorbell_rings_total"), "received"),
                    Query(rate("tidegate_doorbell_missed_total"), "missed"),
                    unit="ops",
                ),
                graph(
                    "Dispatch calls",
                    "Completed calls of the dispatch script. Many more `empty` than `entries` "
                    "with several replicas: they compete; they should settle on one leader per "
                    "stream within seconds. `refused`: see the Redis events.",
                    Query(rate("tidegate_dispatch_calls_total", by=("outcome",)), "{{outcome}}"),
                    Query(rate("tidegate_dispatched_entries_total"), "entries dispatched"),
                    unit="ops",
                ),
                graph(
                    "Relay messages",
                    "Relay messages by the replica that dispatched them. Only `own` on several "
                    "replicas: they do not receive each other's messages (is sharded pub/sub "
                    "blocked?). `unreadable`: another version, or another program that publishes "
                    "to the same channels.",
                    Query(rate("tidegate_relay_messages_total", by=("origin",)), "{{origin}}"),
                    unit="ops",
                ),
            ),
        ),
        Row(
            "Order and repair",
            (
                graph(
                    "Repairs by cause",
                    "Pages read from streams to repair missing entries. Some after a reconnect or "
                    "a rollout are expected. A steady `relay_gap` or `missed_relay`: relay "
                    "messages are lost (pub/sub output buffer limits in Redis).",
                    Query(rate("tidegate_repairs_total", by=("cause",)), "{{cause}}"),
                    unit="ops",
                ),
                graph(
                    "Repaired entries",
                    "Entries for live viewers that came from a page instead of the relay, by "
                    "replica. They are late, not lost. On one replica only: its connection to "
                    "Redis.",
                    Query(rate("tidegate_repaired_entries_total", by=REPLICA), REPLICA_LEGEND),
                    unit="ops",
                ),
                gap_frames(),
            ),
        ),
        Row(
            "Lagging viewers",
            (
                graph(
                    "Viewers by state",
                    "Viewers that are live, catching up (just joined, or reading again) or "
                    "lagging (send buffer full). A growing share of lagging viewers: their "
                    "networks, or entries that are too many or too large.",
                    Query(total("tidegate_viewers", by=("state",)), "{{state}}"),
                    stacked=True,
                ),
                graph(
                    "Full buffers and skipped entries",
                    "Times a viewer's send buffer filled up, by policy, and superseded entries "
                    "skipped for lagging viewers. Skipping is the configured policy; if viewers "
                    "need every entry, set viewer.lagging_policy to replay.",
                    Query(rate("tidegate_viewers_lagged_total", by=("policy",)), "{{policy}}"),
                    Query(rate("tidegate_skipped_entries_total"), "entries skipped"),
                    unit="ops",
                ),
                graph(
                    "Replay sizes, p50 and p99",
                    "Entries written to a viewer before it was live. Large at `join`: viewers "
                    "request much history. Large at `catch_up`: they were disconnected or lagging "
                    "for a long time.",
                    *(
                        Query(
                            quantile(q, "tidegate_replay_entries", by=("occasion",)),
                            f"{name} {{{{occasion}}}}",
                        )
                        for q, name in ((0.5, "p50"), (0.99, "p99"))
                    ),
                ),
                graph(
                    "Replayed entries and pages read",
                    "Entries written as history or to catch up, and the pages read from streams "
                    "for it. Many pages: viewers need more than the 256 most recent entries, "
                    "which replicas keep in memory.",
                    Query(rate("tidegate_replayed_entries_total"), "entries"),
                    Query(rate("tidegate_log_pages_total"), "pages"),
                    unit="ops",
                ),
                graph(
                    "Replay buffers",
                    "Memory used by replay buffers, from which late viewers are served. At "
                    "topic.total_ring_bytes the oldest frames are dropped and pages are read from "
                    "Redis instead.",
                    Query(total("tidegate_ring_bytes", by=REPLICA), REPLICA_LEGEND),
                    unit="bytes",
                ),
                graph(
                    "Batches waiting to be sent",
                    "Batches of frames not yet written to all live viewers. The value should be "
                    "near 0; growth means that the event loop cannot write as fast as entries "
                    "arrive: add replicas.",
                    Query(total("tidegate_outbox_items", by=REPLICA), REPLICA_LEGEND),
                    limits=above(100, 1_000),
                ),
            ),
        ),
    ),
)
