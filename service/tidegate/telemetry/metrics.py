"""The metrics of a replica, as one table; their values are read when they are scraped, so the hot
path pays next to nothing.

Names and units follow the Prometheus conventions. No label ever carries a user or an operation id,
and every label has a bounded set of values: what is not in it is counted as `other`.
`docs/metrics.md` is made from the table (`tidegate.telemetry.metrics_page`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry

from tidegate.core.bounds import LATENCY_S, PAUSE_S, REPLAY_ENTRIES, SLOT_USE
from tidegate.core.cancelling import OUTCOMES as CANCEL_OUTCOMES
from tidegate.core.connection_record import ANSWERED, VIEWER_LEFT, ConnectionKind
from tidegate.core.topic import RepairCause
from tidegate.model.close_codes import CLOSE_CODES
from tidegate.model.frames import GapReason
from tidegate.telemetry.metric_table import (
    COUNTER,
    GAUGE,
    HIGHEST,
    HISTOGRAM,
    LOWEST,
    Row,
    TableCollector,
    Value,
    new_process_registry,
)

#: Values of a label that is not listed, such as the addresses of primaries, kept apart at the most.
VALUES_MAX = 64

CONNECTION_KINDS = tuple(kind.value for kind in ConnectionKind)
LAGGING_POLICIES = ("conflate", "replay", "disconnect")
REPAIR_CAUSES = tuple(cause.value for cause in RepairCause)
REDIS_EVENTS = (
    *("connects", "connect_failures", "reply_timeouts", "attaches", "slots_moved"),
    *("error_no_script", "error_moved", "error_ask", "error_demoted", "error_not_a_stream"),
    *("error_forbidden", "error_later", "buffer_cuts", "relay_large", "large_pages"),
)
REDIS_AREAS = ("streams", "idempotency", "cancelling", "leases", "revocations", "slots", "source")
SLOT_EVENTS = (
    *("taken", "taken_locally", "full", "replaced", "released", "compared", "over"),
    "unavailable",
)
REFUSAL_CODES = (
    # Connection limiter, before authentication.
    *("draining", "connections", "connect_rate", "waiting", "header_size", "header_time"),
    *("body_size", "body_time", "descriptors", "unread_answer", "first_frame_time"),
    *("admin_port", "memory"),
    # Authentication.
    *("host", "origin"),
    *("token_missing", "token_too_long", "token_in_query", "several_tokens", "no_tokens"),
    *("bad_token", "bad_algorithm", "bad_claim", "bad_signature", "unknown_key"),
    *("keys_unavailable", "not_yet_valid", "expired", "wrong_issuer", "wrong_audience"),
    *("token_revoked", "token_expired"),
    # Authorization.
    *("forbidden", "not_found", "source_failed", "connection_limit"),
    # The request.
    *("bad_request", "not_a_stream", "overloaded", "redis_unavailable"),
)

#: Counted by the supervisor, not by its workers.
RESTARTS = Row(
    "tidegate_worker_restarts_total",
    COUNTER,
    "Worker processes that ended unexpectedly; each is replaced.",
)
#: The page has a section for each of these.
SECTIONS: dict[str, tuple[Row, ...]] = {
    "Connections": (
        Row("tidegate_connections", GAUGE, "Open connections by kind.", "kind", CONNECTION_KINDS),
        Row(
            "tidegate_connections_limit",
            GAUGE,
            "Maximum number of connections on this replica (replica.max_connections).",
        ),
        Row(
            "tidegate_sockets",
            GAUGE,
            "TCP connections by port, of any protocol; those of the public port count towards "
            "replica.max_connections.",
            "port",
            ("public", "admin"),
        ),
        Row(
            "tidegate_connections_opened_total",
            COUNTER,
            "Accepted connections, by kind.",
            "kind",
            CONNECTION_KINDS,
        ),
        Row(
            "tidegate_refusals_total",
            COUNTER,
            "Refused connections and subscriptions, by the error code sent to the viewer.",
            "code",
            REFUSAL_CODES,
        ),
        Row(
            "tidegate_closes_total",
            COUNTER,
            "Closed connections, by the name of the close code; viewer_left and answered have no "
            "code.",
            "code",
            (*(row.name for row in CLOSE_CODES.values()), VIEWER_LEFT, ANSWERED),
        ),
        Row(
            "tidegate_cancels_total",
            COUNTER,
            "Requests of viewers to cancel an operation, by outcome.",
            "outcome",
            CANCEL_OUTCOMES,
        ),
        Row("tidegate_authenticated_connections", GAUGE, "Connections of authenticated users."),
    ),
    "Viewers": (
        Row("tidegate_operations", GAUGE, "Operations followed on this replica."),
        Row(
            "tidegate_viewers",
            GAUGE,
            "Viewers by state; one for each operation of a connection.",
            "state",
            ("live", "lagging", "catching_up"),
        ),
        Row("tidegate_joins_total", COUNTER, "Viewers that joined an operation."),
        Row(
            "tidegate_viewers_lagged_total",
            COUNTER,
            "Times a viewer's send buffer filled up, by the policy that then applied.",
            "policy",
            LAGGING_POLICIES,
        ),
        Row(
            "tidegate_skipped_entries_total",
            COUNTER,
            "Superseded entries skipped for lagging viewers.",
        ),
        Row(
            "tidegate_replay_entries",
            HISTOGRAM,
            "Entries written to a viewer before it was live, on joining or to catch up.",
            "occasion",
            ("join", "catch_up"),
            REPLAY_ENTRIES,
        ),
        Row(
            "tidegate_replayed_entries_total",
            COUNTER,
            "Entries written as history or to catch up.",
        ),
        Row("tidegate_log_pages_total", COUNTER, "Pages read from streams for viewers."),
        Row("tidegate_ring_bytes", GAUGE, "Bytes of recent frames in the replay buffers."),
    ),
    "Delivery": (
        Row("tidegate_entries_total", COUNTER, "Entries accepted for the viewers of this replica."),
        Row("tidegate_deliveries_total", COUNTER, "Frames written to live viewers."),
        Row("tidegate_delivered_bytes_total", COUNTER, "Bytes of frames written to live viewers."),
        Row(
            "tidegate_publish_to_socket_seconds",
            HISTOGRAM,
            "Time from the timestamp in an entry's id to the write to a live viewer's socket; "
            "under load one delivery in 8 is measured and counted 8 times.",
            bounds=LATENCY_S,
        ),
        Row(
            "tidegate_publish_to_viewer_seconds",
            HISTOGRAM,
            "Time from the timestamp in an entry's id to a viewer's acknowledgement, sampled.",
            bounds=LATENCY_S,
        ),
        Row(
            "tidegate_latency_unmeasured_total",
            COUNTER,
            "Deliveries whose latency was not measured, by reason.",
            "reason",
            ("no_clock", "not_a_time"),
        ),
        Row(
            "tidegate_acks_total",
            COUNTER,
            "Acknowledgements of viewers: requested, received, missing and unsolicited ones, by "
            "outcome.",
            "outcome",
            ("asked", "answered", "unanswered", "unasked"),
        ),
        Row(
            "tidegate_gap_frames_total",
            COUNTER,
            "Gap frames written to viewers, by reason.",
            "reason",
            tuple(reason.value for reason in GapReason),
        ),
        Row(
            "tidegate_malformed_entries_total",
            COUNTER,
            "Entries that could not be parsed completely.",
        ),
        Row("tidegate_outbox_items", GAUGE, "Batches of frames waiting to be sent."),
    ),
    "Dispatch and relay": (
        Row(
            "tidegate_dispatch_calls_total",
            COUNTER,
            "Completed calls of the dispatch script, by outcome.",
            "outcome",
            ("entries", "empty", "refused"),
        ),
        Row("tidegate_dispatched_entries_total", COUNTER, "Entries dispatched by this replica."),
        Row(
            "tidegate_dispatch_lag_seconds",
            HISTOGRAM,
            "Time from the timestamp in an entry's id to the relay message on this replica; "
            "sampled at most every 10 ms.",
            bounds=LATENCY_S,
        ),
        Row(
            "tidegate_undispatched_entries",
            GAUGE,
            "Entries known to be waiting for dispatch.",
        ),
        Row(
            "tidegate_doorbell_rings_total",
            COUNTER,
            "Change notifications received for streams followed here.",
        ),
        Row(
            "tidegate_doorbell_missed_total",
            COUNTER,
            "Change notifications that did not arrive; the periodic check found the entries.",
        ),
        Row(
            "tidegate_relay_messages_total",
            COUNTER,
            "Relay messages, by the replica that dispatched them.",
            "origin",
            ("own", "foreign", "unreadable"),
        ),
        Row(
            "tidegate_repairs_total",
            COUNTER,
            "Pages read from a stream to repair missing entries, by cause.",
            "cause",
            REPAIR_CAUSES,
        ),
        Row(
            "tidegate_repaired_entries_total",
            COUNTER,
            "Entries for live viewers that came from a page instead of the relay.",
        ),
    ),
    "Redis": (
        Row(
            "tidegate_redis_connected",
            GAUGE,
            "1 while the connection to a primary is up.",
            "node",
            merge=LOWEST,
        ),
        Row(
            "tidegate_redis_refused_commands",
            GAUGE,
            "Commands that this replica needs and the Redis ACL refuses, by purpose.",
            "area",
            REDIS_AREAS,
            merge=HIGHEST,
        ),
        Row(
            "tidegate_redis_doorbell",
            GAUGE,
            "Connected primaries, by the kind of change notification in use.",
            "doorbell",
            ("tracking", "keyspace", "poll"),
            merge=HIGHEST,
        ),
        Row(
            "tidegate_redis_round_trip_seconds",
            HISTOGRAM,
            "Round trip of the TIME command, once a second: Redis, network and event loop.",
            "node",
            bounds=LATENCY_S,
        ),
        Row(
            "tidegate_redis_clock_offset_seconds",
            GAUGE,
            "Clock of a primary minus the clock of this replica; latencies are corrected by it.",
            "node",
            merge=HIGHEST,
        ),
        Row(
            "tidegate_redis_clock_error_seconds",
            GAUGE,
            "Upper bound of the error of the clock offset.",
            "node",
            merge=HIGHEST,
        ),
        Row(
            "tidegate_redis_streams_leading",
            GAUGE,
            "Streams that this replica dispatches without waiting for other replicas.",
        ),
        Row("tidegate_redis_attach_backlog", GAUGE, "Streams waiting to be attached."),
        Row(
            "tidegate_redis_events_total",
            COUNTER,
            "Events on the connections to Redis, by kind.",
            "event",
            REDIS_EVENTS,
        ),
    ),
    "Slots and lease": (
        Row("tidegate_slots_held", GAUGE, "Connection slots that this replica holds."),
        Row(
            "tidegate_slots_unsettled",
            GAUGE,
            "Users and releases of slots not yet written to Redis.",
        ),
        Row(
            "tidegate_slot_events_total",
            COUNTER,
            "Changes of connection slots, by kind.",
            "event",
            SLOT_EVENTS,
        ),
        Row(
            "tidegate_slot_use_ratio",
            HISTOGRAM,
            "Connections of a user divided by the limit of that user, at each connect.",
            bounds=SLOT_USE,
        ),
        Row(
            "tidegate_lease_held",
            GAUGE,
            "1 while the lease of this replica is valid.",
            merge=LOWEST,
        ),
        Row(
            "tidegate_lease_renewals_total",
            COUNTER,
            "Renewals of the lease; after `lapsed` the replica registered again.",
            "outcome",
            ("renewed", "failed", "lapsed"),
        ),
        Row("tidegate_pods", GAUGE, "Live replicas, as seen by this one.", merge=HIGHEST),
    ),
    "Drain": (
        Row("tidegate_ready", GAUGE, "1 while /readyz answers 200.", merge=HIGHEST),
        Row("tidegate_draining", GAUGE, "1 while this replica drains.", merge=HIGHEST),
        Row(
            "tidegate_drain_elapsed_seconds",
            GAUGE,
            "Time since the drain began; 0 without one.",
            merge=HIGHEST,
        ),
        Row(
            "tidegate_drain_window_seconds",
            GAUGE,
            "Longest duration of a drain (drain.delay_s and drain.window_s).",
            merge=HIGHEST,
        ),
        Row(
            "tidegate_moved_connections_total",
            COUNTER,
            "Connections asked to reconnect to another replica.",
            "reason",
            ("drain", "rebalance"),
        ),
    ),
    "Process": (
        Row(
            "tidegate_workers",
            GAUGE,
            "Worker processes that serve: 1, or up to server.workers.",
        ),
        RESTARTS,
        Row(
            "tidegate_loop_lag_seconds",
            HISTOGRAM,
            "Delay of an event loop timer, sampled ten times a second.",
            bounds=PAUSE_S,
        ),
        Row(
            "tidegate_gc_pause_seconds",
            HISTOGRAM,
            "Pauses of the process for garbage collection.",
            "generation",
            ("0", "1", "2"),
            PAUSE_S,
        ),
        Row(
            "tidegate_memory_used_bytes",
            GAUGE,
            "Memory of the container without inactive file pages; 0 without a limit.",
            merge=HIGHEST,
        ),
        Row(
            "tidegate_memory_limit_bytes",
            GAUGE,
            "The container's memory limit; 0: none.",
            merge=HIGHEST,
        ),
        Row("tidegate_spans_dropped_total", COUNTER, "Trace spans that were not exported."),
        Row(
            "tidegate_build_info",
            GAUGE,
            "Always 1; the label is the running version.",
            "version",
            merge=HIGHEST,
        ),
    ),
}

TABLE: tuple[Row, ...] = tuple(itertools.chain.from_iterable(SECTIONS.values()))

Numbers = Mapping[str, Value | Mapping[str, Value]]


def new_registry(read: Callable[[], Numbers]) -> CollectorRegistry:
    """A registry with the replica's metrics and those of its process."""
    return new_process_registry(TableCollector(TABLE, read, values_max=VALUES_MAX))
