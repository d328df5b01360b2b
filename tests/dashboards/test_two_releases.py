"""Two releases with the chart's monitors and rules on one Prometheus: told apart and missed."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.render import CASES, Manifest, read, template
from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers.prometheus import Prometheus, Target
from tests.servers.standalone import Server

pytestmark = [pytest.mark.real("helm", "prometheus"), pytest.mark.timeout(180)]
NAMESPACE = "some"
RELEASES = ("one", "two")


def monitoring(release: str) -> list[Manifest]:
    done = template({"monitoring": CASES["monitoring"]["monitoring"]}, release=release)
    assert done.returncode == 0, done.stderr
    return [one for one in read(done.stdout) if "monitoring.coreos.com" in one["apiVersion"]]


def labels(manifests: list[Manifest], pod: str) -> dict[str, str]:
    """Those of a target: what the Prometheus operator adds, and the monitor's relabeling."""
    (monitor,) = (
        one
        for one in manifests
        if one["kind"] == "PodMonitor" and one["metadata"]["name"].endswith("-gateway")
    )
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    set_by_chart = {one["targetLabel"]: one["replacement"] for one in endpoint["relabelings"]}
    return {"namespace": NAMESPACE, "pod": pod, **set_by_chart}


async def test_one_of_two_releases_that_is_gone_is_missed(
    redis_server: Server, tmp_path: Path
) -> None:
    """`absent` was true only when no release was left; both were summed as one without a name."""
    async with AsyncExitStack() as stack:
        replicas: dict[str, Replica] = {}
        targets: list[Target] = []
        files: list[Path] = []
        for release in RELEASES:
            manifests = monitoring(release)
            replica = Replica(
                redis_server.url, pod=f"{release}-1", redis={"key_prefix": f"of-{release}:"}
            )
            replicas[release] = await stack.enter_async_context(replica)
            address = f"127.0.0.1:{replica.settings.server.admin_port}"
            targets.append(Target(release, address, labels(manifests, f"{release}-1")))
            for one in manifests:
                if one["kind"] == "PrometheusRule":
                    files.append(tmp_path / f"{one['metadata']['name']}.yaml")
                    files[-1].write_text(yaml.safe_dump(one["spec"]))
        prometheus = await stack.enter_async_context(Prometheus(targets, rule_files=files))

        async def seen() -> set[Any]:
            found = await prometheus.query("tidegate_build_info")
            return {one["metric"].get("release") for one in found}

        async def both() -> bool:
            return await seen() == set(RELEASES)

        await until(both, "both releases are scraped", within_s=60)
        recorded = await prometheus.until_scraped("release:tidegate_delivery_lost:ratio_rate5m")
        await until(lambda: _recorded(prometheus), "both are recorded", within_s=60)
        assert all(one["metric"]["namespace"] == NAMESPACE for one in recorded)
        assert await missed(prometheus) == []

        await replicas["two"].stop()
        await until(lambda: missed(prometheus), "the loss is noticed", within_s=60)
        assert await missed(prometheus) == [{"namespace": NAMESPACE, "release": "two"}]
        assert await seen() == {"one"}
        groups = await prometheus.rule_groups()
        rules = [rule for group in groups for rule in group["rules"]]
        assert [rule["lastError"] for rule in rules if rule["health"] != "ok"] == []


async def _recorded(prometheus: Prometheus) -> bool:
    found = await prometheus.query("release:tidegate_delivery_lost:ratio_rate5m")
    return {one["metric"]["release"] for one in found} == set(RELEASES)


async def missed(prometheus: Prometheus) -> list[dict[str, str]]:
    """Namespace and release of each that is absent; the alert fires five minutes later."""
    found = await prometheus.query('ALERTS{alertname="TidegateAbsent"}')
    return [{key: one["metric"].get(key) for key in ("namespace", "release")} for one in found]
