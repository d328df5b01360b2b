"""How ``tidegate top`` looks: two tables, or one line of JSON for each reading."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from tidegate.cli.top_figures import OperationFigures, ReplicaFigures

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

_STATE_STYLES = {"ready": "green", "draining": "yellow", "not ready": "yellow", "dead": "red"}


#: From so many columns on there is room for all.
WIDE = 130
#: What the table has besides name and state, and whether a narrow one has it too.
_HEADS = (
    *(("up", False), ("conns", True), ("live", False), ("lagging", True), ("ops", False)),
    *(("entries/s", True), ("sent/s", True), ("bytes/s", False), ("p50", False), ("p99", True)),
    *(("loop", True), ("cpu", True), ("memory", False), ("redis", True), ("refused/s", False)),
    ("gaps/s", False),
)


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
    """For people; a terminal of less than `WIDE` columns gets fewer."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [_replicas(reading.replicas, width)]
    parts += [
        Text(f"{replica.url} is {replica.state}: {printable(replica.reason)}", style="yellow")
        for replica in reading.replicas
        if replica.reason
    ]
    if reading.operations:
        parts += [Text(), _operations(reading.operations)]
    parts += [
        Text(f"operations of {url}: {printable(reason)}", style="red")
        for url, reason in reading.refused
    ]
    return Group(*parts)


def _replicas(rows: Sequence[ReplicaFigures], width: int) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    heads = [head for head, narrow in _HEADS if narrow or width >= WIDE]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for head in ("replica", "state"):
        table.add_column(head, no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        cells = _cells(row)
        state = Text(row.state, style=_STATE_STYLES.get(row.state, ""))
        table.add_row(Text(printable(row.name)), state, *(cells[head] for head in heads))
    return table


def _cells(row: ReplicaFigures) -> dict[str, str | Text]:
    redis_is_well = row.redis_links != 0 and row.redis_up == row.redis_links
    redis = "-" if row.redis_links is None else f"{row.redis_up}/{row.redis_links}"
    return {
        "up": span(row.uptime_s),
        "conns": whole(row.connections),
        "live": whole(row.live),
        "lagging": _noted(whole(row.lagging), bad=bool(row.lagging)),
        "ops": whole(row.operations),
        "entries/s": number(row.entries_per_s),
        "sent/s": number(row.deliveries_per_s),
        "bytes/s": size(row.bytes_per_s),
        "p50": short(row.latency_p50_s),
        "p99": _noted(short(row.latency_p99_s), bad=(row.latency_p99_s or 0) > 0.25),
        "loop": _noted(short(row.loop_lag_p99_s), bad=(row.loop_lag_p99_s or 0) > 0.05),
        "cpu": "-" if row.cpu is None else f"{row.cpu:.0%}",
        "memory": size(row.memory_bytes),
        "redis": _noted(redis, bad=row.redis_links is not None and not redis_is_well),
        "refused/s": _noted(number(row.refusals_per_s), bad=bool(row.refusals_per_s)),
        "gaps/s": _noted(number(row.gap_frames_per_s), bad=bool(row.gap_frames_per_s)),
    }


def _operations(rows: Sequence[OperationFigures]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for head in ("operation", "status"):
        table.add_column(head, no_wrap=True, overflow="ellipsis")
    for head in ("replicas", "viewers", "live", "lagging", "entries", "entries/s", "last entry"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            Text(printable(row.operation)),
            Text(printable(row.status)),
            whole(row.replicas),
            whole(row.viewers),
            whole(row.live),
            _noted(whole(row.lagging), bad=bool(row.lagging)),
            whole(row.entries),
            number(row.entries_per_s),
            "-" if row.age_s is None else f"{span(row.age_s)} ago",
        )
    return table


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


def short(seconds: float | None) -> str:
    """A latency."""
    if seconds is None:
        return "-"
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def span(seconds: float | None) -> str:
    """A duration, in its largest unit."""
    if seconds is None:
        return "-"
    for limit, unit in ((60, "s"), (3_600, "m"), (86_400, "h")):
        if seconds < limit:
            return f"{seconds / (limit / (24 if unit == 'h' else 60)):.0f}{unit}"
    return f"{seconds / 86_400:.0f}d"
