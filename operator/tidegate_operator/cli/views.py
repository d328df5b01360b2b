"""How a sweep is shown: a bar on a terminal, plain lines elsewhere, or only the report as JSON.

Progress goes to stderr, the report to stdout.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tidegate.cli.console import stderr, stdout
from tidegate_operator.redis.round import Progress as Place
from tidegate_operator.streams.memory import Level
from tidegate_operator.streams.report import SweepReport
from tidegate_operator.streams.retention import RetentionState

#: Between two plain lines.
LINE_S = 5.0

_WORDS = {
    "revived": "TTLs removed, the stream is active again",
    "shortened": "TTLs shortened, Redis is full",
    "trimmed": "streams trimmed",
    "trimmed_entries": "entries trimmed",
    "consumers": "consumers of dead pods removed",
    "groups": "groups removed",
    "slots": "slots of dead pods removed",
    "own_keys": "keys of the gateway removed",
    "slot_users": "users with slots of dead pods",
}
_REASONS = {
    "changed": "written meanwhile",
    "gone": "gone meanwhile",
    "sooner": "expires sooner",
    "watched": "a viewer subscribed meanwhile",
    "foreign": "another consumer group was created meanwhile",
    "moved": "its slot is moving",
    "fresh": "the consumer has read since",
    "more": "too large for one step, continued in the next round",
    "refused": "refused by Redis",
    "failed": "internal error: see the log",
}


class SweepView:
    """Nothing on the way; each round's report as a line of JSON."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is open."""

    def show(self, place: Place) -> None:
        """After each tick."""

    def finish(self, report: SweepReport) -> None:
        """After each round."""
        stdout().print(json.dumps(report.as_dict()), markup=False, soft_wrap=True)


class SweepLineView(SweepView):
    """A line now and then, and the report as a table."""

    def __init__(self) -> None:
        self._next = time.monotonic() + LINE_S

    def show(self, place: Place) -> None:
        """A line if it is time for one."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + LINE_S
            stderr().print(f"sweep: {_words(place)}", markup=False, soft_wrap=True)

    def finish(self, report: SweepReport) -> None:
        """The table."""
        stdout().print(table(report))


class SweepBarView(SweepView):
    """A bar over all primaries, and the report as a table."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            MofNCompleteColumn(),
            TextColumn("primaries"),
            TimeElapsedColumn(),
            console=stderr(),
            transient=True,
        )
        self._task = self._bar.add_task("connecting", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def show(self, place: Place) -> None:
        """Move the bar."""
        self._bar.update(
            self._task,
            description=f"{place.tally.streams.total():,} streams",
            total=max(place.primaries, 1),
            completed=place.done + (place.fraction if place.node else 0),
        )

    def finish(self, report: SweepReport) -> None:
        """The table, above the bar."""
        self._bar.reset(self._task, description="done", total=None)
        stdout().print(table(report))


def view_for(*, as_json: bool, is_terminal: bool) -> SweepView:
    """The view that fits."""
    if as_json:
        return SweepView()
    return SweepBarView() if is_terminal else SweepLineView()


def _words(place: Place) -> str:
    percent = 100 * place.fraction
    return (
        f"{place.tally.streams.total():,} streams, {place.phase.value} of primary "
        f"{min(place.done + 1, place.primaries)} of {place.primaries}, about {percent:.0f} %"
    )


def table(report: SweepReport) -> Table:
    """What a round saw and did."""
    title = "sweep, dry run: nothing was changed" if report.dry_run else "sweep"
    shown = Table(title=f"{title} ({report.seconds:.1f} s)", title_justify="left")
    shown.add_column("")
    shown.add_column("streams", justify="right")
    shown.add_column("TTL to be set" if report.dry_run else "TTL set", justify="right")
    tally = report.tally
    for state in RetentionState:
        ttl = f"{tally.expiring[state]:,}" if state.goes else ""
        shown.add_row(state.value, f"{tally.streams[state]:,}", ttl)
    shown.add_section()
    for label, value in _rest(report):
        shown.add_row(label, value, "")
    return shown


def _rest(report: SweepReport) -> Iterable[tuple[str, str]]:
    tally = report.tally
    for name, count in sorted(tally.done.items()):
        if count:
            yield _WORDS.get(name, name), f"{count:,}"
    for name, count in sorted(tally.left.items()):
        if count:
            yield f"skipped: {_REASONS.get(name, name)}", f"{count:,}"
    if tally.undatable:
        yield "ids without a time: kept until they end", f"{tally.undatable:,}"
    yield "dead pods are known", "yes" if report.pods_known else "no: no consumer counts as dead"
    for one in report.memory:
        if one.level is not Level.UNKNOWN:
            percent = 100 * (one.reading.ratio or 0)
            yield f"memory of {one.node}", f"{percent:.0f} % ({one.level.value})"
        if one.reading.evicts_running:
            yield f"{one.node} may evict streams at random", one.reading.policy
    if report.interruptions:
        yield "interruptions", str(report.interruptions)
