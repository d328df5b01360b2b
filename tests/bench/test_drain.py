"""The drain demo, smaller: everybody comes back and has everything once, whatever the machine does.

How hard the others were hit is printed, never asserted: that is for `make drain-demo`.
"""

import sys
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from bench import drain, fleet
from bench.balancer import peak
from bench.drain import delivery_table, storm_table
from bench.errors import ProcessFailed
from bench.returning import Verdict, compare
from bench.rolling import Outcome, Scene, Side, naive, paced, play
from bench.stage import redis_binary
from bench.subjects import Subject

NUMBERS = st.lists(st.integers(min_value=0, max_value=30), max_size=40)


def untold(_: str, __: float) -> None:
    """Nobody watches the progress."""


@pytest.mark.full
@pytest.mark.real("valkey9")
@pytest.mark.faults
@pytest.mark.timeout(400)  # 30 s alone; beside other work it has passed 120 s
async def test_a_rolling_restart_loses_nobody_and_nothing() -> None:
    scene = Scene(300, 20, 40.0, redis_binary())

    outcomes = [await play(scene, side, untold) for side in (paced(2.0, delay_s=1.0), naive())]

    for outcome in outcomes:
        assert outcome.wrong(scene.viewers) == []
        assert outcome.judged["entries"] == outcome.written * scene.viewers / scene.operations
        # Everybody was sent away at least once: all three replicas were emptied.
        assert outcome.judged["came_back"] >= scene.viewers
        assert outcome.judged["happened"]["close 1012"] == outcome.judged["came_back"]
    console = Console(width=120)
    console.print(delivery_table(scene, outcomes))
    console.print(storm_table(outcomes))


@pytest.mark.real("valkey9")
async def test_a_replica_that_does_not_end_with_0_is_found_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stubborn = Subject("stubborn", (sys.executable, "-c", "import time; time.sleep(60)"), "")
    monkeypatch.setattr(fleet, "gateway", lambda: stubborn)
    replica = fleet.Replica(0, redis_url="", settings={}, folder=tmp_path)
    async with replica:
        with pytest.raises(ProcessFailed, match="ended with status -15"):
            await replica.stop(0.0)


def test_too_few_open_files_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "open_files_limit", lambda _: 100)
    app = typer.Typer()
    app.command()(drain.main)

    result = CliRunner().invoke(app, [])

    assert result.exit_code == 2
    assert "9,500 open files are needed" in result.output


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        ([0, 1, 2, 3], Verdict(0, 0, 0, 0)),
        ([0, 1, 3], Verdict(1, 0, 0, 0)),
        ([], Verdict(4, 0, 0, 0)),
        ([0, 1, 1, 2, 3], Verdict(0, 1, 0, 0)),
        ([0, 2, 1, 3], Verdict(0, 0, 1, 0)),
        ([0, 1, 2, 3, 9], Verdict(0, 0, 0, 1)),
        ([3, 2, 1, 0, 0, 9], Verdict(0, 1, 3, 1)),
    ],
)
def test_a_viewer_is_judged_by_its_stream(seen: list[int], verdict: Verdict) -> None:
    assert compare(seen, [0, 1, 2, 3]) == verdict


@given(NUMBERS)
def test_only_the_stream_itself_is_without_complaint(seen: list[int]) -> None:
    written = list(range(20))

    assert (compare(seen, written) == Verdict(0, 0, 0, 0)) is (seen == written)


@given(st.lists(st.floats(min_value=0, max_value=10), max_size=60).map(sorted))
def test_a_peak_is_what_counting_each_window_finds(moments: list[float]) -> None:
    window = 1.0

    naively = max(
        (sum(at - window + 1e-9 <= other <= at for other in moments) for at in moments), default=0
    )

    # Equal moments count together, as from the last of them.
    assert peak(moments, window) == naively


def test_what_is_wrong_is_said() -> None:
    judged = {
        "lost": 3,
        "twice": 0,
        "disordered": 1,
        "unknown": 0,
        "last_id_differs": 0,
        "open": 9,
        "happened": {"gap": 2},
    }

    assert Outcome("paced", judged=judged).wrong(10) == [
        "3 entries lost",
        "1 entries out of order",
        "2 gaps told, and nothing was trimmed",
        "1 of 10 viewers are not back",
    ]


def test_the_naive_side_has_no_pace_at_all() -> None:
    side: Side = naive()

    assert not side.polite
    assert side.settings["drain.window_s"] == side.settings["drain.jitter_s"] == 0
