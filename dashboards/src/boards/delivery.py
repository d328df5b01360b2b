"""From XADD to the browser: where the time goes, and what is mended on the way."""

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
    """How many times faster than allowed the budget is used, by window."""
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
    description="From XADD to the browser: latency, dispatch, order, and viewers that fall behind.",
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
                    "99 % of the sampled viewers had acknowledged an entry after this time. High "
                    "while publish to socket is low: the viewers' network.",
                    Query(quantile(0.99, _VIEWER)),
                    unit="s",
                    limits=above(1, 5),
                ),
                number(
                    "Viewers lagging",
                    "Viewers whose buffer is full, now. They are caught up when they read again. "
                    "Runbook: TidegateViewersLagging.",
                    Query(total("tidegate_viewers", 'state="lagging"')),
                    decimals=0,
                    limits=above(10, 100),
                ),
                heat(
                    "Publish to socket",
                    "Every delivery by its latency. A second band far above the first is a part of "
                    "the replicas or of the streams: compare by replica below.",
                    Query(buckets(_SOCKET)),
                ),
                heat(
                    "Publish to viewer",
                    "Sampled acknowledgements by latency, the way back included. A band at a fixed "
                    "height is a far country; a smear is a bad network.",
                    Query(buckets(_VIEWER)),
                ),
                latency_quantiles(),
                graph(
                    "Publish to socket by replica, p99",
                    "One replica above the others: its loop lag, its node, or its link to Redis. "
                    "Restart it; if it comes back slow, move it.",
                    Query(quantile(0.99, _SOCKET, by=REPLICA), REPLICA_LEGEND),
                    unit="s",
                    limits=above(0.25, 1),
                    logarithmic=True,
                    exemplars=True,
                ),
                graph(
                    "Acknowledgements, and what is not measured",
                    "What became of asked acknowledgements, and deliveries whose latency is not "
                    "known. `unanswered`: viewers gone or hung. `no_clock`: the Redis user needs "
                    "+time. `not_a_time`: backends that choose entry ids themselves.",
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
            "The objectives",
            (
                graph(
                    "Latency budget: burn rate",
                    "How many times faster than allowed the 1 % of slow deliveries is used up; 1 "
                    "lasts exactly 30 days. Above 14.4 over an hour pages. Needs the recording "
                    "rules. Runbook: TidegateDeliveryLatencyBudgetBurn.",
                    *_burn("tidegate_delivery_slow", 0.01),
                    limits=above(1, 14.4),
                    width=12,
                ),
                graph(
                    "Loss budget: burn rate",
                    "How many times faster than allowed the 0.1 % of gaps is used up. Above 14.4 "
                    "over an hour pages. Needs the recording rules. Runbook: "
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
                    "From XADD until the relay message is at the replica. High: the doorbell (poll "
                    "instead of tracking), Redis' load, or replicas that follow a dead leader for "
                    "two seconds.",
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
                    "The same as a heat map. A band at 0.25 s is the poll; one at 2 s is a leader "
                    "that was lost; one at 10 s is the sweep, so rings were missed.",
                    Query(buckets("tidegate_dispatch_lag_seconds")),
                    width=8,
                ),
                undispatched(),
                graph(
                    "Doorbell",
                    "Rings of followed streams, and armed bells that did not ring: the sweep had "
                    "to find the entries, up to 10 s late. Any missed: runbook "
                    "TidegateDoorbellMissed.",
                    Query(rate("tidegate_doorbell_rings_total"), "rings"),
                    Query(rate("tidegate_doorbell_missed_total"), "missed"),
                    unit="ops",
                ),
                graph(
                    "Dispatch calls",
                    "Answered calls of the dispatch script. Many more `empty` than `entries` with "
                    "several replicas: they race; they should settle on one leader per stream "
                    "within seconds. `refused`: see the Redis events.",
                    Query(rate("tidegate_dispatch_calls_total", by=("outcome",)), "{{outcome}}"),
                    Query(rate("tidegate_dispatched_entries_total"), "entries dispatched"),
                    unit="ops",
                ),
                graph(
                    "Relay messages",
                    "By who dispatched them. Only `own` on several replicas: they do not hear each "
                    "other (sharded pub/sub blocked?). `unreadable`: another version, or somebody "
                    "else publishes on our channels.",
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
                    "Pages read to mend the order of a stream. Some after a reconnect or a deploy "
                    "are right. A steady `relay_gap` or `missed_relay`: relay messages are lost "
                    "(output buffer limits of pub/sub in Redis).",
                    Query(rate("tidegate_repairs_total", by=("cause",)), "{{cause}}"),
                    unit="ops",
                ),
                graph(
                    "Repaired entries",
                    "Entries that live viewers got from a page and not by the relay, by replica. "
                    "They came late, not never. One replica only: its link to Redis.",
                    Query(rate("tidegate_repaired_entries_total", by=REPLICA), REPLICA_LEGEND),
                    unit="ops",
                ),
                gap_frames(),
            ),
        ),
        Row(
            "Viewers behind",
            (
                graph(
                    "Viewers by state",
                    "Live, catching up (just joined, or read again) and lagging (buffer full). A "
                    "growing share of lagging: viewers' networks, or entries too many and too big.",
                    Query(total("tidegate_viewers", by=("state",)), "{{state}}"),
                    stacked=True,
                ),
                graph(
                    "Buffers full, entries skipped",
                    "Times a viewer's buffer was full, by policy, and superseded entries that "
                    "lagging viewers were spared. Skipping is the policy at work; if viewers need "
                    "every entry, set viewer.lagging_policy to replay.",
                    Query(rate("tidegate_viewers_lagged_total", by=("policy",)), "{{policy}}"),
                    Query(rate("tidegate_skipped_entries_total"), "entries skipped"),
                    unit="ops",
                ),
                graph(
                    "Replay sizes, p50 and p99",
                    "Entries written to a viewer before it was live. Large at `join`: viewers ask "
                    "for much history. Large at `catch_up`: they were away or lagging for long.",
                    *(
                        Query(
                            quantile(q, "tidegate_replay_entries", by=("occasion",)),
                            f"{name} {{{{occasion}}}}",
                        )
                        for q, name in ((0.5, "p50"), (0.99, "p99"))
                    ),
                ),
                graph(
                    "Entries replayed, pages read",
                    "Entries written as history or to catch up, and the pages read from streams "
                    "for it. Many pages: viewers are away for longer than 256 entries take.",
                    Query(rate("tidegate_replayed_entries_total"), "entries"),
                    Query(rate("tidegate_log_pages_total"), "pages"),
                    unit="ops",
                ),
                graph(
                    "Recent frames kept",
                    "Bytes of the rings, from which late viewers are served. At "
                    "topic.total_ring_bytes the oldest are dropped early and pages are read.",
                    Query(total("tidegate_ring_bytes", by=REPLICA), REPLICA_LEGEND),
                    unit="bytes",
                ),
                graph(
                    "Frames that wait for their pass",
                    "Joined frames not yet written to all live viewers. It should be near 0; "
                    "growing means that the loop cannot write as fast as entries come: add "
                    "replicas.",
                    Query(total("tidegate_outbox_items", by=REPLICA), REPLICA_LEGEND),
                    limits=above(100, 1_000),
                ),
            ),
        ),
    ),
)
