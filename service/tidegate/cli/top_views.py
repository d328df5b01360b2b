"""How ``tidegate top`` looks: two tables, or one line of JSON for each reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from tidegate.cli.times import age, duration
from tidegate.cli.top_figures import OperationFigures, ReplicaFigures
from tidegate.model.folded_state import NOT_STARTED, UNKNOWN

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

_STATE_STYLES = {"ready": "green", "draining": "yellow", "not ready": "yellow", "dead": "red"}


#: What the tables have besides their first columns, each with how soon a narrow terminal goes
#: without it: 0 stays.
_HEADS = {
    "up": 6,
    "conns": 0,
    "live": 8,
    "lagging": 1,
    "ops": 7,
    "entries/s": 4,
    "sent/s": 3,
    "bytes/s": 10,
    "p50": 9,
    "p99": 1,
    "loop": 3,
    "cpu": 2,
    "memory": 8,
    "redis": 2,
    "refused/s": 11,
    "gaps/s": 11,
}
_OPERATION_HEADS = {
    "replicas": 5,
    "viewers": 0,
    "live": 6,
    "lagging": 2,
    "entries": 4,
    "entries/s": 3,
    "last entry": 1,
}
#: A name is shortened to no less.
NAME_MIN_COLUMNS = 8


class TopReading(NamedTuple):
    """What is shown at once. `refused`: replicas that do not tell their operations, and why."""

    replicas: Sequence[ReplicaFigures]
    operations: Sequence[OperationFigures]
    refused: Sequence[tuple[str, str]]


def as_json(reading: TopReading) -> dict[str, Any]:
    """For programs; seconds, bytes, and null for what cannot be told."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "replicas": [replica._asdict() for replica in reading.replicas],
        "operations": [operation._asdict() for operation in reading.operations],
        "refused": [{"url": url, "reason": reason} for url, reason in reading.refused],
    }


def as_tables(reading: TopReading, width: int) -> RenderableType:
    """For people, within ``width`` columns: where there is no room for all, some are left out."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [_replicas(reading.replicas, width)]
    parts += [
        Text(f"{replica.url} is {replica.state}: {printable(replica.reason)}", style="yellow")
        for replica in reading.replicas
        if replica.reason
    ]
    if reading.operations:
        parts += [Text(), _operations(reading.operations, width)]
    parts += [
        Text(f"operations of {url}: {printable(reason)}", style="red")
        for url, reason in reading.refused
    ]
    return Group(*parts)


def _replicas(rows: Sequence[ReplicaFigures], width: int) -> RenderableType:
    from rich.text import Text

    firsts = [
        (Text(printable(row.name)), Text(row.state, style=_STATE_STYLES.get(row.state, "")))
        for row in rows
    ]
    return _table(("replica", "state"), firsts, [_cells(row) for row in rows], _HEADS, width)


def _table(
    names: tuple[str, str],
    firsts: Sequence[tuple[Text, Text]],
    rows: Sequence[Mapping[str, str | Text]],
    heads: Mapping[str, int],
    width: int,
) -> RenderableType:
    """Two columns of names, and of the others those for which there is room."""
    from rich.table import Table

    widths = {
        head: max([len(head), *(len(row[head]) for row in rows)], default=len(head))
        for head in heads
    }
    # The first column may be shortened, the second is short or may be, too.
    second = min(max([len(names[1]), *(len(pair[1]) for pair in firsts)]), 2 * NAME_MIN_COLUMNS)
    first = min(max([len(names[0]), *(len(pair[0]) for pair in firsts)]), 3 * NAME_MIN_COLUMNS)
    shown = list(heads)
    for head in sorted(heads, key=lambda name: -heads[name]):
        if first + second + 2 + sum(widths[name] + 2 for name in shown) <= width:
            break
        if heads[head]:
            shown.remove(head)
    left = width - sum(widths[name] + 2 for name in shown) - second - 2
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column(
        names[0], no_wrap=True, overflow="ellipsis", max_width=max(left, NAME_MIN_COLUMNS)
    )
    table.add_column(names[1], no_wrap=True, overflow="ellipsis", max_width=second)
    for head in shown:
        table.add_column(head, justify="right", no_wrap=True)
    for pair, row in zip(firsts, rows, strict=True):
        table.add_row(*pair, *(row[head] for head in shown))
    return table


def _cells(row: ReplicaFigures) -> dict[str, str | Text]:
    redis_is_well = row.redis_links != 0 and row.redis_up == row.redis_links
    redis = "-" if row.redis_links is None else f"{row.redis_up}/{row.redis_links}"
    return {
        "up": duration(row.uptime_s),
        "conns": whole(row.connections),
        "live": whole(row.live),
        "lagging": _noted(whole(row.lagging), bad=bool(row.lagging)),
        "ops": whole(row.operations),
        "entries/s": number(row.entries_per_s),
        "sent/s": number(row.deliveries_per_s),
        "bytes/s": size(row.bytes_per_s),
        "p50": duration(row.latency_p50_s),
        "p99": _noted(duration(row.latency_p99_s), bad=(row.latency_p99_s or 0) > 0.25),
        "loop": _noted(duration(row.loop_lag_p99_s), bad=(row.loop_lag_p99_s or 0) > 0.05),
        "cpu": "-" if row.cpu is None else f"{row.cpu:.0%}",
        "memory": size(row.memory_bytes),
        "redis": _noted(redis, bad=row.redis_links is not None and not redis_is_well),
        "refused/s": _noted(number(row.refusals_per_s), bad=bool(row.refusals_per_s)),
        "gaps/s": _noted(number(row.gap_frames_per_s), bad=bool(row.gap_frames_per_s)),
    }


def _operations(rows: Sequence[OperationFigures], width: int) -> RenderableType:
    from rich.text import Text

    firsts = [
        (Text(printable(row.operation)), Text(printable(_status(row.status)))) for row in rows
    ]
    cells: list[dict[str, str | Text]] = [
        {
            "replicas": whole(row.replicas),
            "viewers": whole(row.viewers),
            "live": whole(row.live),
            "lagging": _noted(whole(row.lagging), bad=bool(row.lagging)),
            "entries": whole(row.entries),
            "entries/s": number(row.entries_per_s),
            "last entry": age(row.age_s),
        }
        for row in rows
    ]
    return _table(("operation", "status"), firsts, cells, _OPERATION_HEADS, width)


def _status(status: str) -> str:
    """As `tidegate watch` says it."""
    return NOT_STARTED if status == UNKNOWN else status


def _noted(text: str, *, bad: bool) -> Text:
    from rich.text import Text

    return Text(text, style="bold red" if bad else "")


def printable(text: str, most_chars: int = 200) -> str:
    """Text from elsewhere, without what steers a terminal, and not too long."""
    return "".join(c if c.isprintable() else "?" for c in text[:most_chars])


def whole(value: int | None) -> str:
    """A count; a dash for what cannot be told."""
    return "-" if value is None else f"{value:,}"


def number(value: float | None) -> str:
    """A rate."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 or value == 0 else f"{value:.1f}"


def size(value: float | None) -> str:
    """Bytes, in the unit that keeps them short."""
    if value is None:
        return "-"
    for unit in ("B", "KB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} GB"
