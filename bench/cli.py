"""The command line: measure, `compare` two results, `profile` one scenario.

Exit status: 0 when everything was measured and everything arrived, 1 when a round of the gateway
failed or lost something, 2 when the run could not be made, 130 or 143 when it was interrupted
(what was measured until then is shown and saved). A missed target is not a failure.
"""

import shlex
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.progress import (
    MofNCompleteColumn,
)

from bench import comparison, machine, profile, report, results
from bench.centrifugo import VERSION as PEER_VERSION
from bench.centrifugo import centrifugo as peer
from bench.command import (
    Interrupted,
    JsonName,
    RedisServer,
    console,
    errors_shown,
    progress_bar,
    until_interrupted,
)
from bench.errors import NotPossible
from bench.measures import Bed, Round, play
from bench.procfs import open_files_limit, require_linux
from bench.results import Outcome
from bench.runner import Plan, run
from bench.scenarios import SCENARIOS, Kind, Scenario, scenario_named
from bench.scraping import scraped
from bench.stage import Pinning, redis_binary
from bench.subjects import (
    NAIVE,
    WORKERS,
    Subject,
    gateway,
    published_by_script,
    with_and_without_metrics,
    with_workers,
)

ROUNDS: Final = 3
SECONDS: Final = 5.0
QUICK_ROUNDS: Final = 1
QUICK_SECONDS: Final = 2.0
#: Beside those of viewers: files of a server, and connections of the baseline to Redis.
SPARE_FILES: Final = 2_500
SHOWN: Final = 25

app = typer.Typer(add_completion=False, rich_markup_mode="rich")

Scenarios = Annotated[
    list[str] | None,
    typer.Option(
        "--scenario", "-s", help="Scenario to measure; may be repeated. --list names them."
    ),
]
Seconds = Annotated[
    float | None,
    typer.Option(min=0.2, max=120, help=f"Length of each measurement ({SECONDS:g})."),
]
ServerArgs = Annotated[
    str,
    typer.Option(
        help="Added to the gateway's command line, such as '--set viewer.ping_interval_s=5'."
    ),
]


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    scenario: Scenarios = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, max=50, help=f"Rounds of each scenario ({ROUNDS}).")
    ] = None,
    seconds: Seconds = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help=f"{QUICK_ROUNDS} round of {QUICK_SECONDS:g} s with fewer viewers, as a check.",
        ),
    ] = False,
    no_baseline: Annotated[
        bool, typer.Option("--no-baseline", help="Measure the gateway alone.")
    ] = False,
    baseline_only: Annotated[
        bool, typer.Option("--baseline-only", help="Measure the naive server alone.")
    ] = False,
    centrifugo: Annotated[
        bool,
        typer.Option(
            "--centrifugo",
            help=f"Also measure Centrifugo {PEER_VERSION}, built once, from source (needs Go).",
        ),
    ] = False,
    centrifugo_binary: Annotated[
        Path | None,
        typer.Option(
            "--centrifugo-binary",
            metavar="PATH",
            help="The same with this binary, instead of building it.",
        ),
    ] = None,
    by_script: Annotated[
        bool,
        typer.Option(
            "--by-script",
            help="Also measure the gateway with entries that the script of the package writes.",
        ),
    ] = False,
    without_metrics: Annotated[
        bool,
        typer.Option(
            "--without-metrics",
            help="Measure the cost of metrics: with scrapes, and with metrics disabled.",
        ),
    ] = False,
    faster: Annotated[
        float | None,
        typer.Option(
            "--faster",
            metavar="FACTOR",
            min=0.01,
            max=100,
            help="Multiply the entries per second, to find the maximum.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=2,
            max=64,
            help="Compare this number of worker processes with one process, neither pinned to a "
            "core.",
        ),
    ] = None,
    load_for_each: Annotated[
        bool,
        typer.Option(
            "--load-for-each",
            help="With --workers: multiply the operations by the number of workers, so that each "
            "has the load of the one process.",
        ),
    ] = False,
    server_args: ServerArgs = "",
    redis_server: RedisServer = None,
    json: JsonName = None,
    list_scenarios: Annotated[
        bool, typer.Option("--list", help="Show the scenarios and their targets.")
    ] = False,
) -> None:
    """Measure one gateway replica from outside, beside a naive server, in the same run.

    Every round starts a fresh Redis and a fresh server, which has a core to itself where it can.
    With defaults it takes about 12 minutes, with --quick under 3.

    Examples:

      python -m bench --quick

      python -m bench -s 200x10 -s 1000x1 --rounds 5 --json before

      python -m bench -s 200x10 --centrifugo

      python -m bench -s 1000x1 --rounds 8 --no-baseline --without-metrics

      python -m bench -s 1x2000 -s 1000x1 --rounds 6 --no-baseline --workers 2

      python -m bench compare before after

      python -m bench profile -s 1000x1
    """
    if context.invoked_subcommand is not None:
        return
    if list_scenarios:
        console.print(report.scenario_table())
        return
    if no_baseline and baseline_only:
        raise typer.BadParameter("--no-baseline and --baseline-only leave nothing to measure")
    if without_metrics and baseline_only:
        raise typer.BadParameter("--without-metrics needs the gateway to be measured")
    if workers and (without_metrics or baseline_only):
        raise typer.BadParameter("--workers excludes --without-metrics and --baseline-only")
    if load_for_each and not workers:
        raise typer.BadParameter("--load-for-each needs --workers")
    chosen = choose(scenario)
    if quick:
        chosen = [one.smaller() for one in chosen]
    if faster is not None:
        chosen = [one.faster(faster) for one in chosen]
    with errors_shown():
        subjects: list[Subject] = []
        extra = tuple(shlex.split(server_args))
        if without_metrics:
            subjects += with_and_without_metrics(extra)
        elif workers:
            subjects += with_workers(workers, extra, load_for_each=load_for_each)
        elif not baseline_only:
            subjects.append(gateway(extra))
        if by_script:
            subjects.append(published_by_script(extra))
        if not no_baseline:
            subjects.append(NAIVE)
        if centrifugo or centrifugo_binary is not None:
            with console.status("building Centrifugo (some minutes, once)"):
                subjects.append(peer(centrifugo_binary))
        stretch_s = seconds or (QUICK_SECONDS if quick else SECONDS)
        most = max(subject.times for subject in subjects)
        largest = [one.times(most) for one in chosen]
        bed = make_bed(redis_server, stretch_s, largest, watch=scraped)
        if workers:  # each needs a core, so no process has one to itself
            bed = replace(bed, pinning=bed.pinning.loosened())
        plan = Plan(chosen, subjects, rounds or (QUICK_ROUNDS if quick else ROUNDS), bed)
        raise typer.Exit(measure(plan, save_as=json))


