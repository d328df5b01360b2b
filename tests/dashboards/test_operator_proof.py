"""Every query of the operator's board finds something on a running operator: a real process on a
real API server, with a real Redis to sweep, and work of every kind.
"""

from __future__ import annotations

import asyncio
import subprocess
import time

import pytest
from redis.asyncio import Redis

from tests.dashboards.asking import KUBERNETES, WAYS, Scraped, names
from tests.dashboards.board_files import OPERATOR, queries, variables
from tests.dashboards.rules_files import alerts, rule_files
from tests.harness.waiting import until
from tests.operator.stage import Stage
from tests.operator.test_operator_scaling import begin, replicas_are
from tests.servers.prometheus import Prometheus, Target
from tests.servers.standalone import Server
from tidegate_operator.telemetry.metrics import TABLE

PREFIX = "operation-progress:"
STREAMS = {
    "trim": {"finishedEntries": 5},
    "pace": {"intervalS": 10},
    "memory": {"limitBytes": 2**30},
}
#: Metrics that stayed at 0, each with the reason.
QUIET = {
    "tidegate_operator_events_lost_total": "the API server took all events",
    "tidegate_operator_leases_disagree": "each pod has its lease",
    "tidegate_operator_loop_errors_total": "no round failed",
    "tidegate_operator_shed_connections_total": "nobody listens, so nobody is asked to move",
    "tidegate_operator_sweep_interruptions_total": "Redis stayed",
    "tidegate_operator_deliveries_per_second": "the pods are leases without a gateway",
    "tidegate_operator_undispatched_entries": "no stream is watched",
}


async def _finish(redis: Redis, name: str, kind: str) -> None:
    for n in range(20):
        await redis.xadd(PREFIX + name, {"type": "progress", "data": str(n)})
    await redis.xadd(PREFIX + name, {"type": f"operation_{kind}"})


async def _write_streams(server: Server) -> None:
    """Streams of each state, and a consumer of a dead pod."""
    async with server.client() as redis:
        await _finish(redis, "done", "completed")
        await _finish(redis, "lost", "failed")
        await redis.xadd(PREFIX + "running", {"type": "progress"})
        await redis.xgroup_create(PREFIX + "running", "tidegate", "0")
        await redis.xgroup_createconsumer(PREFIX + "running", "tidegate", "dead-pod")
        await redis.xadd(PREFIX + "old", {"type": "progress"}, id="1-1")


@pytest.mark.real("prometheus", "promtool")
@pytest.mark.timeout(240)
async def test_no_panel_of_the_operator_is_empty(stage: Stage, redis_server: Server) -> None:
    await _write_streams(redis_server)
    await begin(stage, 900, 900, streams=STREAMS)
    [operator] = stage.operators
    address = operator.url.removeprefix("http://")
    targets = [
        Target("kubernetes", address, {**KUBERNETES, "pod": operator.name}),
        Target("by-hand", address, {}),
    ]
    async with Prometheus(targets, rule_files=rule_files()) as prometheus:
        start_s = time.time()
        await until(replicas_are(stage, 4), operator.process.log_tail)
        await stage.condition("SweepHealthy", "True")
        # What Redis does not allow is left alone, and counted.
        async with redis_server.client() as redis:
            await redis.execute_command("ACL", "SETUSER", "default", "-xtrim")
            await _finish(redis, "late", "completed")
        # A full pod and an empty one, and nobody there to be asked.
        await stage.change_gateway(scaling={"mode": "none"}, replicas=2)
        await until(replicas_are(stage, 2), operator.process.log_tail)
        await stage.settle_deployment()
        [_, empty] = list(stage._leases)
        await stage.lease(empty, 10)
        for seen in (
            "tidegate_operator_action_failures_total > 0",
            "increase(tidegate_operator_sweep_commands_total[10s]) > 0",
            "tidegate_operator_sweep_changes_total > 0",
            "tidegate_operator_sweep_skipped_total > 0",
        ):
            await prometheus.until_scraped(seen, within_s=40)
        # A rate has to be of two scrapes, of each target, and before the last second that is asked.
        for counter in ("action_failures", "sweep_skipped"):
            name = f"tidegate_operator_{counter}_total"
            again = f"count by (job) (count_over_time({name}[10s]) > 3)"
            await prometheus.until_scraped(f"count({again}) == {len(targets)}")
        exposed = (await operator.get("/metrics")).text
        scraped = Scraped(prometheus, start_s, time.time(), exposed)

        board = [asked for asked in queries() if asked.board == OPERATOR]
        wrong = [why for way in WAYS.values() for why in await scraped.empty(board, way)]
        still = [row.name for row in TABLE if not await scraped.moved(f"abs({row.name})")]
        there = await prometheus.metric_names()

    assert len(board) > 30
    assert wrong == []
    assert set(still) <= QUIET.keys()
    for rule in alerts():
        ours = {name for name in names(rule["expr"]) if "_operator_" in name}
        assert ours <= there, rule["alert"]
    assert [asked.expr for asked in variables() if asked.board == OPERATOR]
    await _lint(exposed)


async def _lint(exposed: str) -> None:
    lines = exposed.splitlines(keepends=True)
    lint = await asyncio.to_thread(
        subprocess.run,
        ["promtool", "check", "metrics"],
        input="".join(line for line in lines if "tidegate_" in line),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (lint.returncode, lint.stdout, lint.stderr) == (0, "", "")
