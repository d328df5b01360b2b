"""The tables on the terminal: each figure beside its target, the reference and the baseline.

Shows medians with the extremes of the rounds. Problems stand under their table in words; the first
line of the table's foot says how much of the bed's core the load took, since that is what may
spoil a figure.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.results import Outcome
from bench.scenarios import SCENARIOS, Better, Row
from bench.stats import Spread, ratio
from bench.subjects import UNMEASURED

OURS: Final = "tidegate"
BASELINE: Final = "naive"
PEER: Final = "centrifugo"
# A problem may hold the end of a log; the JSON file has it whole.
MAX_PROBLEM_CHARS: Final = 2_000
PROBLEM_HEAD_CHARS: Final = 200
# Two rounds have no spread worth the name.
MIN_ROUNDS: Final = 3
BED: Final = (
    ("server_core_pct", "server"),
    ("viewers_core_pct", "viewers"),
    ("redis_core_pct", "Redis"),
    ("publisher_core_pct", "publisher"),
    ("others_core_pct", "others"),
)


def number(value: float | None) -> str:
    """Three significant digits of what is not negative."""
    if value is None:
        return "-"
    if 99 < value < 100:
        # Rounded down: what is less than everything must not read as everything.
        return f"{math.floor(value * 100) / 100:.2f}"
    digits = 0 if value == 0 or value >= 100 else 1 if value >= 9.995 else 2
    return f"{value:,.{digits}f}"


def cell(value: Spread | None) -> str:
    """Median, and the extremes where they differ."""
    if value is None:
        return "-"
    if number(value.low) == number(value.high):
        return number(value.median)
    return f"{number(value.median)}  [dim]{number(value.low)}..{number(value.high)}[/dim]"


def verdict(row: Row, value: Spread | None) -> str:
    if value is None:
        return ""
    match row.reached(value.median):
        case True:
            return "[green]reached[/green]"
        case False:
            return "[red]missed[/red]"
        case None:
            return ""


def outcome_table(outcome: Outcome) -> Table:
    """One scenario's figures."""
    subjects = list(outcome.rounds)
    rounds = max((len(rounds) for rounds in outcome.rounds.values()), default=0)
    table = Table(
        title=f"{outcome.scenario.name}: {outcome.scenario.title}",
        title_justify="left",
        title_style="bold",
        caption=f"median of {rounds} round{'s' if rounds > 1 else ''}, lowest..highest",
        caption_justify="left",
    )
    table.add_column("figure")
    table.add_column("unit")
    table.add_column("Centrifugo", justify="right")
    table.add_column("reach", justify="right")
    for subject in subjects:
        table.add_column(subject, justify="right")
    for other in subjects[1:]:
        table.add_column(f"/ {other}", justify="right")
    table.add_column("")
    for row in outcome.scenario.rows:
        cells = [outcome.spread(subject, row.metric) for subject in subjects]
        line = [row.label, row.unit, number(row.centrifugo), number(row.reach)]
        line += [cell(value) for value in cells]
        for other in subjects[1:]:
            line.append(number(outcome.ratio(row.metric, subjects[0], other)))
        line.append(verdict(row, cells[0]) if subjects[0] == OURS else "")
        table.add_row(*line)
    return table


def shortened(problem: str) -> str:
    """Beginning and end of a long text: what happened, and the last that was logged."""
    if len(problem) <= MAX_PROBLEM_CHARS:
        return problem
    rest = MAX_PROBLEM_CHARS - PROBLEM_HEAD_CHARS
    return f"{problem[:PROBLEM_HEAD_CHARS]}\n[...]\n{problem[-rest:]}"


def metrics_cost(outcome: Outcome) -> str:
    """The CPU per delivery with metrics over that without, round by round; empty if unknown."""
    cost = outcome.ratios("cpu_us_per_delivery", OURS, UNMEASURED)
    if cost is None:
        return ""
    return (
        f"CPU per delivery with metrics over that without, in the same round: median "
        f"{cost.median:.3f}, {cost.low:.3f}..{cost.high:.3f}"
    )


def show_outcome(console: Console, outcome: Outcome) -> None:
    console.print()
    console.print(outcome_table(outcome))
    if cost := metrics_cost(outcome):
        console.print(f"  {cost}", highlight=False)
    for subject in outcome.rounds:
        shares = [
            f"{label} {share.median:.0f} %"
            for metric, label in BED
            if (share := outcome.spread(subject, metric)) is not None
        ]
        if shares:
            console.print(f"  [dim]{subject}: of one core, {', '.join(shares)}[/dim]")
        for problem in outcome.problems(subject):
            style = "bold red" if "NOT EVERYTHING" in problem or "FAILED" in problem else "yellow"
            text = escape(shortened(problem))
            console.print(f"  [{style}]{subject}, {text}[/{style}]", highlight=False)


