"""The tables on the terminal: each figure beside its target, the reference and the baseline.

Shows medians with the extremes of the rounds. Problems stand under their table in words; the first
line of the table's foot says how much of the bed's core the load took, since that is what may
spoil a figure.
"""

import math
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.results import Outcome
from bench.scenarios import SCENARIOS, Better, Row
from bench.stats import Difference, Spread, judge
from bench.subjects import UNMEASURED, WORKERS

OURS: Final = "tidegate"
PEER: Final = "centrifugo"
# A problem may hold the end of a log; the JSON file has it whole.
MAX_PROBLEM_CHARS: Final = 2_000
PROBLEM_HEAD_CHARS: Final = 200
#: Under a table with ratios.
IN_BRACKETS: Final = (
    "a ratio in brackets is no result: the ranges of the rounds overlap, or there are fewer than 3"
)
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
        caption=f"median of {rounds} round{'s' if rounds > 1 else ''}, lowest..highest"
        + (f"; {IN_BRACKETS}" if len(subjects) > 1 else ""),
        caption_justify="left",
    )
    table.add_column("figure")
    table.add_column("unit")
    table.add_column("Centrifugo", justify="right")
    table.add_column("reach", justify="right")
    for subject in subjects:
        table.add_column(subject, justify="right")
    for other in subjects[1:]:
        table.add_column(f"/ {other}, per round", justify="right")
    table.add_column("")
    for row in outcome.scenario.rows:
        cells = [outcome.spread(subject, row.metric) for subject in subjects]
        line = [row.label, row.unit, number(row.centrifugo), number(row.reach)]
        line += [cell(value) for value in cells]
        for other in subjects[1:]:
            line.append(ratio_cell(outcome, row.metric, subjects[0], other))
        line.append(verdict(row, cells[0]) if subjects[0] == OURS else "")
        table.add_row(*line)
    return table


def ratio_cell(outcome: Outcome, metric: str, ours: str, theirs: str) -> str:
    """The ratio in each round, its median and extremes; in brackets where it is no result."""
    a, b = outcome.spread(ours, metric), outcome.spread(theirs, metric)
    found = outcome.ratios(metric, ours, theirs)
    if a is None or b is None or found is None:
        return "-"
    rounds = min(len(outcome.values(ours, metric)), len(outcome.values(theirs, metric)))
    match judge(a, b, rounds=rounds):
        case Difference.REAL:
            return cell(found)
        case Difference.WITHIN:
            return f"[dim]({number(found.median)}) within the spread[/dim]"
        case Difference.TOO_FEW_ROUNDS:
            return f"[dim]({number(found.median)})[/dim]"


def shortened(problem: str) -> str:
    """Beginning and end of a long text: what happened, and the last that was logged."""
    if len(problem) <= MAX_PROBLEM_CHARS:
        return problem
    rest = MAX_PROBLEM_CHARS - PROBLEM_HEAD_CHARS
    return f"{problem[:PROBLEM_HEAD_CHARS]}\n[...]\n{problem[-rest:]}"


def metrics_cost(outcome: Outcome) -> str:
    """The CPU per delivery with metrics over that without, round by round; empty if unknown."""
    return _cost(outcome, "with metrics over that without", OURS, UNMEASURED)


def workers_cost(outcome: Outcome) -> str:
    """The CPU per delivery with workers over that of one process, in the same way."""
    for name in outcome.rounds:
        if name.endswith(WORKERS):
            return _cost(outcome, f"with {name} over that of one process", name, OURS)
    return ""


def _cost(outcome: Outcome, words: str, subject: str, other: str) -> str:
    for metric, what in (("cpu_us_per_delivery", "delivery"), ("cpu_us_per_connect", "connect")):
        cost = outcome.ratios(metric, subject, other)
        if cost is not None:
            text = (
                f"CPU per {what} {words}, in the same round: median "
                f"{cost.median:.3f}, {cost.low:.3f}..{cost.high:.3f}"
            )
            return f"{text}: within the spread" if cost.low <= 1 <= cost.high else text
    return ""


def show_outcome(console: Console, outcome: Outcome) -> None:
    console.print()
    console.print(outcome_table(outcome))
    for cost in (metrics_cost(outcome), workers_cost(outcome)):
        if cost:
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
            beside = outcome.ratios(row.metric, OURS, PEER) if PEER in outcome.rounds else None
            if beside is None or row.centrifugo is None:
                continue
            # Machines differ; how far ahead of the same peer in the same run does not so much.
            wanted_ratio = row.reach / row.centrifugo
            ratios.append(
                f"{name} {cell(beside)} of {PEER}'s here, {row.better.sign} "
                f"{number(wanted_ratio)} asked: {reached(beside, wanted_ratio, row.better)}"
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


def reached(value: Spread, wanted: float, better: Better) -> str:
    """Whether all rounds are on the good side, or none; anything between is no result."""
    below, above = value.high <= wanted, value.low > wanted
    if not below and not above:
        return "within the spread"
    return "reached" if below is (better is Better.LOWER) else "missed"


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
