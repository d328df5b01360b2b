"""The command: limits a run to what the machine allows, runs it, shows and saves the result.

Exit status: 0 when everything that was requested was done, 1 when viewers or entries were missing
or a phase was not finished, 2 when it could not run, 130 or 143 when it was interrupted.
"""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import uvloop
from rich.table import Table

from bench import results
from bench.command import (
    Interrupted,
    JsonName,
    RedisServer,
    console,
    end,
    errors_shown,
    progress_bar,
    until_interrupted,
)
from bench.errors import BenchError, NotPossible
from bench.million import room
from bench.million.phases import Director, Run, Tell
from bench.million.scene import Scene
from bench.million.site import started
from bench.procfs import require_linux
from bench.report import number
from bench.stage import redis_binary

MOST: Final = 1_000_000
#: Interval of pings. With the default of 20 s a million viewers would need 50,000 pings a second,
#: more than two cores can send in addition to everything else.
PING_S: Final = 300.0
PARTS: Final = ("servers", "kernel", "clients", "redis", "other", "total")


async def play(scene: Scene, run: Run, tell: Tell) -> None:
    """Run all phases. Results are added to `run`, also if an error ends it.

    Raises:
        BenchError: a process has failed, or memory is low.
    """
    try:
        async with started(scene) as site:
            await Director(site, run, tell).play()
    except* BenchError as errors:
        raise _first(errors) from None


def _first(group: BaseExceptionGroup[BenchError]) -> BenchError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, BenchError)
    return error


def memory_table(run: Run) -> Table:
    """Memory of the connected viewers, by what it is used for."""
    table = Table(title="memory for the viewers", title_justify="left", title_style="bold")
    for name in ("part", "MiB", "bytes per viewer"):
        table.add_column(name, justify="left" if name == "part" else "right")
    for part in PARTS:
        table.add_row(
            part, f"{run.memory[part] / 2**20:,.0f}", f"{run.memory['per_viewer'][part]:,}"
        )
    return table


def phase_table(run: Run) -> Table:
    """A row for each phase: duration, CPU, and how long viewers waited."""
    table = Table(title=f"{run.viewers:,} viewers", title_justify="left", title_style="bold")
    columns = (
        "phase",
        "s",
        "servers, cores",
        "Redis",
        "clients",
        "others",
        "what",
        "p50 s",
        "p99 s",
        "last s",
    )
    for name in columns:
        table.add_column(name, justify="left" if name in ("phase", "what") else "right")
    for phase in run.phases:
        figures = phase.figures
        if "seconds" not in figures:
            continue
        seconds = max(0.001, figures["seconds"])
        cores = [
            f"{figures[name] / seconds:.2f}"
            for name in ("servers_s", "redis_s", "clients_s", "others_s")
        ]
        table.add_row(phase.name, number(seconds), *cores, *_waits(figures))
    return table


def _waits(figures: dict[str, float]) -> tuple[str, str, str, str]:
    if "per_second" in figures:
        return f"{figures['per_second']:,.0f} connects/s", "", "", ""
    if "server_us_per_viewer_s" in figures:
        return f"{figures['server_us_per_viewer_s']:.2f} us per viewer and s", "", "", ""
    if "came_back" in figures:
        return (
            f"{figures['came_back']:,.0f} reconnected, of {figures['viewers_of_it']:,.0f}",
            number(figures.get("away_p50_s")),
            number(figures.get("away_p99_s")),
            number(figures.get("last_back_s")),
        )
    return (
        f"{figures.get('delivered', 0):,.0f} delivered",
        number(figures.get("delay_p50_s")),
        number(figures.get("delay_p99_s")),
        number(figures.get("last_after_s")),
    )


def gave_way(run: Run) -> list[str]:
    """What failed or was late, in order."""
    found = [f"connect: {run.stopped_by}"] if run.stopped_by else []
    for phase in run.phases:
        late = phase.figures.get("gc_over_1s", 0), phase.figures.get("lag_over_1s", 0)
        if any(late):
            found.append(
                f"{phase.name}: event loops of replicas were blocked for more than 1 s: "
                f"{late[0]:,.0f} garbage collections, {late[1]:,.0f} late timers"
            )
        if phase.happened:
            what = ", ".join(f"{name} x {count:,}" for name, count in phase.happened.items())
            found.append(f"{phase.name}: {what}")
        found += [f"{phase.name}: {text}" for text in phase.problems]
    return found


