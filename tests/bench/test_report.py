"""What is shown and saved: verdicts, differences between two results, collapsed stacks."""

from pathlib import Path

import pytest
from rich.console import Console

from bench.comparison import comparison_tables, difference, warnings, where
from bench.errors import NotPossible
from bench.measures import Round
from bench.profile import read_collapsed
from bench.report import number, reached, show_outcome, show_targets
from bench.results import Outcome, document, load, save
from bench.scenarios import Better, scenario_named
from bench.stats import Spread

ABOUT = {"machine": {"cores": 2}, "versions": {}, "rounds": 3}


def outcome(**figures: float) -> Outcome:
    """200x10 with the same figures for both subjects, the naive one twice as high."""
    ours = Round(figures=dict(figures))
    theirs = Round(figures={name: 2 * value for name, value in figures.items()})
    return Outcome(scenario_named("200x10"), {"tidegate": [ours], "naive": [theirs]})


def shown(*outcomes: Outcome) -> str:
    console = Console(width=160, record=True, force_terminal=False)
    for one in outcomes:
        show_outcome(console, one)
    show_targets(console, outcomes)
    return console.export_text()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (0.4567, "0.46"),
        (12.34, "12.3"),
        (99.91, "99.91"),
        (1234.5, "1,234"),
    ],
)
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert number(value) == text


def test_less_than_everything_never_reads_as_everything() -> None:
    assert number(99.9999) == "99.99"
    assert number(100.0) == "100"


def test_targets_are_judged_by_the_median() -> None:
    text = shown(outcome(cpu_us_per_delivery=20.0, p99_ms=1.4, delivered_pct=100.0))

    assert "2 of 3 targets reached" in text
    assert "missed: 200x10: latency p99 1.40 instead of <= 1.00 ms" in text


def test_what_metrics_cost_is_told_round_by_round() -> None:
    """Of rounds that have both: a machine that is slower in one of them is so for both."""
    costs = {"tidegate": (21.0, 44.0, None, 11.0), "no metrics": (20.0, 40.0, 30.0, 10.0)}
    one = Outcome(scenario_named("200x10"))
    for name, figures in costs.items():
        one.rounds[name] = [
            Round() if cost is None else Round(figures={"cpu_us_per_delivery": cost})
            for cost in figures
        ]

    assert "in the same round: median 1.100, 1.050..1.100" in shown(one)
    assert "with metrics" not in shown(outcome(cpu_us_per_delivery=20.0))


def test_problems_are_shown_with_their_rounds() -> None:
    one = outcome(delivered_pct=99.0)
    problem = "NOT EVERYTHING ARRIVED: 99 of 100"
    one.rounds["tidegate"] = [Round(), Round(problems=[problem]), Round(problems=[problem])]

    assert f"tidegate, round 2, 3: {problem}" in shown(one)


def test_a_round_without_figures_is_shown_too() -> None:
    one = Outcome(scenario_named("200x10"), {"tidegate": [Round(problems=["FAILED: gone"])]})

    assert "FAILED: gone" in shown(one)
    assert document([one], ABOUT)["scenarios"][0]["subjects"]["tidegate"]["summary"] == {}


def test_a_difference_counts_only_outside_the_spread() -> None:
    slow, quick = Spread(10.0, 9.0, 11.0), Spread(5.0, 4.0, 6.0)

    assert difference(slow, quick, rounds=3, lower_is_better=True) == (
        "0.50",
        "[green]better[/green]",
    )
    assert "worse" in difference(slow, quick, rounds=3, lower_is_better=False)[1]
    near = Spread(10.5, 10.0, 12.0)
    assert difference(slow, near, rounds=3, lower_is_better=True) == (
        "",
        "[dim]within the spread[/dim]",
    )
    ratio, why = difference(slow, quick, rounds=2, lower_is_better=True)
    assert (ratio, "too few" in why) == ("", True)
    assert difference(None, quick, rounds=3, lower_is_better=True) == ("", "")


def rounds_of(**costs: tuple[float, ...]) -> Outcome:
    """200x10 with these CPU costs."""
    one = Outcome(scenario_named("200x10"))
    for name, values in costs.items():
        one.rounds[name] = [
            Round(figures={"cpu_us_per_delivery": cost, "others_core_pct": 3.0 + cost})
            for cost in values
        ]
    return one


def test_the_ratio_to_the_baseline_has_its_spread_or_is_in_brackets() -> None:
    apart = shown(rounds_of(tidegate=(20.0, 21.0, 22.0), naive=(40.0, 50.0, 44.0)))
    assert "0.50  0.42..0.50" in apart

    near = shown(rounds_of(tidegate=(20.0, 21.0, 45.0), naive=(40.0, 50.0, 44.0)))
    assert "(0.50) within the spread" in near

    few = shown(rounds_of(tidegate=(20.0, 21.0), naive=(40.0, 50.0)))
    assert "(0.46)" in few
    assert "within" not in few


@pytest.mark.parametrize(
    ("spread", "better", "said"),
    [
        (Spread(0.5, 0.4, 0.6), Better.LOWER, "reached"),
        (Spread(0.5, 0.4, 0.7), Better.LOWER, "within the spread"),
        (Spread(0.8, 0.7, 0.9), Better.LOWER, "missed"),
        (Spread(0.8, 0.7, 0.9), Better.HIGHER, "reached"),
    ],
)
def test_a_target_is_reached_where_every_round_reaches_it(
    spread: Spread, better: Better, said: str
) -> None:
    assert reached(spread, 0.65, better) == said


def test_a_result_is_read_back_and_compared(tmp_path: Path) -> None:
    for name, costs in (("before", (40.0, 41.0, 42.0)), ("after", (20.0, 21.0, 22.0))):
        one = rounds_of(tidegate=costs, naive=(50.0, 50.0, 50.0))
        save(str(tmp_path / f"{name}.json"), document([one], ABOUT))
    before, after = (load(str(tmp_path / f"{name}.json")) for name in ("before", "after"))

    tables = comparison_tables(before, after, ("before", "after"))
    console = Console(width=160, record=True, force_terminal=False)
    console.print(tables[0])

    assert len(tables) == 2
    text = console.export_text()
    assert "0.51" in text
    assert "better" in text
    assert "2 cores" in where(before, "before")
    assert "other programs used 43..53 % of a core" in where(before, "before")
    assert list(warnings(before, {**after, "machine": {}}, ("before", "after"))) == [
        "measured on different machines: the ratios are not reliable",
        "before: other programs used up to 53 % of a core",
        "after: other programs used up to 53 % of a core",
    ]


@pytest.mark.parametrize("text", ["", "{", '{"format": 999}', "[]"])
def test_what_is_no_result_is_refused_with_its_path(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)

    with pytest.raises(NotPossible, match=r"other\.json"):
        load(str(path))


def test_collapsed_stacks_are_summed_by_function_and_line() -> None:
    profile = read_collapsed(
        [
            "main (app.py:1);send (app.py:10) 3",
            "main (app.py:1);send (app.py:11) 2",
            "main (app.py:1);loop (app.py:5);send (app.py:10) 4",
            "main (app.py:2) 1",
            "not a stack",
        ]
    )

    assert profile.samples == 10
    assert profile.own == {"send (app.py)": 9, "main (app.py)": 1}
    assert profile.within == {"main (app.py)": 10, "send (app.py)": 9, "loop (app.py)": 4}
    assert profile.lines["send (app.py:10)"] == 7
