"""The command itself, as a process: help, refusals, and nothing left behind when it is stopped."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli import anything_wrong, app
from bench.measures import Round
from bench.results import Outcome
from bench.scenarios import SCENARIOS, scenario_named
from tests.harness.waiting import until

REPOSITORY = Path(__file__).resolve().parents[2]
runner = CliRunner()


def test_the_list_names_every_scenario() -> None:
    result = runner.invoke(app, ["--list"])

    assert result.exit_code == 0
    assert all(scenario.name in result.output for scenario in SCENARIOS)


def test_an_unknown_scenario_is_refused_with_the_known_ones() -> None:
    result = runner.invoke(app, ["--scenario", "nope"])

    assert result.exit_code == 2
    assert "200x10" in result.output


def test_nothing_to_measure_is_refused() -> None:
    assert runner.invoke(app, ["--no-baseline", "--baseline-only"]).exit_code == 2
    assert runner.invoke(app, ["--without-metrics", "--baseline-only"]).exit_code == 2


@pytest.mark.parametrize(
    ("one", "wrong"),
    [
        (Round(figures={"delivered_pct": 100.0}), False),
        (Round(figures={"delivered_pct": 99.99}), True),
        (Round(problems=["FAILED: gone"]), True),
    ],
)
def test_the_status_tells_whether_the_gateway_delivered(one: Round, wrong: bool) -> None:
    scenario = scenario_named("200x10")

    assert anything_wrong([Outcome(scenario, {"tidegate": [one]})]) is wrong
    assert anything_wrong([Outcome(scenario, {"naive": [one]})]) is False


def children_of(pid: int) -> set[int]:
    tasks = Path(f"/proc/{pid}/task")
    return {
        int(child) for listing in tasks.glob("*/children") for child in listing.read_text().split()
    }


@pytest.mark.real("valkey9")
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.full),
        (signal.SIGKILL, -9),
    ],
)
async def test_a_stopped_run_leaves_no_process(
    sent: signal.Signals, status: int, tmp_path: Path
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench", "--baseline-only", "-s", "200x10", "--seconds", "60"),
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        # Redis, the server, the viewers and the publisher.
        await until(lambda: len(children_of(process.pid)) == 4)
        started = children_of(process.pid)
        process.send_signal(sent)
        async with asyncio.timeout(30):
            assert process.stdout is not None
            output = (await process.stdout.read()).decode()
            assert await process.wait() == status, output
        await until(lambda: not any(running(pid) for pid in started))
        # Nobody is left to tidy up after SIGKILL.
        assert sent == signal.SIGKILL or entries_of(tmp_path) == []
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def entries_of(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def running(pid: int) -> bool:
    """Whether it runs; a zombie that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False
