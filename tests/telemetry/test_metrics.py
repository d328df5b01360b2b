"""What a replica exposes: every row of the table, in a form that Prometheus' own linter accepts."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.gateway.replica import Replica
from tests.servers.standalone import Server
from tidegate.telemetry.metrics import TABLE
from tidegate.telemetry.metrics_page import metrics_page

REPOSITORY = Path(__file__).parents[2]


async def _exposed(redis_server: Server) -> str:
    async with Replica(redis_server.url) as replica, replica.watch("42") as viewer:
        await viewer.state()
        return (await replica.admin("/metrics")).text


async def test_every_row_of_the_table_is_exposed(redis_server: Server) -> None:
    text = await _exposed(redis_server)
    families = {family.name: family for family in text_string_to_metric_families(text)}

    for row in TABLE:
        family = families[row.name.removesuffix("_total")]
        assert family.type == row.kind.value
        assert all(set(sample.labels) <= {row.label, "le"} for sample in family.samples)
    assert families["tidegate_viewers"].samples


@pytest.mark.real("promtool")
async def test_prometheus_finds_nothing_to_complain_about(redis_server: Server) -> None:
    text = await _exposed(redis_server)
    # Those of Python's own collectors are not ours to name.
    ours = "".join(line for line in text.splitlines(keepends=True) if "tidegate_" in line)

    lint = await asyncio.to_thread(
        subprocess.run,
        ["promtool", "check", "metrics"],
        input=ours,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (lint.returncode, lint.stdout, lint.stderr) == (0, "", "")


def test_the_reference_page_is_current() -> None:
    committed = (REPOSITORY / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert committed == metrics_page(), (
        "run: python -m tidegate.telemetry.metrics_page > docs/metrics.md"
    )
