"""Argo CD's way without Argo CD: the chart rendered without a cluster, and applied as it does.

`helm template --no-hooks` sees no cluster, so `lookup` finds nothing and there is no hook; what is
rendered is applied by the server, with a field manager of its own, time after time. Argo CD creates
no Lease, and the chart has none. A sync must change nothing that is as it should be, also while the
operator scales: what flaps shows as a new generation or version.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import yaml

from tests.cluster import report
from tests.cluster.crowd import watching
from tests.cluster.kube import Cluster, CommandFailed, command
from tests.cluster.patience import PATIENCE, until
from tests.cluster.release import CHART, NAME, SCALING_BY_LOAD, Release, images, merge

pytestmark = [pytest.mark.all_cases]

NAMESPACE = "tidegate-test-gitops"
MANAGER = "argocd-controller"
VALUES: dict[str, Any] = {
    "auth": {"mode": "none"},
    "settings": {"drain": {"delay_s": 0, "window_s": 4}, "server": {"allowed_hosts": ["*"]}},
    "gateway": {"minReadySeconds": 1, "preStopSeconds": 1},
    "operator": {"intervalSeconds": 1, "rbac": {"admissionPolicy": True}},
    **SCALING_BY_LOAD,
}


class Application:
    """What Argo CD would keep in sync: the chart with these values."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.syncs = 0
        self._manifests = ""
        self._definitions = ""

    async def render(self) -> list[dict[str, Any]]:
        """Without a cluster, and the same each time."""
        version = json.loads(await self.cluster.kubectl("version", "--output", "json"))
        words = (
            *("helm", "template", NAME, str(CHART), "--namespace", self.cluster.namespace),
            *("--include-crds", "--no-hooks", "--values", str(CHART / "values-gitops.yaml")),
            *("--kube-version", version["serverVersion"]["gitVersion"], "--values", "-"),
        )
        unreachable = {**self.cluster.env, "KUBECONFIG": "/dev/null"}
        values = yaml.safe_dump(merge(images(), VALUES))
        self._manifests = await command(*words, stdin=values, env=unreachable)
        assert await command(*words, stdin=values, env=unreachable) == self._manifests
        manifests = [one for one in yaml.safe_load_all(self._manifests) if one]
        definitions = [one for one in manifests if one["kind"] == "CustomResourceDefinition"]
        self._definitions = yaml.safe_dump_all(definitions)
        return manifests

    async def sync(self) -> None:
        """Apply all of it, definitions first; the server merges."""
        words = ("apply", "--server-side", "--force-conflicts", "--field-manager", MANAGER)
        await self.cluster.kubectl(*words, "--filename", "-", stdin=self._definitions)
        established = ("--for=condition=Established", f"--timeout={PATIENCE}", "--filename", "-")
        await self.cluster.kubectl("wait", *established, stdin=self._definitions)
        await self.cluster.kubectl(*words, "--filename", "-", stdin=self._manifests)
        self.syncs += 1

    async def difference(self) -> str:
        """What Argo CD would show as out of sync; empty: nothing."""
        words = ("diff", "--server-side", "--force-conflicts", "--field-manager", MANAGER)
        try:
            return await self.cluster.kubectl(*words, "--filename", "-", stdin=self._manifests)
        except CommandFailed as error:  # status 1: there is one
            return str(error)

    async def marks(self) -> dict[str, Any]:
        """Of each object what a change of it by anybody changes.

        The generation counts changes of the spec; of kinds without one, nobody changes the status.
        """
        words = ("get", "--filename", "-", "--output", "json")
        found = json.loads(await self.cluster.kubectl(*words, stdin=self._manifests))
        return {
            f"{one['kind']}/{one['metadata']['name']}": one["metadata"].get(
                "generation", one["metadata"]["resourceVersion"]
            )
            for one in found["items"]
        }

    async def delete(self) -> None:
        """With the namespace goes the rest; the definition is kept, and is Helm's again."""
        kept = [one for one in yaml.safe_load_all(self._manifests) if one]
        gone = [one for one in kept if one["kind"] != "CustomResourceDefinition"]
        words = ("delete", "--ignore-not-found", "--wait=false", "--filename", "-")
        await self.cluster.kubectl(*words, stdin=yaml.safe_dump_all(gone))
        words = ("apply", "--server-side", "--force-conflicts", "--field-manager", "helm")
        await self.cluster.kubectl(*words, "--filename", "-", stdin=self._definitions)


