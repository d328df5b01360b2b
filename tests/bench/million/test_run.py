"""The whole of `bench.million` with few viewers: real servers, a kill and a drain."""

import json
import sys
from pathlib import Path

import pytest

from tests.harness.programs import run

REPOSITORY = Path(__file__).resolve().parents[3]
VIEWERS = 2_000


@pytest.mark.full
@pytest.mark.real("valkey9")
@pytest.mark.timeout(300)
async def test_two_thousand_viewers_over_two_replicas(tmp_path: Path) -> None:
    saved = tmp_path / "few.json"

    done = await run(
        *(sys.executable, "-m", "bench.million", "--viewers", str(VIEWERS)),
        *("--operations", "200", "--replicas", "2", "--seconds", "2", "--json", str(saved)),
        cwd=REPOSITORY,
    )

    assert done.code == 0, done.out + done.err
    played = json.loads(saved.read_text())["run"]
    assert played["viewers"] == VIEWERS
    assert played["memory"]["servers"] > 0
    phases = {phase["name"]: phase for phase in played["phases"]}
    assert list(phases) == [
        *("connect", "hold", "each", "crowd", "kill", "drain-1", "drain-0", "after"),
    ]
    assert [phase["problems"] for phase in phases.values()] == [[]] * len(phases)
    for name, expected in (("each", VIEWERS), ("crowd", VIEWERS / 2), ("after", VIEWERS)):
        assert phases[name]["figures"]["delivered"] == expected
    for name in ("kill", "drain-1", "drain-0"):
        figures = phases[name]["figures"]
        assert figures["came_back"] >= figures["viewers_of_it"] > 0
    assert phases["drain-1"]["happened"]["close 1012"] == phases["drain-1"]["figures"]["came_back"]