@app.command()
def compare(before: str, after: str) -> None:
    """Put two results side by side: names in bench/results, or paths of JSON files.

    A ratio is shown where the ranges of at least three rounds do not overlap.
    """
    with errors_shown():
        first, second = results.load(before), results.load(after)
    for name, result in ((before, first), (after, second)):
        console.print(comparison.where(result, name), highlight=False, soft_wrap=True)
    for warning in comparison.warnings(first, second, (before, after)):
        console.print(f"[yellow]{warning}[/yellow]")
    tables = comparison.comparison_tables(first, second, (before, after))
    if not tables:
        console.print("[yellow]they have no scenario in common[/yellow]")
    for table in tables:
        console.print(table)


@app.command("profile")
def profile_command(
    scenario: Annotated[
        str, typer.Option("--scenario", "-s", help="Scenario to profile; --list names them.")
    ],
    seconds: Seconds = None,
    native: Annotated[
        bool, typer.Option("--native", help="Include C functions: libuv, hiredis, system calls.")
    ] = False,
    picture: Annotated[
        bool, typer.Option("--svg", help="Write a flame graph instead of printing lists.")
    ] = False,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Profile the naive server instead.")
    ] = False,
    server_args: ServerArgs = "",
    redis_server: RedisServer = None,
) -> None:
    """Play one scenario and sample where the server spends its time (py-spy; needs root)."""
    chosen = choose([scenario])
    if chosen[0].kind is Kind.REPLICAS:
        raise typer.BadParameter("only one server can be sampled; choose another scenario")
    with errors_shown():
        subject = NAIVE if baseline else gateway(tuple(shlex.split(server_args)))
        suffix = "svg" if picture else "collapsed"
        output = results.FOLDER / f"profile-{subject.name}-{scenario}.{suffix}"
        output.parent.mkdir(parents=True, exist_ok=True)
        output.unlink(missing_ok=True)
        watch = profile.sampler(output, native=native, picture=picture)
        bed = make_bed(redis_server, seconds or 2 * SECONDS, chosen, watch=watch)
        outcome = Outcome(chosen[0], {subject.name: []})

        async def one_round() -> Round:
            with console.status(f"{scenario}: sampling {subject.name}"):
                return await play(chosen[0], subject, bed)

        outcome.rounds[subject.name].append(until_interrupted(one_round()))
        report.show_outcome(console, outcome)
        if not picture:
            found = profile.read_collapsed(output.read_text().splitlines())
            for table in profile.profile_tables(found, SHOWN):
                console.print(table)
        console.print(f"\nwritten to {output}", soft_wrap=True)


