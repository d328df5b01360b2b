"""Compares two saved results: where each was made, what else ran there, and what differs.

A ratio is shown only if the ranges of the rounds do not overlap (`stats.judge`). Otherwise the
difference is "within the spread", however far apart the medians are.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rich.table import Table

from bench.report import cell, number
from bench.stats import Difference, Spread, judge, ratio

Result = Mapping[str, Any]
#: Share of a core above which other programs may have affected the result.
OTHERS_CORE_PCT: Final = 15.0
OTHERS: Final = "others_core_pct"


def where(result: Result, name: str) -> str:
    """One line: machine, versions, rounds, and CPU used by other programs."""
    on, versions = result.get("machine", {}), result.get("versions", {})
    loads = others(result)
    load = f"{min(loads):.0f}..{max(loads):.0f} % of a core" if loads else "not measured"
    rounds, seconds = result.get("rounds", "?"), result.get("seconds", "?")
    return (
        f"{name}: {on.get('processor', 'unknown processor')}, {on.get('cores', '?')} cores, "
        f"{on.get('kernel', '?')}, {on.get('python', '?')}; commit {versions.get('commit', '?')}; "
        f"{rounds} rounds of {seconds} s; other programs used {load}"
    )


def others(result: Result) -> list[float]:
    """CPU used by other programs in each round, in percent of a core."""
    return [
        one["figures"][OTHERS]
        for scenario in result["scenarios"]
        for subject in scenario["subjects"].values()
        for one in subject["rounds"]
        if OTHERS in one["figures"]
    ]


def warnings(before: Result, after: Result, names: Sequence[str]) -> Iterator[str]:
    """Why the two may not be comparable."""
    if before.get("machine") != after.get("machine"):
        yield "measured on different machines: the ratios are not reliable"
    for name, result in zip(names, (before, after), strict=True):
        loads = others(result)
        if loads and max(loads) > OTHERS_CORE_PCT:
            yield f"{name}: other programs used up to {max(loads):.0f} % of a core"


def comparison_tables(before: Result, after: Result, names: Sequence[str]) -> list[Table]:
    """For each scenario and subject in both results: medians, and the ratio if they differ."""
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
                a, b = (
                    _spread_of(one["summary"].get(row["metric"]))
                    for one in (other["subjects"][subject], result)
                )
                rounds = min(
                    _rounds_with(one, row["metric"]) for one in (other["subjects"][subject], result)
                )
                table.add_row(
                    row["label"],
                    row["unit"],
                    cell(a),
                    cell(b),
                    *difference(a, b, rounds=rounds, lower_is_better=row["better"] == "lower"),
                )
            tables.append(table)
    return tables


def difference(
    a: Spread | None, b: Spread | None, *, rounds: int, lower_is_better: bool
) -> tuple[str, str]:
    """The ratio and its meaning, or an empty text and why there is no ratio."""
    if a is None or b is None:
        return "", ""
    found = judge(a, b, rounds=rounds)
    if found is not Difference.REAL:
        return "", f"[dim]{found.value}[/dim]"
    better = (b.median < a.median) is lower_is_better
    meaning = "[green]better[/green]" if better else "[red]worse[/red]"
    return number(ratio(b.median, a.median)), meaning


def _rounds_with(subject: Mapping[str, Any], metric: str) -> int:
    return sum(metric in one["figures"] for one in subject["rounds"])


def _spread_of(summary: Mapping[str, float] | None) -> Spread | None:
    return None if summary is None else Spread(**summary)
