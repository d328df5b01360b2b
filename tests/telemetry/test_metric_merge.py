"""What several workers have counted, as one exposition that Prometheus accepts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from tidegate.core.histogram import Histogram
from tidegate.telemetry.metric_merge import (
    FamilyRecord,
    Merged,
    MergedMetrics,
    records,
    rules_of,
)
from tidegate.telemetry.metric_table import (
    COUNTER,
    GAUGE,
    HIGHEST,
    HISTOGRAM,
    LOWEST,
    MergeRule,
    Row,
    TableCollector,
    new_process_registry,
)
from tidegate.telemetry.metrics import RESTARTS, TABLE, new_registry

ROWS = (
    Row("t_viewers", GAUGE, "Viewers.", "state", ("live", "lagging")),
    Row("t_sent_total", COUNTER, "Sent."),
    Row("t_late_seconds", HISTOGRAM, "Late.", bounds=(0.1, 1.0)),
    Row("t_memory_bytes", GAUGE, "Seen by all.", merge=HIGHEST),
    Row("t_lease_held", GAUGE, "Needed by all.", merge=LOWEST),
    Row("t_by_node_total", COUNTER, "By node.", "node"),
)


def worker(sent: int, *late: float, **more: Any) -> list[FamilyRecord]:
    """One worker's metrics, as they arrive from its process."""
    histogram = Histogram((0.1, 1.0))
    for value in late:
        histogram.observe(value)
    numbers: dict[str, Any] = {
        "t_sent_total": sent,
        "t_late_seconds": histogram,
        "t_lease_held": 1,
        "t_memory_bytes": 100,
        "t_viewers": {"live": sent},
        **more,
    }
    found = records(TableCollector(ROWS, lambda: numbers))
    return msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=list[FamilyRecord])


def values(merged: MergedMetrics) -> Mapping[str, float]:
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for metric in merged.together()
        for sample in metric.samples
    }


def test_counters_and_histograms_are_summed_and_gauges_by_their_rule() -> None:
    merged = MergedMetrics(rules_of(ROWS))
    merged.update(1, worker(3, 0.05, 0.5, t_memory_bytes=100, t_by_node_total={"a": 1}))
    merged.update(2, worker(4, 5.0, t_memory_bytes=130, t_lease_held=0, t_by_node_total={"b": 2}))
    assert values(merged) == {
        "t_viewers live": 7,
        "t_viewers lagging": 0,
        "t_sent_total": 7,
        "t_late_seconds_bucket 0.1": 1,
        "t_late_seconds_bucket 1.0": 2,
        "t_late_seconds_bucket +Inf": 3,
        "t_late_seconds_count": 3,
        "t_late_seconds_sum": 5.55,
        "t_memory_bytes": 130,
        "t_lease_held": 0,
        "t_by_node_total a": 1,
        "t_by_node_total b": 2,
    }


def test_what_a_dead_worker_has_counted_stays_and_what_it_had_does_not() -> None:
    merged = MergedMetrics(rules_of(ROWS))
    merged.update(1, worker(3, 0.5))
    merged.update(2, worker(4))
    for _ in range(2):
        before = values(merged)
        merged.ended(1)
        merged.ended(1)  # nothing new
        after = values(merged)
        for name in ("t_sent_total", "t_late_seconds_count", "t_late_seconds_bucket 1.0"):
            assert after[name] == before[name]
        assert after["t_viewers live"] == 4
        merged.update(1, worker(10, 0.5, 0.5))
    assert values(merged)["t_sent_total"] == 3 + 10 + 4 + 10
    assert values(merged)["t_viewers live"] == 14


def test_a_worker_that_does_not_answer_is_taken_as_it_was() -> None:
    merged = MergedMetrics(rules_of(ROWS))
    merged.update(1, worker(3))
    merged.update(2, worker(4))
    merged.update(2, worker(5))
    assert values(merged)["t_sent_total"] == 8
    assert values(merged)["t_viewers live"] == 8


def test_without_a_worker_there_is_what_the_supervisor_has() -> None:
    own = records(TableCollector([RESTARTS], lambda: {RESTARTS.name: 2}))
    [metric] = MergedMetrics({}).together(own)
    assert [(one.name, one.value) for one in metric.samples] == [(RESTARTS.name, 2)]


def test_the_gateway_s_whole_table_is_a_legal_exposition() -> None:
    late = Histogram(next(row.bounds for row in TABLE if row.kind is HISTOGRAM))
    late.observe(0.001)
    late.explain(0.001, "5" * 32)
    numbers: dict[str, Any] = {
        "tidegate_publish_to_socket_seconds": late,
        "tidegate_build_info": {"1.2.3": 1},
        "tidegate_workers": 1,
        "tidegate_redis_connected": {"a:1": 1},
    }
    merged = MergedMetrics(rules_of(TABLE))
    for number in (1, 2, 3):
        merged.update(number, records(new_registry(lambda: numbers)))
    merged.ended(3)
    own = records(new_process_registry(TableCollector([RESTARTS], lambda: {RESTARTS.name: 1})))
    together = Merged(merged.together(own))

    text = generate_latest(together).decode()
    found = {sample.name: sample.value for family in read_text(text) for sample in family.samples}
    assert text.count('tidegate_build_info{version="1.2.3"} 1.0') == 1
    assert found["tidegate_workers"] == 2
    assert found[RESTARTS.name] == 1
    assert found["tidegate_publish_to_socket_seconds_count"] == 3
    read: Any = read_openmetrics
    write: Any = openmetrics.generate_latest
    families = list(read(write(together).decode()))
    assert {family.name for family in families} >= {
        row.name.removesuffix("_total") for row in TABLE
    }
    assert any(sample.exemplar for family in families for sample in family.samples)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_only_gauges_have_a_rule(row: Row) -> None:
    assert row.kind is GAUGE or row.merge is MergeRule.SUM
