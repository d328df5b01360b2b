"""Metrics as a table of rows, for the gateway and for the operator: values are read when they are
scraped, so the hot path pays next to nothing, and the pages are made from the same rows.

Names and units follow the Prometheus conventions. Every label has a bounded set of values: those of
its row, or as many as `values_max` allows; what is not in it is counted as `other`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from tidegate.core.histogram import Histogram

OTHER = "other"


class Kind(enum.Enum):
    """A counter only grows; a gauge is a current value; a histogram counts values by bucket."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class MergeRule(enum.Enum):
    """How a gauge of several workers is merged: the sum for amounts and rates, the highest value
    for what all of them observe alike, the lowest for what all of them need.
    """

    SUM = "sum"
    HIGHEST = "highest"
    LOWEST = "lowest"


class Row(NamedTuple):
    """One metric.

    Attributes:
        label: its label, or several as a tuple.
        values: all values of its only label, exposed from the start; empty: known only at run time.
        bounds: upper bounds of a histogram's buckets, in the unit of its name.
        merge: how a gauge of several worker processes is merged; counters and histograms are
            summed.
    """

    name: str
    kind: Kind
    help: str
    label: str | tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    merge: MergeRule = MergeRule.SUM

    @property
    def labels(self) -> tuple[str, ...]:
        """All its labels."""
        return (self.label,) if isinstance(self.label, str) else self.label


HIGHEST, LOWEST = MergeRule.HIGHEST, MergeRule.LOWEST
COUNTER, GAUGE, HISTOGRAM = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

Value = float | Histogram
#: What a metric has: one value, or one for each value of its label, or of its labels.
Given = Value | Mapping[str, Value] | Mapping[tuple[str, ...], Value]


class TableCollector(Collector):
    """Makes the table's metrics from the numbers that `read` returns, keyed by metric name.

    Args:
        values_max: values of a label that are kept apart, where its row lists none.
    """

    def __init__(
        self,
        table: Iterable[Row],
        read: Callable[[], Mapping[str, Given]],
        *,
        values_max: int | None = None,
    ) -> None:
        self._table = tuple(table)
        self._read = read
        self._values_max = values_max

    def collect(self) -> Iterator[Metric]:
        numbers = self._read()
        for row in self._table:
            yield self._family(row, numbers.get(row.name))

    def describe(self) -> Iterator[Metric]:
        """Nothing: the registry need not ask for values at registration."""
        return iter(())

    def _family(self, row: Row, given: Given | None) -> Metric:
        parts = self._parts(row, given)
        if row.kind is Kind.HISTOGRAM:
            histogram = HistogramMetricFamily(row.name, row.help, labels=row.labels)
            for names, value in parts.items():
                known = value if isinstance(value, Histogram) else Histogram(row.bounds)
                histogram.add_metric(names, _buckets(known), known.sum)
            return histogram
        family = (CounterMetricFamily if row.kind is Kind.COUNTER else GaugeMetricFamily)(
            row.name, row.help, labels=row.labels
        )
        for names, value in parts.items():
            if not isinstance(value, Histogram):
                family.add_metric(names, value)
        return family

    def _parts(self, row: Row, given: Given | None) -> dict[tuple[str, ...], Value]:
        """Values by those of the labels; a listed one that nothing is known of has 0."""
        if not isinstance(given, Mapping):
            if not row.labels:
                return {(): 0 if given is None else given}
            given = {}
        parts: dict[tuple[str, ...], Value] = {(value,): 0 for value in row.values}
        most = len(parts) if row.values else self._values_max
        other = (OTHER,) * len(row.labels)
        for name, value in sorted(given.items()):
            names = (name,) if isinstance(name, str) else tuple(name)
            if names in parts or most is None or len(parts) < most:
                parts[names] = value
            elif not isinstance(value, Histogram):
                before = parts.get(other, 0)
                parts[other] = value + (0 if isinstance(before, Histogram) else before)
        return parts


def _buckets(histogram: Histogram) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
    """Cumulative, as Prometheus has it, with the exemplars that there are."""
    buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
    total = 0
    for index, count in enumerate(histogram.counts):
        last = index == len(histogram.bounds)
        name = "+Inf" if last else str(histogram.bounds[index])
        total += count
        kept = histogram.exemplars.get(index)
        if kept is None:
            buckets.append((name, total))
        else:
            exemplar = Exemplar({"trace_id": kept.trace_id}, kept.value)
            buckets.append((name, total, exemplar))
    return buckets


def new_process_registry(collector: Collector) -> CollectorRegistry:
    """A registry with these metrics and those of the process."""
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def markdown_rows(rows: Iterable[Row]) -> Iterator[str]:
    """The rows of a page's table: metric, kind, labels, help."""
    for row in rows:
        labels = ", ".join(f"`{label}`" for label in row.labels)
        if row.values:
            labels += ": " + ", ".join(f"`{value}`" for value in row.values)
        text = row.help
        if row.kind is Kind.HISTOGRAM:
            bounds = f"{row.bounds[0]:g} to {row.bounds[-1]:,g}"
            text += f" {len(row.bounds)} buckets, {bounds}."
        yield f"| `{row.name}` | {row.kind.value} | {labels} | {text} |"
