"""What ``tidegate watch`` shows: JSON lines, plain lines, or a live bar on a terminal.

A view gets each frame after ``Watching`` took it in, and notes about the connection.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import typer

from tidegate.cli.console import stderr, stdout
from tidegate.cli.times import age, duration, moment
from tidegate.client.watching import Watching, milliseconds, printable
from tidegate.model.folded_state import NOT_STARTED, UNKNOWN, is_entry

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live


class WatchView(Protocol):
    """Shown while it is entered; the live one owns the terminal for that long."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    def frame(self, text: str, frame: Mapping[str, Any], /) -> None: ...
    def note(self, text: str) -> None: ...


class JsonView:
    """Each frame as it came, one per line; nothing else on stdout."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def frame(self, text: str, frame: Mapping[str, Any]) -> None:
        # A frame that was written with line breaks would not be one line.
        typer.echo(text if "\n" not in text else json.dumps(frame, separators=(",", ":")))

    def note(self, text: str) -> None:
        stderr().print(text, style="dim", markup=False, soft_wrap=True)


class LineView:
    """One readable line per frame, for pipes and logs."""

    def __init__(self, watching: Watching) -> None:
        self._watching = watching

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def frame(self, _text: str, frame: Mapping[str, Any]) -> None:
        typer.echo(describe(frame, self._watching))

    def note(self, text: str) -> None:
        stderr().print(text, style="dim", markup=False, soft_wrap=True)


class LiveView:
    """A bar that moves in place; connection notes and gaps scroll by above it."""

    def __init__(self, watching: Watching) -> None:
        self._watching = watching
        self._live: Live | None = None

    def __enter__(self) -> Self:
        from rich.live import Live

        self._live = Live(
            get_renderable=self.render, console=stdout(), refresh_per_second=8, transient=False
        )
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def frame(self, _text: str, frame: Mapping[str, Any]) -> None:
        ours = ("gap", "skipped", "stale", "live", "error")
        if not is_entry(frame) and frame.get("type") in ours:  # an entry may have any type
            stdout().print(describe(frame, self._watching), style="yellow", markup=False)

    def note(self, text: str) -> None:
        stdout().print(text, style="dim", markup=False)

    def render(self) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        w = self._watching
        styles = {"completed": "green", "failed": "red", "cancelled": "yellow"}
        bar = ProgressBar(
            total=1.0,
            completed=w.fraction or 0.0,
            width=30,
            pulse=w.fraction is None and not w.finished,
            complete_style=styles.get(w.status, "cyan"),
            finished_style=styles.get(w.status, "cyan"),
        )
        percent = "" if w.fraction is None else f"{w.fraction:4.0%}"
        head = Table.grid(padding=(0, 1))
        status = Text(f"{status_of(w)}{' (stale)' if w.state.stale else ''}")
        status.stylize(styles.get(w.status, "bold"))
        head.add_row(Text(w.operation, style="bold"), bar, percent, status, Text(w.message))
        replica = f"replica {w.base}" if w.connected else f"connecting to {w.base}"
        counts = [f"{w.state.entries} entries", replica]
        if w.lag_s is not None:
            counts.append(f"lag {duration(w.lag_s)}")
        elif w.state.updated_ms is not None:
            counts.append(f"last entry {age(time.time() - w.state.updated_ms / 1000)}")
        for count, word in (
            (w.reconnects, "reconnects"),
            (w.state.gaps, "gaps"),
            (w.state.skipped, "skipped"),
        ):
            if count:
                counts.append(f"{count} {word}")
        grid = Table.grid()
        grid.add_row(head)
        grid.add_row(Text("  " + " · ".join(counts), style="dim"))
        return grid


def describe(frame: Mapping[str, Any], watching: Watching) -> str:
    """One line of text for a frame that ``watching`` has taken in."""
    return printable(_line(frame, watching))


def _line(frame: Mapping[str, Any], watching: Watching) -> str:
    data = frame.get("data")
    data = data if isinstance(data, Mapping) else {}
    type_ = str(frame.get("type"))
    if isinstance(frame.get("id"), str):
        percent = "" if watching.fraction is None else f" {watching.fraction:.0%}"
        return f"{_clock(frame['id'])} {type_}{percent} {_short(data)}".rstrip()
    match type_:
        case "current_state":
            history = frame.get("history")
            sent = history.get("sent") if isinstance(history, Mapping) else None
            count = f", {sent} entries of history" if sent else ""
            return f"{watching.operation}: {status_of(watching)}{count}"
        case "gap":
            after, before = data.get("after"), data.get("before")
            to = f" and before {before}" if before else ""
            return f"gap ({data.get('reason')}): entries after {after}{to} may be missing"
        case "skipped":
            return f"skipped {data.get('count')} updates skipped: this viewer reads too slowly"
        case "stale":
            return "stale: the gateway has lost Redis; updates follow when it reconnects"
        case "live":
            return "live again"
        case "reconnect":
            return f"asked to reconnect: {data.get('reason')}"
        case "error":
            return f"error: {data.get('message') or data.get('code')}"
        case _:
            return f"{type_} {_short(data)}".rstrip()


def status_of(watching: Watching) -> str:
    """For people: an operation without a stream has not begun, as far as a gateway knows."""
    return NOT_STARTED if watching.status == UNKNOWN else watching.status


def _clock(entry_id: str) -> str:
    ms = milliseconds(entry_id)
    return entry_id if ms is None else moment(ms) or entry_id


def _short(data: Mapping[str, Any]) -> str:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")) if data else ""
    return text if len(text) <= 200 else text[:197] + "..."
