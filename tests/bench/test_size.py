"""The comparison of `tidegate size` with results of the bench."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from bench import size
from bench.results import FORMAT
from bench.size import COMPARED, compare
from tidegate.cli.size_costs import Work, redis_cpu, replica_cpu


def result(**scenarios: dict[str, float]) -> dict[str, Any]:
    """As `bench.results` saves one."""
    sizes = {"live": (1000, 10), "idle": (0, 10)}
    return {
        "format": FORMAT,
        "scenarios": [
            {
                "name": {"live": "200x10", "idle": "idle"}[name],
                "entries_per_s": sizes[name][0],
                "viewers_each": sizes[name][1],
                "operations": 200,
                "subjects": {
                    "tidegate": {"summary": {k: {"median": v} for k, v in figures.items()}},
                    "naive": {"summary": {"cpu_us_per_delivery": {"median": 1.0}}},
                },
            }
            for name, figures in scenarios.items()
        ],
    }


def test_measured_stands_beside_estimated() -> None:
    saved = result(
        live={"cpu_us_per_delivery": 91.0, "redis_us_per_entry": 96.0, "p50_ms": 1.0},
        idle={"cpu_us_per_delivery": 1.0},
    )
    delivery, entry = compare(saved)
    work = Work(1, 2_000, 200, 1.0, 1_000, 10_000)
    assert delivery.estimated == pytest.approx(replica_cpu(work) * 100)
    assert entry.estimated == pytest.approx(redis_cpu(work) * 1000)
    assert delivery.ratio == pytest.approx(91.0 / delivery.estimated)
    assert entry.ratio == pytest.approx(96.0 / entry.estimated)


def test_the_command_prints_the_factor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.json"
    estimated = replica_cpu(Work(1, 2_000, 200, 1.0, 1_000, 10_000)) * 100
    path.write_text(json.dumps(result(live={"cpu_us_per_delivery": 2 * estimated})))
    size.main(str(path))
    assert "--cpu-scale 2.00" in capsys.readouterr().out


def test_a_result_without_these_scenarios(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.json"
    path.write_text(json.dumps(result(idle={"cpu_us_per_delivery": 1.0})))
    with pytest.raises(typer.Exit) as ended:
        size.main(str(path))
    assert ended.value.exit_code == 1
    assert "no scenario to compare" in capsys.readouterr().out
    path.write_text("{}")
    with pytest.raises(typer.Exit) as ended:
        size.main(str(path))
    assert ended.value.exit_code == 2


def test_the_scenarios_exist() -> None:
    from bench.scenarios import scenario_named

    assert [scenario_named(name).replicas for name in COMPARED] == [1] * 4
