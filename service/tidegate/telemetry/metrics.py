"""Prometheus metrics, read from the counters of the parts when they are scraped: the hot path pays nothing here.

The table of the metrics of this release is `collect` itself. No label ever carries a user or an operation id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class HubNumbers(Protocol):
    """What the hub holds now."""

    operations: int
    live: int
    lagging: int
    catching_up: int
    ring_bytes: int
    outbox_items: int


class Totals(Protocol):
    """What the hub has done since the start."""

    deliveries: int
    bytes_sent: int
    replayed_entries: int
    skipped: int
    lagged: int
    joins: int
    gaps: dict[str, int]
    closes: dict[str, int]


class LinkNumbers(Protocol):
    """What one Redis link is doing."""

    node: str
    connected: bool
    doorbell: str
    watches: int
    leading: int
    attach_backlog: int
    counts: dict[str, int]
