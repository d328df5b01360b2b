"""Every query of every board and rule finds something on a running gateway, and nothing is
measured that nobody looks at.
"""

from __future__ import annotations

import asyncio
import math
import re
import subprocess
from collections.abc import Iterator, Mapping

import pytest

from tests.dashboards.board_files import Asked, marks, queries, variables
from tests.dashboards.proof import WAYS, Proof, perform
from tests.dashboards.rules_files import alerts, rules
from tests.servers.prometheus import QueryFailed
from tidegate.telemetry.metrics import TABLE, Kind

pytestmark = [pytest.mark.real("prometheus"), pytest.mark.timeout(220)]

INTERVALS = {"__rate_interval": "10s", "__range": "5m"}
#: Metrics that may have been 0 whenever they were scraped, each with the reason.
QUIET = {
    "tidegate_spans_dropped_total": "traces are off",
    "tidegate_outbox_items": "written within a turn of the loop",
    "tidegate_redis_attach_backlog": "attached within a second",
    "tidegate_undispatched_entries": "dispatched within a second",
}
_NAME = re.compile(r"\b(?:release:)?tidegate_[a-z0-9_]+(?::ratio_rate\w+)?\b|\bprocess_[a-z_]+\b")


@pytest.fixture(scope="module")
def proof() -> Iterator[Proof]:
    """Performed once, in a loop of its own: what it leaves is a process, and bound to no loop."""
    proof = asyncio.run(perform())
    yield proof
    proof.prometheus.close()


def _filled(expr: str, values: Mapping[str, str]) -> str:
    for name, value in {**INTERVALS, **values}.items():
        expr = expr.replace(f"${name}", value)
    assert "$" not in expr, expr
    return expr


async def _emptiness(proof: Proof, asked: Asked, values: Mapping[str, str]) -> str | None:
    """Why a panel would be empty: an error, no series, or never a number."""
    expr = _filled(asked.expr, values)
    try:
        found = await proof.prometheus.query_range(expr, proof.start_s, proof.end_s)
    except QueryFailed as error:
        return f"{asked.where}: {error}"
    numbers = [float(value) for series in found for _, value in series["values"]]
    if not any(math.isfinite(number) for number in numbers):
        return f"{asked.where}: {'never a number' if numbers else 'no series'}: {expr}"
    return None


@pytest.mark.parametrize("way", WAYS)
async def test_no_panel_is_empty(proof: Proof, way: str) -> None:
    empty = [await _emptiness(proof, asked, WAYS[way]) for asked in queries()]

    assert len(empty) > 100
    assert [why for why in empty if why is not None] == []


@pytest.mark.parametrize("way", WAYS)
async def test_deploys_and_drains_are_marked(proof: Proof, way: str) -> None:
    empty = [await _emptiness(proof, asked, WAYS[way]) for asked in marks()]

    assert [why for why in empty if why is not None] == []


async def test_variables_have_values(proof: Proof) -> None:
    for asked in variables():
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", asked.expr)
        assert found, asked
        match, label = _filled(found[1], dict.fromkeys(("namespace", "release"), ".*")), found[2]
        assert await proof.prometheus.label_values(label, match), asked


async def test_every_rule_is_evaluated_without_an_error(proof: Proof) -> None:
    found = [rule for group in await proof.prometheus.rule_groups() for rule in group["rules"]]

    assert len(found) == len(rules())
    assert [(rule["name"], rule["lastError"]) for rule in found if rule["health"] != "ok"] == []


async def test_every_recorded_series_has_values(proof: Proof) -> None:
    for rule in rules():
        if "record" in rule:
            why = await _emptiness(proof, Asked(rule["record"], rule["record"]), {})
            assert why is None


async def test_what_alerts_look_at_is_there(proof: Proof) -> None:
    there = await proof.prometheus.metric_names()
    for rule in alerts():
        names = set(_NAME.findall(rule["expr"]))
        assert names, rule["alert"]
        assert names <= there, (rule["alert"], names - there)


async def test_the_alert_for_a_lost_redis_was_on_its_way(proof: Proof) -> None:
    """Of the alerts, the one whose trouble is in the scenario."""
    pending = 'ALERTS{alertname="TidegateRedisAway"}'
    assert await proof.prometheus.query_range(pending, proof.start_s, proof.end_s)


async def test_every_metric_has_moved(proof: Proof) -> None:
    """A metric that is 0 under all this is not wired, or measures nothing."""
    still = []
    for row in TABLE:
        name = f"{row.name}_count" if row.kind is Kind.HISTOGRAM else row.name
        expr = f"max(abs({name}))"
        found = await proof.prometheus.query_range(expr, proof.start_s, proof.end_s)
        if not any(float(value) > 0 for series in found for _, value in series["values"]):
            still.append(row.name)

    assert set(still) <= QUIET.keys()


def test_every_metric_of_the_code_is_on_a_board_or_in_a_rule() -> None:
    used = set()
    for expr in [asked.expr for asked in queries()] + [rule["expr"] for rule in rules()]:
        used |= set(_NAME.findall(expr))
    bare = {re.sub(r"_(bucket|sum|count)$", "", name) for name in used} | used

    assert {row.name for row in TABLE} - bare == set()


def test_boards_and_rules_use_no_metric_that_is_not_in_the_code() -> None:
    known = {row.name for row in TABLE if row.kind is not Kind.HISTOGRAM}
    known |= {
        f"{row.name}_{part}"
        for row in TABLE
        if row.kind is Kind.HISTOGRAM
        for part in ("bucket", "sum", "count")
    }
    known |= {rule["record"] for rule in rules() if "record" in rule}
    for expr in [asked.expr for asked in queries()] + [rule["expr"] for rule in rules()]:
        ours = {name for name in _NAME.findall(expr) if not name.startswith("process_")}
        assert ours <= known, (ours - known, expr)


async def test_prometheus_finds_nothing_to_complain_about(proof: Proof) -> None:
    # Those of Python's own collectors are not ours to name.
    lines = proof.exposed.splitlines(keepends=True)
    lint = await asyncio.to_thread(
        subprocess.run,
        ["promtool", "check", "metrics"],
        input="".join(line for line in lines if "tidegate_" in line),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (lint.returncode, lint.stdout, lint.stderr) == (0, "", "")
