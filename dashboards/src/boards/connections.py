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
    description="Connections by kind and replica, refusals, and the limits of users and replicas.",
    rows=(
        Row(
            "Now",
            (
                number(
                    "Connections",
                    "Open connections of viewers. On a sudden drop, check the closes by code and "
                    "the load balancer or proxy in front of the gateway.",
                    Query(total("tidegate_connections")),
                    decimals=0,
                ),
                number(
                    "Viewers",
                    "Viewers of all operations; a multiplexed connection counts once for each of "
                    "its operations. A number far above the connections is normal where pages "
                    "subscribe to many operations.",
                    Query(total("tidegate_viewers")),
                    decimals=0,
                ),
                number(
                    "Operations followed",
                    "Operations with at least one viewer, summed over replicas: an operation with "
                    "viewers on three replicas counts three times. At topic.max_topics, new "
                    "operations are refused.",
                    Query(total("tidegate_operations")),
                    decimals=0,
                    limits=above(80_000, 100_000),
                ),
                number(
                    "Authenticated connections",
                    "Connections of authenticated users; these count towards a user's limit. 0 "
                    "with authentication enabled: tokens are refused; see the refusals.",
                    Query(total("tidegate_authenticated_connections")),
                    decimals=0,
                ),
                number(
                    "Refused per second",
                    "Refused connections and subscriptions. More refusals than accepted "
                    "connections: an incident, or a client that retries without a delay. The "
                    "panel of codes shows the reason.",
                    Query(rate("tidegate_refusals_total")),
                    unit="ops",
                    limits=above(1, 50),
                ),
                number(
                    "Users at their limit",
                    "Connection attempts per second that found the user's slots in use. Many "
                    "users: raise slots.limit. A few users: check why they open so many "
                    "connections. Runbook: TidegateSlotsNearLimit.",
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
                    "The replicas should have about the same number. A new replica has fewer "
                    "until rebalancing or reconnects fill it; a lasting imbalance comes from the "
                    "load balancer.",
                    Query(total("tidegate_connections", by=REPLICA), REPLICA_LEGEND),
                ),
                connections_share(),
                graph(
                    "Opened per second by kind",
                    "Accepted connections. A wave after a drain or an outage is expected and is "
                    "spread by the individual delay of each viewer; waves without a cause are "
                    "clients that reconnect in a loop: see the closes.",
                    Query(rate("tidegate_connections_opened_total", by=("kind",)), "{{kind}}"),
                    unit="ops",
                ),
                graph(
                    "Joins per second",
                    "Viewers that joined an operation. Far more joins than opened connections: "
                    "multiplexed clients that subscribe and unsubscribe all the time.",
                    Query(rate("tidegate_joins_total", by=REPLICA), REPLICA_LEGEND),
                    unit="ops",
                ),
                graph(
                    "Operations followed by replica",
                    "Each operation needs a registered change notification and a replay buffer. "
                    "Growth without more viewers: clients stay subscribed to operations that have "
                    "finished.",
                    Query(total("tidegate_operations", by=REPLICA), REPLICA_LEGEND),
                ),
            ),
        ),
        Row(
            "Refusals and closes",
            (
                refusals(width=6),
                closes(width=6),
                graph(
                    "TCP connections by port",
                    "TCP connections of any protocol; those of the public port count towards "
                    "replica.max_connections. Far more than viewer connections: idle HTTP "
                    "connections of a load balancer, or an attack.",
                    Query(total("tidegate_sockets", by=("port",)), "{{port}}"),
                    width=6,
                ),
                graph(
                    "Requests to cancel by outcome",
                    "Requests of viewers to cancel an operation. `forbidden`: the user may watch "
                    "and not cancel. `rate_limited`: one user sends too many. `failed`: Redis was "
                    "unavailable, or its ACL lacks the rights for cancelling.",
                    Query(f"{rate('tidegate_cancels_total', by=('outcome',))} > 0", "{{outcome}}"),
                    unit="ops",
                    stacked=True,
                    width=6,
                ),
            ),
        ),
        Row(
            "User limits",
            (
                heat(
                    "Slot use at connect",
                    "Connections of a user divided by the limit of that user, at each connect. "
                    "Many values at 1: users are at their limit; find out why before raising "
                    "slots.limit.",
                    Query(buckets("tidegate_slot_use_ratio")),
                    unit="percentunit",
                    width=8,
                ),
                graph(
                    "Slots",
                    "Changes of connection slots. `full`: refused at the limit. `taken_locally`: "
                    "Redis is unavailable and the limit applies per replica only. `over`: a "
                    "replica that had lost its lease returned and exceeded a limit. "
                    "`unavailable`: Redis did not answer.",
                    Query(rate("tidegate_slot_events_total", by=("event",)), "{{event}}"),
                    unit="ops",
                ),
                graph(
                    "Slots held and unsettled",
                    "Slots held by replicas, and changes not yet written to Redis. `unsettled` "
                    "should return to 0 within seconds; otherwise Redis is unavailable or slow.",
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
                    "1 while the lease of the replica is valid. 0: the other replicas consider it "
                    "dead and release the slots of its viewers. Runbook: TidegateLeaseLost.",
                    Query(total("tidegate_lease_held", by=REPLICA), REPLICA_LEGEND),
                ),
                graph(
                    "Lease renewals",
                    "`failed`: Redis did not answer in time, harmless once or twice. `lapsed`: "
                    "the lease expired and the replica registered again, because Redis or the "
                    "event loop did not respond for longer than slots.lease_s.",
                    Query(rate("tidegate_lease_renewals_total", by=("outcome",)), "{{outcome}}"),
                    unit="ops",
                ),
                graph(
                    "Replicas seen by each replica",
                    "Replicas with a valid lease, as seen by each replica. Values that differ for "
                    "longer than 5 s: the replicas use different Redis servers or consumer groups.",
                    Query(select("tidegate_pods"), REPLICA_LEGEND),
                ),
            ),
        ),
    ),
)
