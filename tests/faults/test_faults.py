"""Seeded faults over three replicas, for some seconds or a minute; the judge over every viewer."""

from __future__ import annotations

import os
import random
import sys
from itertools import pairwise

import pytest

from tests.faults import report
from tests.faults.judge import Gap
from tests.faults.plan import Kind, make_plan
from tests.faults.stage import REPLICAS, open_stage
from tests.servers import binaries

SEED = int(os.environ.get("TIDEGATE_FAULTS_SEED") or random.randrange(1_000_000))
SECONDS = float(os.environ.get("TIDEGATE_FAULTS_SECONDS") or 60)
SHORT_S = 8.0


def test_the_seed_decides_the_plan() -> None:
    plan = make_plan(7, 120, REPLICAS)
    assert plan == make_plan(7, 120, REPLICAS)
    assert plan != make_plan(8, 120, REPLICAS)
    assert {fault.kind for fault in plan} == set(Kind)
    assert all(a.at_s < b.at_s for a, b in pairwise(plan))


@pytest.mark.faults
@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.real("valkey9")
@pytest.mark.parametrize("seconds", [SHORT_S, pytest.param(SECONDS, marks=pytest.mark.full)])
async def test_nothing_is_lost_repeated_or_reordered(
    seconds: float, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_stage(SEED, binaries.embedded()) as stage:
        await stage.perform(make_plan(SEED, seconds, REPLICAS))
        left = await stage.leftovers()
    verdicts = [verdict for op in stage.operations for verdict in op.verdicts()]
    shown = report.summary(SEED, seconds, stage.operations, verdicts, stage.harm.blows)
    with capsys.disabled():
        sys.stdout.write(f"\n{shown}\n")
    wrong = report.complaints(verdicts)
    # Nothing was trimmed, deleted or lost by the server: there is nothing to announce.
    wrong += [
        f"{viewer.name}: needless {event}"
        for viewer, _ in verdicts
        for event in viewer.record
        if isinstance(event, Gap)
    ]
    told = "\n".join(wrong + left)
    assert not told, f"TIDEGATE_FAULTS_SEED={SEED} TIDEGATE_FAULTS_SECONDS={seconds:g}\n{told}"
