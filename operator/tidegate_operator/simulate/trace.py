"""A load trace: what a gateway's load was, row by row; from a file, or one of those known by name.

CSV with a header line, or JSON lines; a file whose first line begins with `{` is the latter.

| column | unit | without it |
|---|---|---|
| `t` | seconds, growing | refused |
| `connections` | open connections over all pods | refused |
| `deliveries_per_s` | frames sent per second over all pods | 0 |
| `loop_lag_ms` | event-loop lag of each pod | 1 |
| `undispatched` | entries that wait for dispatch | 0 |
| `leases` | part of the pods whose figures can be read, 0 to 1 | 1 |

An empty cell (in JSON: null) means that the figure was not known then: the load goes on as it was,
and the operator does not see it. A row holds until the next one.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tidegate.model.errors import InvalidInput

ROWS_MAX = 100_000
TIME_MAX_S = 31 * 86_400.0
FIGURE_MAX = 1e9
COLUMNS = ("t", "connections", "deliveries_per_s", "loop_lag_ms", "undispatched", "leases")


class Point(NamedTuple):
    """The load from `t_s` on. `leases` 0: the operator sees nothing at all."""

    t_s: float
    connections: int
    deliveries_per_s: float = 0.0
    loop_lag_ms: float = 1.0
    undispatched: int | None = 0
    leases: float = 1.0


def read_trace(text: str) -> tuple[Point, ...]:
    """The points of a trace file's text; at least two, `t` growing.

    Raises:
        InvalidInput: `field` names the line and the column.
    """
    head = text.lstrip("\ufeff \t\r\n")
    rows = _json_rows(head) if head.startswith("{") else _csv_rows(head)
    points: list[Point] = []
    for line, row in rows:
        if len(points) >= ROWS_MAX:
            raise InvalidInput(f"line {line}", f"a trace has at most {ROWS_MAX} rows")
        point = _point(line, row, points[-1] if points else None)
        if points and point.t_s <= points[-1].t_s:
            raise InvalidInput(f"line {line}, t", f"must be above {points[-1].t_s:g}")
        points.append(point)
    if len(points) < 2:
        raise InvalidInput("trace", "needs at least two rows: the last one is its end")
    return tuple(points)


def _csv_rows(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=None), skipinitialspace=True, strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        unknown = [name for name in names if name not in COLUMNS]
        if unknown or not {"t", "connections"} <= set(names) or len(set(names)) < len(names):
            raise InvalidInput(
                "line 1",
                f"the header must name t, connections, and what else there is of "
                f"{', '.join(COLUMNS[2:])}, each once"
                + (f"; not {unknown[0][:40]!r}" if unknown else ""),
            )
        for cells in reader:
            if len(cells) > len(names):
                raise InvalidInput(f"line {reader.line_num}", "has more cells than the header")
            if cells:
                yield reader.line_num, dict(zip(names, cells, strict=False))
    except csv.Error as error:
        raise InvalidInput(f"line {reader.line_num}", str(error)) from None


def _json_rows(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise InvalidInput(f"line {number}", "is not JSON") from None
        if not isinstance(row, dict):
            raise InvalidInput(f"line {number}", "must be an object")
        if unknown := [name for name in row if name not in COLUMNS]:
            raise InvalidInput(
                f"line {number}", f"{str(unknown[0])[:40]!r} is none of {', '.join(COLUMNS)}"
            )
        yield number, row


def _point(line: int, row: Mapping[str, Any], before: Point | None) -> Point:
    if row.get("t") in (None, ""):
        raise InvalidInput(f"line {line}, t", "is missing")
    if "connections" not in row:
        raise InvalidInput(f"line {line}, connections", "is missing; null if it was not known")
    last = before or Point(0.0, 0)
    blank = any(row.get(name, 0) in (None, "") for name in ("connections", *COLUMNS[2:4]))
    undispatched = _figure(line, row, "undispatched", last.undispatched)
    return Point(
        t_s=_number(line, "t", row["t"], TIME_MAX_S),
        connections=round(_figure(line, row, "connections", last.connections) or 0),
        deliveries_per_s=_figure(line, row, "deliveries_per_s", last.deliveries_per_s, 0.0) or 0.0,
        loop_lag_ms=_figure(line, row, "loop_lag_ms", last.loop_lag_ms, 1.0) or 0.0,
        undispatched=None if row.get("undispatched", 0) in (None, "") else round(undispatched or 0),
        leases=0.0 if blank else _figure(line, row, "leases", 1.0, 1.0, most=1.0) or 0.0,
    )


def _figure(
    line: int,
    row: Mapping[str, Any],
    name: str,
    when_blank: float | None,
    when_absent: float = 0.0,
    *,
    most: float = FIGURE_MAX,
) -> float | None:
    if name not in row:
        return when_absent
    if row[name] in (None, ""):
        return when_blank
    return _number(line, name, row[name], most)


def _number(line: int, name: str, value: Any, most: float) -> float:
    allowed = f"must be a number from 0 to {most:g}"
    if isinstance(value, bool) or not isinstance(value, str | int | float) or len(str(value)) > 40:
        raise InvalidInput(f"line {line}, {name}", allowed)
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise InvalidInput(f"line {line}, {name}", f"{allowed}, not {value!r}") from None
    if not (math.isfinite(number) and 0 <= number <= most):
        raise InvalidInput(f"line {line}, {name}", f"{allowed}, not {value!r}")
    return number


def built_in(name: str) -> tuple[Point, ...]:
    """A trace by its name, one of `BUILT_IN`; for 10,000 connections per pod."""
    return BUILT_IN[name]()


def _every(step_s: int, end_s: int) -> Sequence[int]:
    return range(0, end_s + 1, step_s)


def _step() -> tuple[Point, ...]:
    """18,000 for ten minutes, then 55,000 for an hour, then 18,000 again."""
    return (Point(0, 18_000), Point(600, 55_000), Point(4_200, 18_000), Point(10_800, 18_000))


def _ramp() -> tuple[Point, ...]:
    """From 10,000 to 80,000 in an hour, and back in another."""
    return tuple(
        Point(t, round(10_000 + 70_000 * (1 - abs(t - 3_600) / 3_600)))
        if t <= 7_200
        else Point(t, 10_000)
        for t in _every(30, 12_600)
    )


def _flash_crowd() -> tuple[Point, ...]:
    """12,000, ten times as many within a minute; gone by halves every five minutes."""
    rise = (Point(900 + 10 * n, 12_000 + 18_000 * n) for n in range(1, 7))
    fall = (Point(990 + t, 12_000 + round(108_000 * 0.5 ** (t / 300))) for t in _every(30, 9_000))
    return (Point(0, 12_000), *rise, *fall)


def _daily_wave() -> tuple[Point, ...]:
    """Two days between 8,000 at night and 72,000 at noon, with a ripple of three per cent."""
    points = []
    for t in _every(120, 2 * 86_400):
        day = (1 - math.cos(2 * math.pi * t / 86_400)) / 2
        ripple = 1 + 0.03 * math.sin(2 * math.pi * t / 1_260)
        points.append(Point(t, round((8_000 + 64_000 * day**1.5) * ripple)))
    return tuple(points)


def _flapping_metric() -> tuple[Point, ...]:
    """A figure that jumps between 15,000 and 45,000 every thirty seconds."""
    return tuple(Point(t, 45_000 if t // 30 % 2 else 15_000) for t in _every(30, 7_200))


def _missing_metric() -> tuple[Point, ...]:
    """A load that falls and rises while all figures are missing, then half of them, then none."""
    points = []
    for t in _every(30, 10_800):
        leases = 0.0 if 1_800 <= t < 3_600 else 0.5 if 3_600 <= t < 4_200 else 1.0
        load = 50_000 if t < 1_800 else 20_000 if t < 3_000 else 50_000 if t < 4_200 else 20_000
        points.append(Point(t, load, leases=leases))
    return tuple(points)


BUILT_IN = {
    "step": _step,
    "ramp": _ramp,
    "flash-crowd": _flash_crowd,
    "daily-wave": _daily_wave,
    "flapping-metric": _flapping_metric,
    "missing-metric": _missing_metric,
}
