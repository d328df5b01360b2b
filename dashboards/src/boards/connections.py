"""Who is connected, who was refused, and how close users and replicas are to their limits."""

from __future__ import annotations

from dashboards.src.board import Board, Row
from dashboards.src.boards.shared import (
    closes,
    connections_by_kind,
    connections_share,
    refusals,
)
from dashboards.src.panels import Query, above, graph, heat, number
from dashboards.src.queries import REPLICA, REPLICA_LEGEND, buckets, rate, select, total

_FULL = 'event="full"'

CONNECTIONS = Board(
    name="connections",
    title="Tidegate / Connections and limits",
    description="Connections by kind and replica, refusals, the limits of users and replicas.",
    rows=(
        Row(
            "Now",
            (
                number(
                    "Connections",
                    "Open connections of viewers. A sudden fall: look at closes by code, and at "
                    "what stands in front of the gateway.",
                    Query(total("tidegate_connections")),
                    decimals=0,
                ),
                number(
                    "Watches",
                    "Viewers over all operations; a multiplexed connection counts once for each. "
                    "Far above connections is right where pages watch many operations.",
                    Query(total("tidegate_viewers")),
                    decimals=0,
                ),
                number(
                    "Operations followed",
                    "Operations with a viewer, summed over replicas: one that is watched on three "
                    "counts three times. Near topic.max_topics new ones are refused.",
                    Query(total("tidegate_operations")),
                    decimals=0,
                    limits=above(80_000, 100_000),
                ),
                number(
                    "Signed-in connections",
                    "Connections of known users; these count against a user's limit. 0 with "
                    "sign-in on: tokens are refused; see the refusals.",
                    Query(total("tidegate_authenticated_connections")),
                    decimals=0,
                ),
                number(
                    "Refused per second",
                    "Connections and watches refused. More than those let in: an incident, or a "
                    "client that retries without waiting. The codes below say which.",
                    Query(rate("tidegate_refusals_total")),
                    unit="ops",
                    limits=above(1, 50),
                ),
                number(
                    "Users at their limit",
                    "Connects per second that found the user's slots full. Honest users: raise "
                    "slots.limit. A few: see who opens so many. Runbook: TidegateSlotsNearLimit.",
                    Query(rate("tidegate_slot_events_total", _FULL)),
                    unit="ops",
                    limits=above(0.1, 10),
                ),
            ),
        ),
        Row(
            "Connections",
            (
                connections_by_kind(),
                graph(
                    "Connections by replica",
                    "They should be about level. A new replica stays emptier until rebalancing or "
                    "reconnects fill it; a lasting tilt is the load balancer's doing.",
                    Query(total("tidegate_connections", by=REPLICA), REPLICA_LEGEND),
                ),
                connections_share(),
                graph(
                    "Opened per second by kind",
                    "Connections that came in. A wave after a drain or an outage is right and "
                    "spread by each viewer's own delay; waves without cause are clients that "
                    "reconnect in a loop: see closes.",
                    Query(rate("tidegate_connections_opened_total", by=("kind",)), "{{kind}}"),
                    unit="ops",
                ),
                graph(
                    "Joins per second",
                    "Viewers that joined an operation. Joins far above connections opened: "
                    "multiplexed clients that watch and unwatch all the time.",
                    Query(rate("tidegate_joins_total", by=REPLICA), REPLICA_LEGEND),
                    unit="ops",
                ),
                graph(
                    "Operations followed by replica",
                    "Each costs an armed doorbell and a ring of frames. Growing without more "
                    "viewers: clients leave operations open that have ended.",
                    Query(total("tidegate_operations", by=REPLICA), REPLICA_LEGEND),
                ),
            ),
        ),
        Row(
            "Refusals and ends",
            (
                refusals(),
                closes(),
                graph(
                    "TCP connections by port",
                    "Whatever is spoken over them; those of the public port are what "
                    "replica.max_connections is for. Far above the connections of viewers: idle "
                    "HTTP connections, of a load balancer or of somebody who means harm.",
                    Query(total("tidegate_sockets", by=("port",)), "{{port}}"),
                ),
            ),
        ),
        Row(
            "Limits of users",
            (
                heat(
                    "Slot use at connect",
                    "A user's connections over the user's limit, at each connect. Hot at 1: "
                    "users are at their limit; ask why before you raise slots.limit.",
                    Query(buckets("tidegate_slot_use_ratio")),
                    unit="percentunit",
                    width=8,
                ),
                graph(
                    "Slots",
                    "What happened to slots. `full`: refused at the limit. `taken_locally`: Redis "
                    "is away and the limit holds on one replica only. `over`: a replica that had "
                    "lost its lease came back. `unavailable`: Redis did not answer.",
                    Query(rate("tidegate_slot_events_total", by=("event",)), "{{event}}"),
                    unit="ops",
                ),
                graph(
                    "Slots held and unsettled",
                    "Slots that replicas hold, and changes that Redis does not know yet. Unsettled "
                    "should fall to 0 within seconds; if it stays, Redis is away or slow.",
                    Query(total("tidegate_slots_held"), "held"),
                    Query(total("tidegate_slots_unsettled"), "unsettled"),
                ),
            ),
        ),
        Row(
            "Leases",
            (
                graph(
                    "Leases held",
                    "1 while the replica's lease holds. 0: others take it for dead and give its "
                    "viewers' slots away. Runbook: TidegateLeaseLost.",
                    Query(total("tidegate_lease_held", by=REPLICA), REPLICA_LEGEND),
                ),
                graph(
                    "Lease renewals",
                    "`failed`: Redis did not answer in time, harmless once or twice. `lapsed`: the "
                    "lease ran out and the replica started a new one: Redis or the loop stood "
                    "still for longer than slots.lease_s.",
                    Query(rate("tidegate_lease_renewals_total", by=("outcome",)), "{{outcome}}"),
                    unit="ops",
                ),
                graph(
                    "Replicas as each sees them",
                    "Replicas with a lease. Lines that differ for longer than 5 s: they "
                    "are not on the same Redis, or use different groups.",
                    Query(select("tidegate_pods"), REPLICA_LEGEND),
                ),
            ),
        ),
    ),
)
