"""The metrics of a replica, as one table; their values are read when they are scraped, so the hot
path pays nothing.

Names and units follow the Prometheus conventions. No label ever carries a user or an operation id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Row(NamedTuple):
    """One metric: its name, whether it only grows, what it says, and its label if it has one."""

    name: str
    is_counter: bool
    help: str
    label: str | None = None


TABLE: tuple[Row, ...] = (
    Row("tidegate_operations", False, "Operations followed on this replica."),
    Row("tidegate_viewers", False, "Viewers by what they are doing.", "state"),
    Row("tidegate_ring_bytes", False, "Bytes of recent frames kept for replay."),
    Row("tidegate_outbox_items", False, "Joined frames that wait for their pass."),
    Row("tidegate_joins_total", True, "Viewers that joined an operation."),
    Row("tidegate_deliveries_total", True, "Frames written to live viewers."),
    Row("tidegate_delivered_bytes_total", True, "Bytes of frames written to live viewers."),
    Row("tidegate_replayed_entries_total", True, "Entries written as history or to catch up."),
    Row("tidegate_skipped_entries_total", True, "Superseded entries lagging viewers were spared."),
    Row("tidegate_buffers_full_total", True, "Times a viewer's buffer was full."),
    Row("tidegate_gaps_total", True, "Gaps announced to an operation's live viewers."),
    Row("tidegate_malformed_entries_total", True, "Entries that could not be read."),
    Row("tidegate_closes_total", True, "Connections closed by this replica.", "code"),
    Row("tidegate_log_pages_total", True, "Pages read from streams for viewers."),
    Row("tidegate_redis_connected", False, "Whether the link to a primary is up.", "node"),
    Row("tidegate_redis_doorbell", False, "The doorbell in use: 1.", "doorbell"),
    Row("tidegate_redis_streams_leading", False, "Streams whose rings are answered at once."),
    Row("tidegate_redis_attach_backlog", False, "Streams that wait to be attached."),
    Row("tidegate_redis_events_total", True, "What happened on the Redis links.", "event"),
)

Numbers = Mapping[str, float | Mapping[str, float]]


class ReplicaCollector(Collector):
    """Makes the table's metrics from the numbers that `read` returns, keyed by metric name."""

    def __init__(self, read: Callable[[], Numbers]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        numbers = self._read()
        for row in TABLE:
            kind = CounterMetricFamily if row.is_counter else GaugeMetricFamily
            family = kind(row.name, row.help, labels=[row.label] if row.label else [])
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
