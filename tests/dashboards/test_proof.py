"""Every query of the gateway's boards and of every rule finds something on a running gateway, and
nothing is measured that nobody looks at.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.dashboards.asking import WAYS, Scraped, filled, names, used
from tests.dashboards.board_files import OPERATOR, Asked, marks, queries, variables
from tests.dashboards.proof import perform
from tests.dashboards.rules_files import alerts, rules
from tidegate.telemetry.metric_table import Kind
from tidegate.telemetry.metrics import TABLE
from tidegate_operator.telemetry.metrics import TABLE as OPERATOR_TABLE

pytestmark = [
    pytest.mark.real("prometheus"),
    pytest.mark.timeout(220),
    pytest.mark.xdist_group("gateway's boards"),  # one performance
]

#: Metrics that may have been 0 whenever they were scraped, each with the reason.
QUIET = {
    "tidegate_memory_limit_bytes": "the replicas are in no container with a limit",
    "tidegate_memory_used_bytes": "the replicas are in no container with a limit",
    "tidegate_outbox_items": "written within a turn of the loop",
    "tidegate_redis_attach_backlog": "attached within a second",
    "tidegate_redis_refused_commands": "a replica is not ready before it has all of its rights",
    "tidegate_undispatched_entries": "dispatched within a second",
    "tidegate_worker_restarts_total": "the replicas have no workers",
}


@pytest.fixture(scope="module")
def proof() -> Iterator[Scraped]:
    """Performed once, in a loop of its own: what it leaves is a process, and bound to no loop."""
    proof = asyncio.run(perform())
    yield proof
    proof.prometheus.close()


@pytest.mark.parametrize("way", WAYS)
async def test_no_panel_is_empty(proof: Scraped, way: str) -> None:
    asked = [one for one in queries() if one.board != OPERATOR]

    assert len(asked) > 100
    assert await proof.empty(asked, WAYS[way]) == []


@pytest.mark.parametrize("way", WAYS)
async def test_deploys_and_drains_are_marked(proof: Scraped, way: str) -> None:
    assert await proof.empty(marks(), WAYS[way]) == []


async def test_variables_have_values(proof: Scraped) -> None:
    for asked in variables():
        if asked.board != OPERATOR:
            found = re.fullmatch(r"label_values\((.*), (\w+)\)", asked.expr)
            assert found, asked
            match = filled(found[1], dict.fromkeys(("namespace", "release"), ".*"))
            assert await proof.prometheus.label_values(found[2], match), asked


async def test_every_rule_is_evaluated_without_an_error(proof: Scraped) -> None:
    found = [rule for group in await proof.prometheus.rule_groups() for rule in group["rules"]]

    assert len(found) == len(rules())
    assert [(rule["name"], rule["lastError"]) for rule in found if rule["health"] != "ok"] == []


async def test_every_recorded_series_has_values(proof: Scraped) -> None:
    recorded = [
        Asked("rules", rule["record"], rule["record"]) for rule in rules() if "record" in rule
    ]

    assert await proof.empty(recorded, {}) == []


async def test_what_alerts_look_at_is_there(proof: Scraped) -> None:
    there = await proof.prometheus.metric_names()
    for rule in alerts():
        wanted = {name for name in names(rule["expr"]) if "_operator_" not in name}
        assert wanted <= there, (rule["alert"], wanted - there)


async def test_the_alert_for_a_lost_redis_was_on_its_way(proof: Scraped) -> None:
    """Of the alerts, the one whose trouble is in the scenario."""
    pending = 'ALERTS{alertname="TidegateRedisAway"}'
    assert await proof.prometheus.query_range(pending, proof.start_s, proof.end_s)


async def test_every_metric_has_moved(proof: Scraped) -> None:
    """A metric that is 0 under all this is not wired, or measures nothing."""
    still = []
    for row in TABLE:
        name = f"{row.name}_count" if row.kind is Kind.HISTOGRAM else row.name
        if not await proof.moved(f"abs({name})"):
            still.append(row.name)

    assert set(still) <= QUIET.keys()


def test_every_metric_of_the_code_is_on_a_board_or_in_a_rule() -> None:
    measured = {row.name for row in TABLE} | {row.name for row in OPERATOR_TABLE}

    assert measured - used() == set()


def test_boards_and_rules_use_no_metric_that_is_not_in_the_code() -> None:
    known = {row.name for row in TABLE if row.kind is not Kind.HISTOGRAM}
    known |= {row.name for row in OPERATOR_TABLE}
    known |= {
        f"{row.name}_{part}"
        for row in TABLE
        if row.kind is Kind.HISTOGRAM
        for part in ("bucket", "sum", "count")
    }
    known |= {rule["record"] for rule in rules() if "record" in rule}
    for expr in [asked.expr for asked in queries()] + [rule["expr"] for rule in rules()]:
        ours = {name for name in names(expr) if not name.startswith("process_")}
        assert ours <= known, (ours - known, expr)


@pytest.mark.parametrize("way", WAYS)
async def test_a_latency_leads_to_the_trace_of_its_entry(proof: Scraped, way: str) -> None:
    """From a bucket's exemplar in Prometheus to the span of a delivery in the collector."""
    pod = WAYS[way]["pod"]
    buckets = f'tidegate_publish_to_socket_seconds_bucket{{pod=~"{pod}"}}'
    found = await proof.prometheus.exemplars(buckets, proof.start_s, proof.end_s)
    traces = {one["labels"]["trace_id"] for one in found}

    assert traces & proof.delivered, (len(traces), len(proof.delivered))


async def test_prometheus_finds_nothing_to_complain_about(proof: Scraped) -> None:
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