def choose(names: list[str] | None) -> list[Scenario]:
    try:
        return [scenario_named(name) for name in names] if names else list(SCENARIOS)
    except KeyError as error:
        raise typer.BadParameter(str(error.args[0])) from error


def make_bed(redis_server: str | None, seconds: float, chosen: list[Scenario], **more: Any) -> Bed:
    """Raises `NotPossible` when the machine cannot play the chosen scenarios."""
    require_linux()
    files = max(one.viewers for one in chosen) + SPARE_FILES
    allowed = open_files_limit(files)
    if allowed < files:
        raise NotPossible(
            f"{files:,} open files are needed and {allowed:,} are allowed: raise the hard limit "
            f"(ulimit -Hn {files}) or choose smaller scenarios (--quick, --scenario)"
        )
    return Bed(redis_binary(redis_server), Pinning.choose(), seconds, **more)


def measure(plan: Plan, *, save_as: str | None) -> int:
    """Play the plan, show and save it; returns the exit status."""
    about = results.about(plan.bed.redis_server) | {
        "command": machine.command_line(),
        "pinning": str(plan.bed.pinning),
        "rounds": plan.rounds,
        "seconds": plan.bed.seconds,
    }
    about["versions"] |= {one.name: one.version for one in plan.subjects if one.version}
    show_head(about)
    outcomes: list[Outcome] = []
    progress = progress_bar(MofNCompleteColumn())
    plan.bed.pinning.pin_this_process()
    started = datetime.now(UTC)
    status = 0
    try:
        with progress:
            task = progress.add_task("", total=plan.steps)
            steps = iter(range(plan.steps))

            def on_step(scenario: Scenario, subject: Subject, number: int) -> None:
                text = f"{scenario.name}, {subject.name}, round {number}"
                progress.update(task, description=text, completed=next(steps))
                if not console.is_terminal:
                    console.print(f"[dim]{text}[/dim]")

            until_interrupted(
                run(
                    plan,
                    on_step=on_step,
                    on_scenario=lambda outcome: report.show_outcome(console, outcome),
                    into=outcomes,
                )
            )
    except Interrupted as interrupted:
        status = interrupted.status
        console.print("[yellow]interrupted; every process of the run has ended[/yellow]")
    finally:
        report.show_targets(console, outcomes)
        about["took_s"] = round((datetime.now(UTC) - started).total_seconds(), 1)
        if save_as is not None and outcomes:
            path = results.save(save_as, results.document(outcomes, about))
            console.print(f"\nsaved to {path}", soft_wrap=True)
    return status or (1 if anything_wrong(outcomes) else 0)


def anything_wrong(outcomes: list[Outcome]) -> bool:
    """Whether a round of the gateway failed, or not everything arrived. The baseline may break."""
    for outcome in outcomes:
        ours = [
            one
            for name, rounds in outcome.rounds.items()
            if name == report.OURS or name.endswith(WORKERS)
            for one in rounds
        ]
        for one in ours:
            complete = (
                one.figures.get(metric, 100.0)
                for metric in ("delivered_pct", "opened_pct", "joined_pct")
            )
            if not one.figures or any(percent != 100.0 for percent in complete):
                return True
    return False


def show_head(about: dict[str, Any]) -> None:
    on = about["machine"]
    console.print(
        f"{on['processor']}, {on['cores']} cores, {on['kernel']}, {on['python']}; "
        f"{about['pinning']}; {about['rounds']} x {about['seconds']:g} s",
        highlight=False,
    )
    console.print(
        f"tidegate {about['versions']['tidegate']} ({about['versions']['commit']}), "
        f"{about['versions']['redis server']}",
        highlight=False,
    )
    if beside := about["versions"].get(report.PEER):
        console.print(f"{report.PEER} in this run: {beside}", highlight=False)
    console.print(
        "Column Centrifugo: 6.9.1, measured on two cores of another machine: a target.",
        style="dim",
    )