def main(
    viewers: Annotated[int, typer.Option(min=2, max=MOST, help="Maximum number.")] = MOST,
    operations: Annotated[int, typer.Option(min=2, max=MOST)] = 100_000,
    replicas: Annotated[
        int,
        typer.Option(
            min=0,
            max=room.MOST_PROCESSES,
            help="0: 4, or more if the limit of open files requires it.",
        ),
    ] = 0,
    swarms: Annotated[
        int,
        typer.Option(
            min=0,
            max=room.MOST_PROCESSES,
            help="Processes of viewers; 0: one for each core, or as many as are needed.",
        ),
    ] = 0,
    crowd: Annotated[
        float, typer.Option(min=0, max=1, help="Share of viewers that watch one operation.")
    ] = 0.5,
    seconds: Annotated[
        float, typer.Option(min=1, max=3600, help="Length of the phase `hold`.")
    ] = 60.0,
    ping_interval_s: Annotated[
        float, typer.Option(min=1, max=3600, help="viewer.ping_interval_s of the replicas.")
    ] = PING_S,
    absorb_per_s: Annotated[
        int, typer.Option(min=1, max=100_000, help="drain.absorb_per_s of the replicas.")
    ] = 1_500,
    drains: Annotated[
        int, typer.Option(min=0, max=room.MOST_PROCESSES, help="Replicas to restart; 0: all.")
    ] = 0,
    redis_server: RedisServer = None,
    json: JsonName = None,
) -> None:
    """Connect as many viewers to several replicas as memory allows; hold, publish, kill, drain.

    The limit of open files is raised as far as allowed. No more viewers are connected when 2 GiB of
    memory are left. A million take 23 GiB and half an hour.
    """
    with errors_shown():
        require_linux()
        cores = len(os.sched_getaffinity(0))
        limits = room.read_limits(
            room.files_wanted(viewers, replicas=replicas, swarms=swarms, cores=cores)
        )
        found = room.processes(
            viewers, replicas=replicas, swarms=swarms, cores=cores, limits=limits
        )
        if found.viewers < 1:
            raise NotPossible(f"no viewer can connect: {found.because}")
        if found.because:
            console.print(f"[yellow]at most {found.viewers:,} viewers: {found.because}[/yellow]")
        scene = Scene(
            viewers=found.viewers,
            operations=operations,
            replicas=found.replicas,
            swarms=found.swarms,
            connections_per_replica=min(MOST, limits.process_files - room.SPARE_FILES // 2),
            crowd=crowd,
            seconds=seconds,
            ping_interval_s=ping_interval_s,
            absorb_per_s=absorb_per_s,
            drains=min(drains or found.replicas, found.replicas),
            redis_server=redis_binary(redis_server),
        )
        _require_memory(scene, limits)
        run = Run(stopped_by=found.because)
        wrong, interrupted = _played(scene, run)
    load = os.getloadavg()[0]
    console.print(f"{scene.replicas} replicas, {scene.operations:,} operations, load {load:.1f}")
    if run.memory:
        console.print(memory_table(run))
    console.print(phase_table(run))
    for line in gave_way(run):
        console.print(f"  {line}", highlight=False)
    document: dict[str, Any] = results.about(scene.redis_server) | {
        "scene": asdict(scene) | {"redis_server": Path(scene.redis_server).name},
        "load": load,
        "run": asdict(run),
        "gave_way": gave_way(run),
    }
    if interrupted:
        if json is not None:
            console.print(f"saved to {results.save(json, document)}", soft_wrap=True)
        raise typer.Exit(interrupted)
    end(json, document, [*wrong, *run.problems])


def _require_memory(scene: Scene, limits: room.Limits) -> None:
    """
    Raises:
        NotPossible: there is not enough memory for the first viewer.
    """
    base = room.base_bytes(
        operations=scene.operations, replicas=scene.replicas, swarms=scene.swarms
    )
    if limits.available_bytes - base < room.RESERVE_BYTES:
        raise NotPossible(
            f"{limits.available_bytes / 2**30:.1f} GiB of memory are available; "
            f"{(base + room.RESERVE_BYTES) / 2**30:.1f} GiB are needed before the first viewer: "
            "choose fewer --viewers, --operations or --replicas, or end other programs"
        )


def _played(scene: Scene, run: Run) -> tuple[list[str], int]:
    """Run the scene; the errors that ended it early, and the exit status if a signal did."""
    progress = progress_bar()
    with progress:
        task = progress.add_task("processes start", total=1.0)
        said = ""

        def tell(text: str, done: float) -> None:
            nonlocal said
            progress.update(task, description=text, completed=done)
            phase = text.partition(":")[0]
            if not console.is_terminal and phase != said:
                said = phase
                console.print(f"[dim]{phase}[/dim]")

        try:
            until_interrupted(play(scene, run, tell), uvloop.new_event_loop)
        except BenchError as error:
            if not run.viewers:
                raise
            return [str(error)], 0
        except Interrupted as signal:
            return [], signal.status
    return [], 0