def show_targets(console: Console, outcomes: Sequence[Outcome]) -> None:
    """The last lines of a run: how many targets were reached, and which were not."""
    asked = 0
    missed = []
    ratios = []
    for outcome in outcomes:
        for row in outcome.scenario.rows:
            value = outcome.spread(OURS, row.metric)
            if row.reach is None or value is None:
                continue
            asked += 1
            name = f"{outcome.scenario.name}: {row.label}"
            if not row.reached(value.median):
                wanted = f"{row.better.sign} {number(row.reach)} {row.unit}"
                missed.append(f"{name} {number(value.median)} instead of {wanted}")
            beside = outcome.ratio(row.metric, OURS, PEER) if PEER in outcome.rounds else None
            if beside is None or row.centrifugo is None:
                continue
            # Machines differ; how far ahead of the same peer in the same run does not so much.
            wanted_ratio = row.reach / row.centrifugo
            good = beside <= wanted_ratio if row.better is Better.LOWER else beside >= wanted_ratio
            ratios.append(
                f"{name} {number(beside)} of {PEER}'s here, {row.better.sign} "
                f"{number(wanted_ratio)} asked: {'reached' if good else 'missed'}"
            )
    if not asked:
        return
    console.print(f"\n[bold]{asked - len(missed)} of {asked} targets reached[/bold]")
    for line in missed:
        console.print(f"  missed: {line}", highlight=False)
    if ratios:
        console.print(f"\n[bold]The same marks as ratios to {PEER} in this run[/bold]")
    for line in ratios:
        console.print(f"  {line}", highlight=False)


def scenario_table() -> Table:
    """What `--list` shows."""
    table = Table()
    table.add_column("scenario", style="bold")
    table.add_column("what")
    table.add_column("to reach")
    for scenario in SCENARIOS:
        wanted = [
            f"{row.label} {row.better.sign} {number(row.reach)} {row.unit}"
            for row in scenario.rows
            if row.reach is not None and row.unit != "%"
        ]
        table.add_row(scenario.name, scenario.title, "\n".join(wanted) or "-")
    return table


def comparison_tables(
    before: dict[str, Any], after: dict[str, Any], names: Sequence[str]
) -> list[Table]:
    """For each scenario and subject in both: medians and their ratio."""
    tables = []
    old = {scenario["name"]: scenario for scenario in before["scenarios"]}
    for scenario in after["scenarios"]:
        other = old.get(scenario["name"])
        if other is None:
            continue
        for subject, result in scenario["subjects"].items():
            if subject not in other["subjects"]:
                continue
            table = Table(
                title=f"{scenario['name']}, {subject}: {scenario['title']}",
                title_justify="left",
                title_style="bold",
            )
            table.add_column("figure")
            table.add_column("unit")
            for name in names:
                table.add_column(name, justify="right")
            table.add_column("ratio", justify="right")
            table.add_column("")
            for row in scenario["rows"]:
                pair = [
                    _spread_of(summary.get(row["metric"]))
                    for summary in (
                        other["subjects"][subject]["summary"],
                        result["summary"],
                    )
                ]
                a, b = pair
                change = ratio(b.median, a.median) if a and b else None
                table.add_row(
                    row["label"],
                    row["unit"],
                    cell(a),
                    cell(b),
                    number(change),
                    difference(
                        a,
                        b,
                        rounds=min(before["rounds"], after["rounds"]),
                        lower_is_better=row["better"] == "lower",
                    ),
                )
            tables.append(table)
    return tables


def difference(a: Spread | None, b: Spread | None, *, rounds: int, lower_is_better: bool) -> str:
    """Whether `b` differs from `a` by more than the rounds of each differ among themselves."""
    if a is None or b is None:
        return ""
    if rounds < MIN_ROUNDS:
        return "[dim]too few rounds to say[/dim]"
    if b.low <= a.high and a.low <= b.high:
        return "[dim]within the spread[/dim]"
    better = (b.median < a.median) is lower_is_better
    return "[green]better[/green]" if better else "[red]worse[/red]"


def _spread_of(summary: dict[str, float] | None) -> Spread | None:
    return None if summary is None else Spread(**summary)
