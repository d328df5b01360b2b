"""The operator's metrics, as one table; values are read when they are scraped.

Labels are bounded: names of Gateways of one namespace, words that the code knows, verbs and
resources of `kube.permissions`, answers of the API server. The page has the same table:
`docs/operator-metrics.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry

from tidegate.telemetry.metric_table import (
    Kind,
    Row,
    TableCollector,
    markdown_rows,
    new_process_registry,
)

_GAUGE, _COUNTER = Kind.GAUGE, Kind.COUNTER
_OF = ("gateway",)

TABLE: tuple[Row, ...] = (
    Row("tidegate_operator_leader", _GAUGE, "Whether this replica is the leader: 1 or 0."),
    Row("tidegate_operator_election_events_total", _COUNTER, "Events of the leader election.",
        ("event",)),
    Row("tidegate_operator_gateways", _GAUGE, "Gateway resources reconciled by this replica."),
    Row("tidegate_operator_loop_age_seconds", _GAUGE,
        "Seconds since the last completed round of a loop.", ("loop",)),
    Row("tidegate_operator_loop_duration_seconds", _GAUGE, "Duration of the last round of a loop.",
        ("loop",)),
    Row("tidegate_operator_loop_rounds_total", _COUNTER, "Completed rounds of a loop.", ("loop",)),
    Row("tidegate_operator_loop_errors_total", _COUNTER, "Rounds of a loop that failed.",
        ("loop",)),
    Row("tidegate_operator_api_calls_total", _COUNTER, "Calls of the Kubernetes API, by answer.",
        ("verb", "resource", "answer")),
    Row("tidegate_operator_events_lost_total", _COUNTER,
        "Kubernetes events that could not be created."),
    Row("tidegate_operator_decisions_total", _COUNTER, "Scaling decisions, by reason.",
        ("gateway", "reason")),
    Row("tidegate_operator_scales_total", _COUNTER, "Changes of the number of replicas.",
        ("gateway", "direction")),
    Row("tidegate_operator_action_failures_total", _COUNTER, "Actions that failed.",
        ("gateway", "failure")),
    Row("tidegate_operator_replicas", _GAUGE, "Replicas in the spec of the Deployment.", _OF),
    Row("tidegate_operator_replicas_desired", _GAUGE, "Replicas desired by the operator.", _OF),
    Row("tidegate_operator_replicas_ready", _GAUGE, "Pods that are ready and not terminating.",
        _OF),
    Row("tidegate_operator_connections", _GAUGE, "Open connections, over all pods.", _OF),
    Row("tidegate_operator_deliveries_per_second", _GAUGE, "Frames sent per second, over all pods.",
        _OF),
    Row("tidegate_operator_demand_pods", _GAUGE,
        "Pods needed for the known load, by signal.",
        ("gateway", "signal")),
    Row("tidegate_operator_shed_connections_total", _COUNTER,
        "Viewers that pods were asked to move for rebalancing.", _OF),
    Row("tidegate_operator_redis_reachable", _GAUGE,
        "Whether the leases can be read from Redis: 1 or 0.", _OF),
    Row("tidegate_operator_leases_disagree", _GAUGE,
        "Pods without a lease in Redis, and leases without a pod.", ("gateway", "kind")),
    Row("tidegate_operator_streams", _GAUGE, "Streams found by the last sweep, by state.",
        ("gateway", "state")),
    Row("tidegate_operator_undispatched_entries", _GAUGE,
        "Entries of streams with viewers that were not dispatched yet at the last sweep.", _OF),
    Row("tidegate_operator_streams_expired_total", _COUNTER,
        "Streams that were given a TTL, by state.", ("gateway", "state")),
    Row("tidegate_operator_sweep_changes_total", _COUNTER,
        "Other changes made by the sweep: consumers, groups, slots, trimmed, revived, shortened.",
        ("gateway", "change")),
    Row("tidegate_operator_sweep_skipped_total", _COUNTER,
        "Changes that the sweep did not make, by reason.", ("gateway", "reason")),
    Row("tidegate_operator_sweep_duration_seconds", _GAUGE, "Duration of the last sweep.", _OF),
    Row("tidegate_operator_sweep_age_seconds", _GAUGE, "Seconds since the end of the last sweep.",
        _OF),
    Row("tidegate_operator_sweep_commands_total", _COUNTER, "Commands that sweeps sent to Redis.",
        _OF),
    Row("tidegate_operator_sweep_interruptions_total", _COUNTER,
        "Number of times that a sweep lost its connection to Redis.", _OF),
    Row("tidegate_operator_redis_memory_bytes", _GAUGE,
        "Memory of a primary in bytes: used, limit.", ("gateway", "node", "kind")),
    Row("tidegate_operator_redis_memory_ratio", _GAUGE,
        "Used fraction of the memory limit, of the fullest primary.", _OF),
    Row("tidegate_operator_condition", _GAUGE,
        "Status of a condition: 1 true, 0 false, -1 unknown.", ("gateway", "condition")),
)  # fmt: skip

#: By metric, then by the values of its labels (none: the empty tuple).
Numbers = Mapping[str, Mapping[tuple[str, ...], float]]


def new_registry(read: Callable[[], Numbers]) -> CollectorRegistry:
    """A registry with the operator's metrics and those of its process."""
    return new_process_registry(TableCollector(TABLE, read))


def metrics_table() -> str:
    """The table of the page."""
    lines = ["| metric | kind | labels | description |", "|---|---|---|---|"]
    return "\n".join([*lines, *markdown_rows(TABLE)])
