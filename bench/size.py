"""`python -m bench.size NAME`: how far `tidegate size` is off on this machine.

Takes a result that `make bench ARGS="... --json NAME"` has saved, and puts what was measured beside
what the calculator says of the same load. The median of measured over estimated CPU is what
`--cpu-scale` of `tidegate size` wants. Without a name it plays the scenarios first (`1x2000`,
`100x10`, `200x10`, `1000x1`; about a minute).

Exit status: 0, 1 when there was nothing to compare, 2 when it could not be run.
"""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Final, NamedTuple

import typer
from rich.table import Table

from bench import results
from bench.cli import choose, make_bed, measure
from bench.command import console, errors_shown
from bench.report import OURS, number
from bench.runner import Plan
from bench.subjects import gateway
from tidegate.cli.size_costs import Work, redis_cpu, replica_cpu

#: Scenarios with connected viewers, one replica and sockets.
COMPARED: Final = ("1x2000", "100x10", "200x10", "1000x1")
#: Redis hardly has work where an entry has 2,000 viewers.
FEWEST_ENTRIES_PER_S: Final = 500


class Compared(NamedTuple):
    """One figure, in microseconds."""

    scenario: str
    figure: str
    measured: float
    estimated: float

    @property
    def ratio(self) -> float:
        """Measured over estimated: below 1, the estimate is too high."""
        return self.measured / self.estimated


def compare(result: Mapping[str, Any]) -> Iterator[Compared]:
    """Each figure of a saved result that the calculator has, too."""
    for scenario in result["scenarios"]:
        summary = scenario["subjects"].get(OURS, {}).get("summary", {})
        if scenario["name"] not in COMPARED:
            continue
        entries, each = scenario["entries_per_s"], scenario["viewers_each"]
        deliveries = entries * each
        operations = scenario["operations"]
        work = Work(1, operations * each, operations, 1.0, entries, deliveries)
        if (found := summary.get("cpu_us_per_delivery")) is not None:
            estimated = replica_cpu(work) * 1e6 / deliveries
            yield Compared(scenario["name"], "CPU per delivery", found["median"], estimated)
        if entries < FEWEST_ENTRIES_PER_S:
            continue
        if (found := summary.get("redis_us_per_entry")) is not None:
            estimated = redis_cpu(work) * 1e6 / entries
            yield Compared(scenario["name"], "Redis CPU per entry", found["median"], estimated)


def table(compared: list[Compared]) -> Table:
    """The figures, and their ratio."""
    shown = Table(title="tidegate size, and what was measured", title_justify="left")
    for name in ("scenario", "figure", "measured, us", "estimated, us", "measured / estimated"):
        shown.add_column(name, justify="left" if name in ("scenario", "figure") else "right")
    for one in compared:
        shown.add_row(
            one.scenario,
            one.figure,
            number(one.measured),
            number(one.estimated),
            f"{one.ratio:.2f}",
        )
    return shown


def main(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A result of `python -m bench --json NAME`."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Without a name.")] = 2,
    seconds: Annotated[float, typer.Option(min=1, max=60, help="Without a name.")] = 3.0,
) -> None:
    """Compare the estimates of `tidegate size` with this machine."""
    with errors_shown():
        if name is None:
            chosen = choose(list(COMPARED))
            plan = Plan(chosen, [gateway()], rounds, make_bed(None, seconds, chosen))
            with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
                saved = str(Path(folder) / "size.json")
                measure(plan, save_as=saved)
                result = results.load(saved)
        else:
            result = results.load(name)
    compared = list(compare(result))
    if not compared:
        console.print("[red]there is no scenario to compare in this result[/red]")
        raise typer.Exit(1)
    console.print(table(compared))
    console.print(f"--cpu-scale {median(one.ratio for one in compared):.2f}", highlight=False)


if __name__ == "__main__":
    typer.run(main)
