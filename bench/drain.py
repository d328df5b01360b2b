"""`make drain-demo`: a rolling restart that nobody should notice, beside a naive one.

Two sides are played one after the other, each on fresh processes (`rolling`). *Paced*: the
gateway's own drain, and viewers that wait as long as they are told. *Naive*: replicas that close
all sockets at once, and viewers that come back at once.

Exit status: 0 when every viewer is back and has every entry of its stream once and in order (on
both sides: the naive way is rude, not lossy), 1 when not, 2 when it could not be played.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from bench import results
from bench.command import (
    JsonName,
    RedisServer,
    console,
    end,
    errors_shown,
    progress_bar,
    until_interrupted,
)
from bench.errors import NotPossible
from bench.procfs import open_files_limit, require_linux
from bench.report import number
from bench.rolling import REPLICAS, WINDOWS_S, Outcome, Scene, Side, naive, paced, play
from bench.stage import redis_binary
from bench.stats import ratio

#: Of the naive peak; what the paced one should reach at most.
REACH: Final = 0.2
#: A viewer has a connection to the balancer, which has one to a replica.
FILES_PER_VIEWER: Final = 3


def delivery_table(scene: Scene, outcomes: list[Outcome]) -> Table:
    """Who is back, and whether anything is missing."""
    table = Table(
        title=f"{scene.viewers:,} viewers of {scene.operations:,} operations, "
        f"{scene.per_second:g} entries/s, {REPLICAS} replicas restarted one after the other",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("what the viewers got")
    for outcome in outcomes:
        table.add_column(outcome.side, justify="right")
    rows: list[tuple[str, Callable[[Outcome], str]]] = [
        ("viewers back", lambda one: f"{100 * one.judged['open'] / scene.viewers:.4g} %"),
        ("came back, times", lambda one: number(one.judged["came_back"])),
        ("entries written", lambda one: number(one.written)),
        ("entries received", lambda one: number(one.judged["entries"])),
        ("lost", lambda one: _zero(one.judged["lost"])),
        ("twice", lambda one: _zero(one.judged["twice"])),
        ("out of order", lambda one: _zero(one.judged["disordered"] + one.judged["unknown"])),
        ("gaps told", lambda one: _zero(one.judged["happened"].get("gap", 0))),
        ("what happened besides", _happened),
        ("restart of a replica, longest, s", lambda one: number(max(one.restart_s))),
    ]
    for label, text in rows:
        table.add_row(label, *(text(outcome) for outcome in outcomes))
    return table


def storm_table(outcomes: list[Outcome]) -> Table:
    """How hard the others were hit, and how long viewers were without updates."""
    table = Table(title="How hard it was", title_justify="left", title_style="bold")
    table.add_column("figure")
    table.add_column("unit")
    for outcome in outcomes:
        table.add_column(outcome.side, justify="right")
    table.add_column("ratio", justify="right")
    table.add_column("reach", justify="right")

    def row(label: str, unit: str, values: list[float], *, reach: float | None = None) -> None:
        cells = [number(value) for value in values]
        quotient = ratio(values[0], values[1]) if len(values) == 2 else None
        wanted = ""
        if reach is not None and quotient is not None:
            color = "green" if quotient <= reach else "red"
            wanted = f"[{color}]<= {reach:g}[/{color}]"
        table.add_row(label, unit, *cells, number(quotient), wanted)

    for window_s in WINDOWS_S:
        name = f"{window_s * 1000:.0f} ms" if window_s < 1 else f"{window_s:g} s"
        rates = [outcome.peaks[window_s] / window_s for outcome in outcomes]
        row(f"connects at the others, peak over {name}", "/s", rates, reach=REACH)
        rates = [outcome.peaks_one[window_s] / window_s for outcome in outcomes]
        row(f"connects at the busiest one, peak over {name}", "/s", rates)
    for label, name in (
        ("without a connection, each time", "away_s"),
        ("without a connection, a viewer's longest", "longest_away_s"),
        ("without updates: a viewer's latest entry", "worst_late_s"),
    ):
        for percent in ("p50", "p99"):
            values = [1000 * outcome.judged[name][percent] for outcome in outcomes]
            row(f"{label}, {percent}", "ms", values)
    return table


def _zero(count: int) -> str:
    return "0" if count == 0 else f"[bold red]{count:,}[/bold red]"


def _happened(outcome: Outcome) -> str:
    happened = outcome.judged["happened"]
    lines = [f"{name} x {count:,}" for name, count in sorted(happened.items())]
    return "\n".join(lines) or "-"


def main(
    viewers: Annotated[int, typer.Option(min=3, max=20_000, help="How many.")] = 3000,
    operations: Annotated[int, typer.Option(min=1, max=10_000, help="That they watch.")] = 200,
    per_second: Annotated[float, typer.Option(min=1, max=5000, help="Entries, all together.")] = (
        100.0
    ),
    seconds: Annotated[
        float, typer.Option(min=0.5, max=300, help="drain.window_s: each replica's time to empty.")
    ] = 15.0,
    redis_server: RedisServer = None,
    json: JsonName = None,
) -> None:
    """Restart three replicas under 3,000 viewers, at a pace and naively, and compare."""
    with errors_shown():
        require_linux()
        files = FILES_PER_VIEWER * viewers + 500
        allowed = open_files_limit(files)
        if allowed < files:
            raise NotPossible(
                f"{files:,} open files are needed and {allowed:,} are allowed: raise the hard "
                f"limit (ulimit -Hn {files}), or take fewer --viewers"
            )
        scene = Scene(viewers, operations, per_second, redis_binary(redis_server))
        outcomes = [_shown(console, scene, side) for side in (paced(seconds), naive())]
    console.print(delivery_table(scene, outcomes))
    console.print(storm_table(outcomes))
    document = results.about(scene.redis_server) | {
        "scene": asdict(scene) | {"redis_server": Path(scene.redis_server).name},
        "sides": [asdict(outcome) for outcome in outcomes],
    }
    wrong = [f"{one.side}: {text}" for one in outcomes for text in one.wrong(viewers)]
    end(json, document, wrong, "everybody is back, and nobody missed anything")


def _shown(console: Console, scene: Scene, side: Side) -> Outcome:
    progress = progress_bar()
    with progress:
        task = progress.add_task(side.name, total=1.0)

        def tell(text: str, done: float) -> None:
            progress.update(task, description=f"{side.name}: {text}", completed=done)
            if not console.is_terminal:
                console.print(f"[dim]{side.name}: {text}[/dim]")

        tell("replicas start", 0.0)
        return until_interrupted(play(scene, side, tell), uvloop.new_event_loop)


if __name__ == "__main__":
    typer.run(main)
