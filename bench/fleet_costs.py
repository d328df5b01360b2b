"""`python -m bench.fleet_costs`: the CPU costs of a fleet by part, and the error of their sum.

In each round it runs small fleets (`POINTS`), one after the other, and reads the CPU of all
replicas together and of Redis. The costs of `tidegate size` (`tidegate.cli.size_figures`) are
fitted to some of the points; the others, which are not used for that, show the error of the
formula. `--json` saves everything; with a saved result it only computes.

Exit status: 0 when all checked points are within `ALLOWED`, 1 when not, 2 when it could not run.
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Annotated, Any, Final

import typer
from rich.progress import Progress
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
from bench.fit import fit
from bench.procfs import open_files_limit, require_linux
from bench.report import number
from bench.scenarios import NO_DOORMAN
from bench.stage import Pinning, Stage, redis_binary, staged
from bench.subjects import gateway
from tidegate.cli.size_costs import (
    REDIS_PARTS,
    REPLICA_PARTS,
    Work,
    redis_amounts,
    replica_amounts,
)

ANSWER_S: Final = 120.0
IN_FLIGHT: Final = 128
WARM_UP_S: Final = 2.0
QUIET_S: Final = 3.0
#: Longer than the periodic check, which visits every operation once in ten seconds.
IDLE_S: Final = 12.0
ALLOWED: Final = 0.15


@dataclass(frozen=True, slots=True)
class Point:
    """A fleet. `viewers_each`: viewers of each operation on each replica. `per_second`: entries of
    all operations. `is_check`: it is used to check the costs, not to find them.
    """

    name: str
    replicas: int
    operations: int
    viewers_each: int
    per_second: float
    is_check: bool = False

    @property
    def work(self) -> Work:
        """The work of all replicas together, at the nominal rate."""
        return self.work_at(self.per_second)

    def work_at(self, per_second: float) -> Work:
        """The work at the rate that was reached, which is lower on a busy machine."""
        return Work(
            replicas=self.replicas,
            connections=self.replicas * self.operations * self.viewers_each,
            operations=self.operations,
            following=float(self.replicas),
            entries_per_second=per_second,
            deliveries_per_second=per_second * self.viewers_each * self.replicas,
        )


POINTS: Final = (
    Point("a replica", 1, 1, 1, 0),
    Point("4,000 viewers", 1, 20, 200, 0),
    Point("8,000 operations", 1, 8_000, 1, 0),
    Point("1 x 2,000, 20/s", 1, 1, 2_000, 20),
    Point("200 x 10, 1,000/s", 1, 200, 10, 1_000),
    Point("1,000 x 1, 4,000/s", 1, 1_000, 1, 4_000),
    Point("4 replicas, 200 x 1, 400/s", 4, 200, 1, 400),
    Point("4 replicas, 2,000 x 1, 400/s", 4, 2_000, 1, 400),
    Point("100 x 10, 2,000/s", 1, 100, 10, 2_000, is_check=True),
    Point("500 x 4, 600/s", 1, 500, 4, 600, is_check=True),
    Point("2 replicas, 300 x 2, 800/s", 2, 300, 2, 800, is_check=True),
    Point("3 replicas, 600 x 2, 400/s", 3, 600, 2, 400, is_check=True),
    Point("4 replicas, 1 x 400, 20/s", 4, 1, 400, 20, is_check=True),
    Point("6 replicas, 300 x 1, 200/s", 6, 300, 1, 200, is_check=True),
)


@dataclass(frozen=True, slots=True)
class Reading:
    """CPU in one round, in cores, at `per_second` entries per second."""

    point: str
    per_second: float
    replicas: float
    redis: float
    others: float


async def read(point: Point, binary: str, seconds: float) -> Reading:
    """Run one point.

    Raises:
        BenchError: a process has failed.
    """
    async with staged(
        gateway().with_args(NO_DOORMAN),
        redis_server=binary,
        pinning=Pinning.choose().loosened(),
        replicas=point.replicas,
    ) as stage:
        await stage.publisher.ask(
            "fill", timeout_s=ANSWER_S, operations=point.operations, entries_each=1
        )
        await stage.viewers.ask(
            "open",
            timeout_s=2 * ANSWER_S,
            ports=stage.ports,
            operations=point.operations,
            viewers_each=point.viewers_each,
            in_flight=IN_FLIGHT,
            deadline_s=ANSWER_S,
        )
        await _entries(stage, point, WARM_UP_S)
        clock = stage.clock()
        entries = await _entries(stage, point, seconds if point.per_second else IDLE_S)
        meter = stage.since(clock)
        spent = (entries, meter.server_s, meter.redis_s, meter.others_s)
        return Reading(point.name, *(one / meter.seconds for one in spent))


async def _entries(stage: Stage, point: Point, seconds: float) -> int:
    """Publish for this time, wait until all viewers have the entries, and return their number. At a
    rate of 0, only wait.
    """
    if not point.per_second:
        await asyncio.sleep(seconds)
        return 0
    entries = max(1, round(point.per_second * seconds))
    expected = entries * point.viewers_each * point.replicas
    await stage.viewers.ask("reset", timeout_s=ANSWER_S, capacity=expected)
    await stage.publisher.ask(
        "publish",
        timeout_s=seconds * 4 + ANSWER_S,
        operations=point.operations,
        entries=entries,
        per_second=point.per_second,
    )
    await stage.viewers.ask(
        "wait",
        timeout_s=ANSWER_S,
        expected=expected,
        quiet_s=QUIET_S,
        deadline_s=ANSWER_S / 2,
        latencies=str(stage.folder / "latencies"),
    )
    return entries


@dataclass(frozen=True, slots=True)
class Costs:
    """Costs of the parts in microseconds, by name, and the shares of coalesced entries."""

    replica: Mapping[str, float]
    redis: Mapping[str, float]
    replica_further_share: float
    redis_further_share: float


def medians(readings: list[Reading]) -> dict[str, Reading]:
    """The medians of all rounds, by point; of `others` the maximum."""
    found = {}
    for point in POINTS:
        mine = [one for one in readings if one.point == point.name]
        if mine:
            found[point.name] = Reading(
                point.name,
                median(one.per_second for one in mine),
                median(one.replicas for one in mine),
                median(one.redis for one in mine),
                max(one.others for one in mine),
            )
    return found


def find_costs(measured: Mapping[str, Reading]) -> Costs:
    """Fit the costs to the points that are not checks. Pure."""
    points = [point for point in POINTS if not point.is_check and point.name in measured]

    def best(kind: str) -> tuple[list[float], float]:
        amounts = replica_amounts if kind == "replicas" else redis_amounts
        totals = [getattr(measured[point.name], kind) * 1e6 for point in points]
        found: list[tuple[float, list[float], float]] = []
        for percent in range(5, 101):
            share = percent / 100
            rows = [
                amounts(point.work_at(measured[point.name].per_second), further_share=share)
                for point in points
            ]
            costs = fit(rows, totals)
            off = sum(
                (sum(a * c for a, c in zip(row, costs, strict=True)) / total - 1) ** 2
                for row, total in zip(rows, totals, strict=True)
            )
            found.append((off, costs, share))
        _, costs, share = min(found)
        return costs, share

    (replica, replica_share), (redis, redis_share) = best("replicas"), best("redis")
    return Costs(
        dict(zip(REPLICA_PARTS, replica, strict=True)),
        dict(zip(REDIS_PARTS, redis, strict=True)),
        replica_share,
        redis_share,
    )


@dataclass(frozen=True, slots=True)
class Checked:
    """One figure of a point, in cores."""

    point: Point
    figure: str
    measured: float
    computed: float

    @property
    def off(self) -> float:
        """The relative error of the formula."""
        return self.computed / self.measured - 1


def check(measured: Mapping[str, Reading], costs: Costs) -> Iterator[Checked]:
    """Compare every point with the formula, also those that the costs were fitted to."""
    for point in POINTS:
        if (one := measured.get(point.name)) is None:
            continue
        for figure, amounts, share, parts in (
            ("replicas", replica_amounts, costs.replica_further_share, costs.replica),
            ("redis", redis_amounts, costs.redis_further_share, costs.redis),
        ):
            row = amounts(point.work_at(one.per_second), further_share=share)
            cores = sum(a * c for a, c in zip(row, parts.values(), strict=True)) / 1e6
            yield Checked(point, figure, getattr(one, figure), cores)


def tables(measured: Mapping[str, Reading], costs: Costs) -> Iterator[Table]:
    """Tables of the costs and of the points."""
    shown = Table(title="costs", title_justify="left", title_style="bold")
    for name in ("part", "us"):
        shown.add_column(name, justify="left" if name == "part" else "right")
    for owner, parts in (("replica", costs.replica), ("Redis", costs.redis)):
        for name, cost in parts.items():
            shown.add_row(f"{owner}: {name}", number(cost))
    shown.add_row("replica: share of further entries", number(costs.replica_further_share))
    shown.add_row("Redis: share of further entries", number(costs.redis_further_share))
    yield shown
    shown = Table(title="points; in cores", title_justify="left", title_style="bold")
    for name in ("point", "", "measured", "computed", "off", "others"):
        shown.add_column(name, justify="left" if name in ("point", "") else "right")
    for one in check(measured, costs):
        color = "green" if abs(one.off) <= ALLOWED else "red"
        text = f"[{color}]{one.off:+.0%}[/{color}]" if one.point.is_check else f"{one.off:+.0%}"
        shown.add_row(
            f"{'check: ' if one.point.is_check else ''}{one.point.name}",
            one.figure,
            f"{one.measured:.3f}",
            f"{one.computed:.3f}",
            text,
            f"{measured[one.point.name].others:.2f}",
        )
    yield shown


async def play(binary: str, rounds: int, seconds: float, progress: Progress) -> list[Reading]:
    """Run all points in each round, so that a drift of the machine affects all of them."""
    found = []
    task = progress.add_task("", total=rounds * len(POINTS))
    for turn in range(1, rounds + 1):
        for point in POINTS if turn % 2 else reversed(POINTS):
            progress.update(task, description=f"round {turn}: {point.name}")
            found.append(await read(point, binary, seconds))
            progress.advance(task)
    return found


def main(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A saved result; nothing is measured.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=50)] = 3,
    seconds: Annotated[float, typer.Option(min=1, max=60)] = 4.0,
    redis_server: RedisServer = None,
    json: JsonName = None,
) -> None:
    """Measure the costs of a fleet by part, and check their sum."""
    document: dict[str, Any] = {}
    with errors_shown():
        if name is not None:
            readings = [Reading(**one) for one in results.load(name)["readings"]]
        else:
            require_linux()
            open_files_limit(12_000)
            binary = redis_binary(redis_server)
            with progress_bar() as progress:
                readings = until_interrupted(play(binary, rounds, seconds, progress))
            document = {"format": results.FORMAT, **results.about(binary)}
    measured = medians(readings)
    costs = find_costs(measured)
    for table in tables(measured, costs):
        console.print(table)
    wrong = [
        f"{one.point.name}, {one.figure}: {one.off:+.0%}"
        for one in check(measured, costs)
        if one.point.is_check and abs(one.off) > ALLOWED
    ]
    document |= {"readings": [asdict(one) for one in readings], "costs": asdict(costs)}
    end(json, document, wrong, f"all checked points are within {ALLOWED:.0%}")


if __name__ == "__main__":
    typer.run(main)
