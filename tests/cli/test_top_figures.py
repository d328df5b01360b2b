"""What lies between two samples, and how it is written."""

from __future__ import annotations

import math

import pytest
from rich.console import Console

from tidegate.cli.top_figures import (
    OperationFigures,
    figures,
    operation_figures,
    per_s,
    quantile,
)
from tidegate.cli.top_samples import OperationRow, ReplicaSample, read_metrics
from tidegate.cli.top_views import TopReading, as_tables, number, size
from tidegate.model.operation_order import OperationOrder

NAME = "tidegate_publish_to_socket_seconds"
URL = "http://127.0.0.1:9090"


def sample(
    at_s: float, *rows: OperationRow, started: float = 1.0, **values: float
) -> ReplicaSample:
    return ReplicaSample(
        URL,
        at_s,
        "ready",
        values={"process_start_time_seconds": started, **values},
        operations=rows,
    )


def observed(at_s: float, *counts: tuple[float, float]) -> ReplicaSample:
    return ReplicaSample(URL, at_s, "ready", buckets={NAME: counts}, values={"x": 1})


def test_a_rate_is_the_increase_over_the_time() -> None:
    assert per_s(sample(10, x=5), sample(12, x=11), "x") == 3


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (None, sample(12, x=11)),
        (sample(10, x=11), sample(12, x=5)),  # it has started anew
        (sample(12, x=1), sample(12, x=5)),
        (ReplicaSample(URL, 10, "dead"), sample(12, x=5)),
    ],
)
def test_a_rate_that_cannot_be_told_is_none(
    before: ReplicaSample | None, now: ReplicaSample
) -> None:
    assert per_s(before, now, "x") is None


def test_another_process_has_no_rates_yet() -> None:
    before = sample(10, started=1, tidegate_entries_total=0)
    now = sample(12, started=2, tidegate_entries_total=100)

    assert figures(before, now).entries_per_s is None


def test_a_quantile_is_what_prometheus_says() -> None:
    before = observed(1, (0.1, 10), (0.5, 10), (math.inf, 10))
    now = observed(2, (0.1, 60), (0.5, 100), (math.inf, 110))

    # Of 100: 50 up to 0.1, 90 up to 0.5.
    assert quantile(0.5, before, now, NAME) == pytest.approx(0.1)
    assert quantile(0.7, before, now, NAME) == pytest.approx(0.1 + 0.4 * 20 / 40)
    assert quantile(0.99, before, now, NAME) == 0.5


def test_a_quantile_of_nothing_is_none() -> None:
    now = observed(2, (0.1, 5), (math.inf, 5))

    assert quantile(0.5, now, now, NAME) is None
    assert quantile(0.5, None, now, NAME) is None
    assert quantile(0.5, observed(1, (0.1, 9), (math.inf, 9)), now, NAME) is None


def test_histograms_of_several_nodes_are_one() -> None:
    values, buckets = read_metrics(
        "# TYPE tidegate_loop_lag_seconds histogram\n"
        'tidegate_loop_lag_seconds_bucket{le="+Inf",a="1"} 3\n'
        'tidegate_loop_lag_seconds_bucket{le="+Inf",a="2"} 4\n'
        'tidegate_connections{kind="ws"} 2\n'
        "tidegate_ready 1\n"
    )

    assert buckets["tidegate_loop_lag_seconds"] == ((math.inf, 7.0),)
    assert values == {"tidegate_connections{ws}": 2.0, "tidegate_ready": 1.0}


ALL_HEADS = (
    *("replica", "state", "up", "conns", "live", "lagging", "ops", "entries/s", "sent/s"),
    *("bytes/s", "p50", "p99", "loop", "cpu", "memory", "redis", "refused/s", "gaps/s"),
)


def row(operation: str, entries: int, live: int = 1, lagging: int = 0) -> OperationRow:
    return OperationRow(operation, "running", "5-0", entries, live, lagging, 0)


def test_an_operation_on_two_replicas_is_one_line() -> None:
    here = [sample(10, row("a", 10)), sample(10, row("a", 4, live=3))]
    other = ReplicaSample("http://127.0.0.1:9091", 12, "ready", operations=(row("a", 14, live=3),))
    now = [sample(12, row("a", 30)), other]

    found = operation_figures(here[:1], now, OperationOrder.VIEWERS)

    assert len(found) == 1
    assert (found[0].replicas, found[0].viewers, found[0].entries) == (2, 4, 30)
    assert found[0].entries_per_s == 10


@pytest.mark.parametrize(
    ("order", "first"),
    [
        (OperationOrder.VIEWERS, "crowded"),
        (OperationOrder.LAGGING, "slow"),
        (OperationOrder.ENTRIES, "busy"),
    ],
)
def test_operations_come_in_the_order_that_was_asked_for(order: OperationOrder, first: str) -> None:
    before = [sample(10, row("crowded", 5), row("slow", 5), row("busy", 5))]
    now = [sample(12, row("crowded", 6, live=9), row("slow", 7, lagging=2), row("busy", 99))]

    assert operation_figures(before, now, order)[0].operation == first


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_tables_fit_and_nothing_of_others_steers_the_terminal(width: int) -> None:
    hostile = "\x1b[2J\n[red]x[/red]" + "y" * 300
    dead = ReplicaSample(URL, 3, "dead", "refused \x1b]0;title\x07")
    line = OperationFigures(hostile, hostile, 1, 1, 1, 0, 1, None, 90_000.0)
    console = Console(width=width, force_terminal=True, color_system=None)
    with console.capture() as capture:
        replicas = [figures(None, dead), figures(None, sample(1, x=1))]
        console.print(as_tables(TopReading(replicas, [line], [(URL, hostile)]), width))
    text = capture.get()

    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]x[/red]" in text
    assert all(len(written) <= width for written in text.splitlines())
    heads = text.splitlines()[0].split()
    assert heads[:2] == ["replica", "state"]
    assert "conns" in heads
    assert "p99" in heads
    assert ("gaps/s" in heads) is (width == 200)
    assert heads == [head for head in ALL_HEADS if head in heads]


def test_figures_are_short() -> None:
    assert [number(v) for v in (None, 0, 0.04, 12.34, 1234.5)] == ["-", "0", "0.0", "12.3", "1,234"]
    assert [size(v) for v in (None, 12, 2048, 5e6, 9e9)] == ["-", "12 B", "2 KB", "5 MB", "8.4 GB"]