async def test_syncs_change_nothing_and_do_not_fight_the_operator() -> None:
    cluster = Cluster(NAMESPACE)
    application = Application(cluster)
    await cluster.kubectl("create", "namespace", NAMESPACE)
    try:
        await _secrets(cluster)
        manifests = await application.render()
        assert not [one for one in manifests if one["kind"] == "Lease"]
        began = time.monotonic()
        await application.sync()
        release = Release(cluster)
        try:
            await release.settled(1)
            await release.healthy()
        except (CommandFailed, AssertionError, TimeoutError) as error:
            pytest.fail(f"{error}\n{await cluster.events()}")
        took = round(time.monotonic() - began, 1)
        report.write({"name": "gitops: first sync", "seconds_to_ready": took})
        await _a_sync_of_the_same(application)
        await _syncs_while_the_operator_scales(application, release)
    finally:
        await application.delete()
        await cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


async def _secrets(cluster: Cluster) -> None:
    """Those that values-gitops.yaml names, made by whoever keeps secrets."""
    made = (("tidegate-auth", "jwt-secret"), ("tidegate-valkey", "redis-password"))
    for name, key in made:
        await cluster.kubectl(
            "create", "secret", "generic", name, f"--from-literal={key}={name}{'x' * 32}"
        )


async def _a_sync_of_the_same(application: Application) -> None:
    marks = await application.marks()
    for _ in range(2):
        await application.sync()
        assert await application.difference() == ""
    assert await application.marks() == marks
    report.write({"name": "gitops: the same again", "objects": len(marks), "changed": 0})


@asynccontextmanager
async def _syncing(application: Application, differences: list[str]) -> AsyncIterator[None]:
    """One sync after the other, each with a look for differences before it."""

    async def work() -> None:
        while True:
            if difference := await application.difference():
                differences.append(difference)
            await application.sync()

    async with asyncio.TaskGroup() as tasks:
        syncing = tasks.create_task(work())
        yield
        syncing.cancel()


async def _syncs_while_the_operator_scales(application: Application, release: Release) -> None:
    gateway = f"Deployment/{release.name}-gateway"
    before = await application.marks()
    pods = {pod["metadata"]["uid"] for pod in await application.cluster.pods("gateway")}
    differences: list[str] = []
    syncs = application.syncs
    async with watching(release, "gitops: syncs while the operator scales", viewers=60) as crowd:
        async with _syncing(application, differences):
            began = time.monotonic()
            await crowd.join(240)
            await release.settled(3)
            crowd.note("seconds to 3", round(time.monotonic() - began, 1))

            async def led() -> bool:
                return await release.leader() != ""

            await until(led, "a leader, by a Lease that nobody applied")
            up = await application.marks()
            stayed = {pod["metadata"]["uid"] for pod in await application.cluster.pods("gateway")}
            assert pods < stayed
            await crowd.recover()
            await crowd.finish_some(8)  # 60 viewers stay
            await release.settled(1)
            await crowd.recover()
        crowd.note("syncs", application.syncs - syncs)
    assert differences == []
    after = await application.marks()
    # The operator's own changes, each at most one pod or one decision more: nobody took them back.
    assert 1 <= up[gateway] - before[gateway] <= 2
    assert 1 <= after[gateway] - up[gateway] <= 2
    for marks in (up, after):
        assert {k: v for k, v in marks.items() if k != gateway} == {
            k: v for k, v in before.items() if k != gateway
        }
    report.write(
        {
            "name": "gitops: changes of the Deployment while it was synced",
            "up to 3": up[gateway] - before[gateway],
            "down to 1": after[gateway] - up[gateway],
        }
    )
