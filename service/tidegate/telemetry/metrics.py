"""The metrics of a replica, as one table; their values are read when they are scraped, so the hot
path pays nothing.

Names and units follow the Prometheus conventions. No label ever carries a user or an operation id.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Kind(enum.Enum):
    """A counter only grows; a gauge says what is now."""

    COUNTER = CounterMetricFamily
    GAUGE = GaugeMetricFamily


class Row(NamedTuple):
    """One metric: its name and kind, what it says, and its label if it has one."""

    name: str
    kind: Kind
    help: str
    label: str | None = None


TABLE: tuple[Row, ...] = (
    Row("tidegate_operations", Kind.GAUGE, "Operations followed on this replica."),
    Row("tidegate_connections", Kind.GAUGE, "Open connections of viewers."),
    Row("tidegate_refusals_total", Kind.COUNTER, "Connections refused at the door.", "reason"),
    Row("tidegate_guests", Kind.GAUGE, "Connections of known users."),
    Row("tidegate_slots_held", Kind.GAUGE, "Connection slots that this replica holds."),
    Row("tidegate_slot_events_total", Kind.COUNTER, "What happened to slots.", "event"),
    Row("tidegate_lease_held", Kind.GAUGE, "Whether this replica's lease holds."),
    Row("tidegate_pods", Kind.GAUGE, "Replicas that live, as this one sees it."),
    Row("tidegate_viewers", Kind.GAUGE, "Viewers by what they are doing.", "state"),
    Row("tidegate_ring_bytes", Kind.GAUGE, "Bytes of recent frames kept for replay."),
    Row("tidegate_outbox_items", Kind.GAUGE, "Joined frames that wait for their pass."),
    Row("tidegate_joins_total", Kind.COUNTER, "Viewers that joined an operation."),
    Row("tidegate_deliveries_total", Kind.COUNTER, "Frames written to live viewers."),
    Row("tidegate_delivered_bytes_total", Kind.COUNTER, "Bytes of frames written to live viewers."),
    Row(
        "tidegate_replayed_entries_total",
        Kind.COUNTER,
        "Entries written as history or to catch up.",
    ),
    Row(
        "tidegate_skipped_entries_total",
        Kind.COUNTER,
        "Superseded entries lagging viewers were spared.",
    ),
    Row("tidegate_buffers_full_total", Kind.COUNTER, "Times a viewer's buffer was full."),
    Row("tidegate_gaps_total", Kind.COUNTER, "Gaps announced to an operation's live viewers."),
    Row("tidegate_malformed_entries_total", Kind.COUNTER, "Entries that could not be read."),
    Row("tidegate_closes_total", Kind.COUNTER, "Connections closed by this replica.", "code"),
    Row("tidegate_log_pages_total", Kind.COUNTER, "Pages read from streams for viewers."),
    Row("tidegate_redis_connected", Kind.GAUGE, "Whether the link to a primary is up.", "node"),
    Row("tidegate_redis_doorbell", Kind.GAUGE, "The doorbell in use: 1.", "doorbell"),
    Row("tidegate_redis_streams_leading", Kind.GAUGE, "Streams whose rings are answered at once."),
    Row("tidegate_redis_attach_backlog", Kind.GAUGE, "Streams that wait to be attached."),
    Row("tidegate_redis_events_total", Kind.COUNTER, "What happened on the Redis links.", "event"),
)

Numbers = Mapping[str, float | Mapping[str, float]]


class ReplicaCollector(Collector):
    """Makes the table's metrics from the numbers that `read` returns, keyed by metric name."""

    def __init__(self, read: Callable[[], Numbers]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        numbers = self._read()
        for row in TABLE:
            family = row.kind.value(row.name, row.help, labels=[row.label] if row.label else [])
            value = numbers.get(row.name, 0)
            if isinstance(value, Mapping):
                for label, part in sorted(value.items()):
                    family.add_metric([label], part)
            elif row.label is None:
                family.add_metric([], value)
            yield family

    def describe(self) -> Iterator[Metric]:
        """Nothing: the registry need not ask for values at registration."""
        return iter(())


def new_registry(read: Callable[[], Numbers]) -> CollectorRegistry:
    """A registry with the replica's metrics and those of its process."""
    registry = CollectorRegistry()
    registry.register(ReplicaCollector(read))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
