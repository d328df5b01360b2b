"""Merges the metrics of several worker processes: counters and histograms are summed, gauges are
merged by the rule of their row.

When a worker has exited, its counters as of its last scrape are kept, so that no counter decreases.
A worker that does not respond is represented by its last scrape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample

from tidegate.telemetry.metric_table import MergeRule, Row

#: Metrics of the client library that are not summed.
PROCESS_RULES: Mapping[str, MergeRule] = {
    "process_start_time_seconds": MergeRule.LOWEST,
    "python_info": MergeRule.HIGHEST,
}
_LASTING = ("counter", "histogram")


class SampleRecord(msgspec.Struct, frozen=True, array_like=True):
    """One line of an exposition. `exemplar`: the labels and the value of its exemplar."""

    name: str
    labels: dict[str, str]
    value: float
    exemplar: tuple[dict[str, str], float] | None = None


class FamilyRecord(msgspec.Struct, frozen=True, array_like=True):
    """One metric, in a form that can be sent to another process."""

    name: str
    kind: str
    help: str
    samples: list[SampleRecord]


def records(collector: Collector) -> list[FamilyRecord]:
    """The current metrics of a registry or collector."""
    return [
        FamilyRecord(
            family.name,
            family.type,
            family.documentation,
            [
                SampleRecord(sample.name, dict(sample.labels), sample.value, _said(sample.exemplar))
                for sample in family.samples
            ],
        )
        for family in collector.collect()
    ]


def rules_of(table: Iterable[Row]) -> dict[str, MergeRule]:
    """The rule of each metric that is not summed, by name."""
    return {
        **PROCESS_RULES,
        **{row.name: row.merge for row in table if row.merge is not MergeRule.SUM},
    }


class MergedMetrics:
    """Keeps the last scrape of each worker, and merges them."""

    def __init__(self, rules: Mapping[str, MergeRule]) -> None:
        self._rules = rules
        self._last: dict[int, Sequence[FamilyRecord]] = {}
        #: Sums of the workers that have exited; only counters and histograms.
        self._ended: list[FamilyRecord] = []

    def update(self, worker: int, families: Sequence[FamilyRecord]) -> None:
        """Store the latest scrape of a worker."""
        self._last[worker] = families

    def ended(self, worker: int) -> None:
        """A worker has exited; the next one with this number starts at zero."""
        lasting = [one for one in self._last.pop(worker, ()) if one.kind in _LASTING]
        bare = [
            msgspec.structs.replace(
                one, samples=[msgspec.structs.replace(two, exemplar=None) for two in one.samples]
            )
            for one in lasting
        ]
        self._ended = list(self._sum([self._ended, bare]))

    def together(self, own: Sequence[FamilyRecord] = ()) -> list[Metric]:
        """The merged metrics of all workers, and `own`, those of the supervisor."""
        return [_metric(family) for family in self._sum([*self._last.values(), self._ended, own])]

    def _sum(self, sources: Iterable[Sequence[FamilyRecord]]) -> Iterator[FamilyRecord]:
        found: dict[str, list[FamilyRecord]] = {}
        for source in sources:
            for family in source:
                found.setdefault(family.name, []).append(family)
        for name, families in found.items():
            rule = self._rules.get(name, MergeRule.SUM)
            merged: dict[tuple[str, frozenset[tuple[str, str]]], SampleRecord] = {}
            for family in families:
                for sample in family.samples:
                    key = (sample.name, frozenset(sample.labels.items()))
                    before = merged.get(key)
                    merged[key] = sample if before is None else _merge(rule, before, sample)
            first = families[0]
            yield FamilyRecord(name, first.kind, first.help, list(merged.values()))


class Merged(Collector):
    """A collector of metrics that have been merged."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterator[Metric]:
        return iter(self._metrics)


def _merge(rule: MergeRule, one: SampleRecord, other: SampleRecord) -> SampleRecord:
    value = _OF[rule]((one.value, other.value))
    return SampleRecord(one.name, one.labels, value, one.exemplar or other.exemplar)


_OF: Mapping[MergeRule, Callable[[tuple[float, float]], float]] = {
    MergeRule.SUM: sum,
    MergeRule.HIGHEST: max,
    MergeRule.LOWEST: min,
}


def _metric(family: FamilyRecord) -> Metric:
    metric = Metric(family.name, family.help, family.kind)
    metric.samples = [
        Sample(
            one.name,
            one.labels,
            one.value,
            None,
            None if one.exemplar is None else Exemplar(*one.exemplar),
        )
        for one in family.samples
    ]
    return metric


def _said(exemplar: Exemplar | None) -> tuple[dict[str, str], float] | None:
    return None if exemplar is None else (dict(exemplar.labels), exemplar.value)
