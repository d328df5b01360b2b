"""Every manifest of every case, taken by a real API server (`--dry-run=server`), without a warning.

Also those of other projects (Prometheus operator, Gateway API), by the definitions of these.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from tests.chart.render import CASES, CHART, Manifest, rendered
from tests.harness.waiting import until
from tests.servers import kubernetes
from tests.servers.kubernetes import Kubernetes

pytestmark = [
    pytest.mark.real("helm", "kubectl", "kube-apiserver"),
    pytest.mark.asyncio(loop_scope="module"),
    # As elsewhere where an API server shares the two cores of a small machine: the first test
    # waits for its start, and for all definitions.
    pytest.mark.timeout(400),
]
FOREIGN = ("monitoring.coreos.com", "gateway.networking.k8s.io")
FOREIGN_CASES = ("monitoring", "gateway api", "gateway api without time-outs", "production")


async def kubectl(server: Kubernetes, *words: str, stdin: str | None = None) -> tuple[int, str]:
    """Status, and everything it wrote."""
    return await run("kubectl", server, *words, stdin=stdin)


async def run(
    name: str, server: Kubernetes, *words: str, stdin: str | None = None
) -> tuple[int, str]:
    """A program of Kubernetes, as administrator."""
    program = kubernetes.program(name)
    assert program is not None
    process = await asyncio.create_subprocess_exec(
        program,
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "KUBECONFIG": str(server.admin_kubeconfig)},
    )
    out, _ = await process.communicate(None if stdin is None else stdin.encode())
    return process.returncode or 0, out.decode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Kubernetes]:
    """With the CRD, and a namespace that allows nothing but the level `restricted`."""
    async with Kubernetes() as server:
        namespace = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": "some",
                "labels": {
                    "pod-security.kubernetes.io/enforce": "restricted",
                    "pod-security.kubernetes.io/warn": "restricted",
                },
            },
        }
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": "some"},
        }
        for manifest in (namespace, account):
            status, told = await kubectl(
                server, "apply", "--filename", "-", stdin=json.dumps(manifest)
            )
            assert status == 0, told
        for folder in filter(None, (CHART / "crds", kubernetes.definitions())):
            # Those of others are too long for an annotation.
            words = ("apply", "--server-side", "--filename", str(folder))
            status, told = await kubectl(server, *words)
            assert status == 0, told
        wait = ("wait", "--for=condition=Established", "crd", "--all", "--timeout=120s")
        status, told = await kubectl(server, *wait)
        assert status == 0, told
        # What is established is told to those who ask for kinds a moment later.
        await until(lambda: all_are_known(server), "every kind is known")
        yield server


async def all_are_known(server: Kubernetes) -> bool:
    """Whether who asks for the kinds, as kubectl does before it sends an object, hears of all."""
    _, defined = await kubectl(server, "get", "crd", "--output", "name")
    _, known = await kubectl(server, "api-resources", "--output", "name")
    return {one.rpartition("/")[2] for one in defined.split()} <= set(known.split())


def is_foreign(manifest: Manifest) -> bool:
    return str(manifest["apiVersion"]).startswith(FOREIGN)


async def dry_run(server: Kubernetes, manifests: list[Manifest]) -> tuple[int, str]:
    words = ("apply", "--namespace", "some", "--dry-run=server", "--server-side", "--filename", "-")
    return await kubectl(server, *words, stdin=yaml.safe_dump_all(manifests))


@pytest.mark.parametrize("case", CASES)
async def test_the_api_server_takes_it(server: Kubernetes, case: str) -> None:
    own = [one for one in rendered(case) if not is_foreign(one)]
    status, told = await dry_run(server, own)
    assert status == 0, told
    assert "warning" not in told.lower(), told


@pytest.mark.real("crds")
@pytest.mark.parametrize("case", FOREIGN_CASES)
async def test_the_api_server_takes_objects_of_other_projects(
    server: Kubernetes, case: str
) -> None:
    foreign = [one for one in rendered(case) if is_foreign(one)]
    assert foreign
    status, told = await dry_run(server, foreign)
    assert status == 0, told
    assert "warning" not in told.lower(), told


@pytest.mark.real("crds")
async def test_a_wrong_field_of_another_project_would_be_noticed(server: Kubernetes) -> None:
    (route,) = json.loads(json.dumps([o for o in rendered("gateway api") if is_foreign(o)]))
    route["spec"]["rules"][0]["timeouts"]["request"] = "an hour"
    status, told = await dry_run(server, [route])
    assert status != 0
    assert "spec.rules[0].timeouts.request" in told


async def test_a_pod_that_asks_for_more_would_be_noticed(server: Kubernetes) -> None:
    """The check above can fail: the namespace does warn of what is not restricted."""
    manifests = json.loads(json.dumps(rendered("defaults")))
    (deployment,) = (
        one
        for one in manifests
        if one["kind"] == "Deployment" and one["metadata"]["name"] == "tidegate-gateway"
    )
    del deployment["spec"]["template"]["spec"]["securityContext"]["seccompProfile"]
    words = ("apply", "--namespace", "some", "--dry-run=server", "--filename", "-")
    _, told = await kubectl(server, *words, stdin=json.dumps(deployment))
    assert "would violate PodSecurity" in told


@pytest.mark.parametrize(
    "program", ["helm", pytest.param("helm3", marks=pytest.mark.real("helm3"))]
)
async def test_the_definition_is_brought_up_to_date_as_documented(
    server: Kubernetes, program: str, tmp_path: Path
) -> None:
    """Helm owns what it has installed: without `--force-conflicts` the change was refused."""
    document = (CHART.parents[1] / "docs" / "install.md").read_text()
    found = re.findall(r"^kubectl (apply .*) helm/tidegate/crds/$", document, flags=re.MULTILINE)
    assert len(found) == 1
    definition = "gateways.tidegate.dev"
    await kubectl(server, "delete", "crd", definition, "--ignore-not-found")
    release = ("install", f"by-{program}", str(CHART), "--namespace", "some")
    status, told = await run(program, server, *release)
    assert status == 0, told
    text = (CHART / "crds" / f"{definition}.yaml").read_text()
    newer = re.sub(r"(schema-version: ).*", r"\1for-the-test", text)
    assert newer.count("for-the-test") == 1
    (tmp_path / "crd.yaml").write_text(newer)
    status, told = await kubectl(server, *found[0].split(), str(tmp_path))
    assert status == 0, told
    status, told = await kubectl(server, "get", "crd", definition, "--output", "yaml")
    assert "schema-version: for-the-test" in told
    # And the next release of the chart does not mind.
    status, told = await run(program, server, "upgrade", *release[1:])
    assert status == 0, told
    status, told = await run(program, server, "uninstall", f"by-{program}", "--namespace", "some")
    assert status == 0, told
