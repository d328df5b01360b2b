"""Both Helms against a real API server: what an installation, an upgrade and an update of the
definition leave, as docs/install.md says it.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from tests.chart.api import Api, run
from tests.chart.render import CHART
from tests.chart.test_chart import EACH_HELM
from tests.servers.kubernetes import Kubernetes

pytestmark = [
    pytest.mark.real("helm", "kubectl", "kube-apiserver"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("kubernetes"),
    pytest.mark.timeout(400),
]
DEFINITION = "gateways.tidegate.dev"
each_helm = pytest.mark.parametrize("program", EACH_HELM)
NUMBERS = itertools.count(1)


class Namespace:
    """A namespace of its own, with helm and kubectl; deleted with its releases at the end."""

    def __init__(self, server: Kubernetes, api: Api, name: str, folder: Path) -> None:
        self.server = server
        self.api = api
        self.name = name
        self._folder = folder
        self.releases: list[tuple[str, str]] = []

    async def helm(self, program: str, verb: str, release: str, values: Any = None) -> str:
        """Raises AssertionError with what helm says."""
        status, told = await self.try_helm(program, verb, release, values)
        assert status == 0, told
        return told

    async def try_helm(
        self, program: str, verb: str, release: str, values: Any = None, *more: str
    ) -> tuple[int, str]:
        """Its status, and what it says."""
        words = [verb, release, "--namespace", self.name, *more]
        if verb != "uninstall":
            file = self._folder / f"{release}.yaml"
            file.write_text(yaml.safe_dump(values or {}))
            words += [str(CHART), "--values", str(file)]
            if verb == "install":
                words.append("--create-namespace")
                self.releases.append((program, release))
        else:
            self.releases.remove((program, release))
        return await run(program, self.server, *words)

    async def kubectl(self, *words: str) -> str:
        """Raises AssertionError with what kubectl says."""
        status, told = await run("kubectl", self.server, "--namespace", self.name, *words)
        assert status == 0, told
        return told

    async def get(self, kind: str, name: str) -> Any:
        return json.loads(await self.kubectl("get", kind, name, "--output", "json"))


@pytest_asyncio.fixture(loop_scope="module")
async def namespace(server: Kubernetes, api: Api, tmp_path: Path) -> AsyncIterator[Namespace]:
    """One that is not there yet."""
    space = Namespace(server, api, f"space-{next(NUMBERS)}", tmp_path)
    yield space
    for program, release in list(space.releases):
        await space.try_helm(program, "uninstall", release)


def documented(marker: str) -> list[str]:
    """The words of the one command of docs/install.md that has this in it, without the program."""
    document = (CHART.parents[1] / "docs" / "install.md").read_text()
    (line,) = set(re.findall(rf"^kubectl (.*{marker}.*)$", document, flags=re.MULTILINE))
    return str(line).split()


async def update(space: Namespace, version: str, *, words: list[str] | None = None) -> None:
    """Apply another version of the definition, by the documented command or by other words."""
    text = (CHART / "crds" / f"{DEFINITION}.yaml").read_text()
    newer, count = re.subn(r"(schema-version: ).*", rf"\g<1>'{version}'", text)
    assert count == 1
    file = space._folder / "crd.yaml"
    file.write_text(newer)
    *command, place = words or documented("--filename helm/tidegate/crds/")
    assert place == "helm/tidegate/crds/"
    await space.kubectl(*command, str(file))
    found = await space.get("crd", DEFINITION)
    assert found["metadata"]["annotations"]["tidegate.dev/schema-version"] == version


@each_helm
async def test_the_documented_commands_work_in_this_order(
    namespace: Namespace, program: str
) -> None:
    """Helm 4 applies the definition with each installation: each of them ended with a conflict
    after an update under the name of kubectl.
    """
    await namespace.kubectl("delete", "crd", DEFINITION, "--ignore-not-found")
    await namespace.helm(program, "install", "first")
    await update(namespace, "1")
    await namespace.helm(program, "install", "elsewhere")
    await update(namespace, "2")
    await namespace.helm(program, "upgrade", "elsewhere")
    found = await namespace.get("crd", DEFINITION)
    assert found["metadata"]["annotations"]["tidegate.dev/schema-version"] == "2"
    for release in ("first", "elsewhere"):
        await namespace.helm(program, "uninstall", release)
    # What it brings, not what is there: an installation must not be refused for it.
    await namespace.helm(program, "install", "first")
    found = await namespace.get("crd", DEFINITION)
    assert found["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


@pytest.mark.full
@each_helm
async def test_a_definition_that_another_one_has_updated_is_repaired(
    namespace: Namespace, program: str
) -> None:
    """As it was documented before."""
    await namespace.kubectl("delete", "crd", DEFINITION, "--ignore-not-found")
    await namespace.helm(program, "install", "first")
    before = ["apply", "--server-side", "--force-conflicts", "--filename", "helm/tidegate/crds/"]
    await update(namespace, "7", words=before)
    status, told = await namespace.try_helm(program, "install", "refused")
    if program == "helm":
        assert status != 0
        assert "conflict" in told
    await namespace.try_helm(program, "uninstall", "refused")
    await update(namespace, "1")
    await namespace.helm(program, "install", "elsewhere")


@each_helm
async def test_generated_secrets_are_kept_and_seen(namespace: Namespace, program: str) -> None:
    """In a namespace that is not there before, and where its user may look at nothing else."""
    values = {"publish": {"enabled": True}}
    await namespace.helm(program, "install", "tidegate", values)
    names = ("auth", "publish", "valkey")

    async def secrets() -> list[Any]:
        return [(await namespace.get("secret", f"tidegate-{name}"))["data"] for name in names]

    before = await secrets()
    assert all(len(base64.b64decode(v)) == 40 for data in before for v in data.values())
    pods = await templates(namespace)
    await namespace.helm(program, "upgrade", "tidegate", values)
    assert await secrets() == before
    assert await templates(namespace) == pods, "and no pod is replaced"
    status, told = await namespace.try_helm(
        program, "upgrade", "tidegate", values, "--dry-run=client"
    )
    assert status != 0
    assert "This render has no access to a cluster" in told


async def templates(space: Namespace) -> dict[str, Any]:
    """What pods are made of, by workload."""
    return {
        f"{kind}/{name}": (await space.get(kind, name))["spec"]["template"]
        for kind, name in (
            ("deployment", "tidegate-gateway"),
            ("deployment", "tidegate-operator"),
            ("statefulset", "tidegate-valkey"),
        )
    }


async def test_a_user_of_one_namespace_may_install(namespace: Namespace, tmp_path: Path) -> None:
    """Looking for a cluster must not ask for what such a user may not read."""
    user = namespace.server.user()
    await namespace.kubectl("create", "namespace", namespace.name)
    # Controllers make it in every namespace of a cluster; this server has not all of them.
    await namespace.kubectl("create", "configmap", "kube-root-ca.crt")
    await namespace.kubectl("create", "role", "all", "--verb=*", "--resource=*.*")
    await namespace.kubectl("create", "rolebinding", "all", "--role=all", f"--user={user}")
    file = tmp_path / "values.yaml"
    file.write_text("{}")
    words = ("install", "tidegate", str(CHART), "--namespace", namespace.name, "--skip-crds")
    status, told = await run(
        "helm", namespace.server, *words, kubeconfig=namespace.server.kubeconfig(user)
    )
    namespace.releases.append(("helm", "tidegate"))
    assert status == 0, told
    assert (await namespace.get("secret", "tidegate-auth"))["data"]


@pytest.mark.full
async def test_a_changed_secret_replaces_the_pods_that_read_it(namespace: Namespace) -> None:
    values = {
        "auth": {"existingSecret": "mine"},
        "valkey": {"existingSecret": "mine-too"},
    }
    await namespace.kubectl("create", "namespace", namespace.name)
    secret = ("create", "secret", "generic")
    await namespace.kubectl(*secret, "mine", f"--from-literal=jwt-secret={'a' * 40}")
    await namespace.kubectl(*secret, "mine-too", "--from-literal=redis-password=a")
    await namespace.helm("helm", "install", "tidegate", values)
    before = await templates(namespace)
    await namespace.helm("helm", "upgrade", "tidegate", values)
    assert await templates(namespace) == before

    async def changed(name: str, key: str) -> set[str]:
        patch = json.dumps({"stringData": {key: f"{name}-changed-{'b' * 40}"}})
        await namespace.kubectl("patch", "secret", name, "--patch", patch)
        old = await templates(namespace)
        await namespace.helm("helm", "upgrade", "tidegate", values)
        new = await templates(namespace)
        return {name for name in new if new[name] != old[name]}

    assert await changed("mine", "jwt-secret") == {"deployment/tidegate-gateway"}
    both = {"deployment/tidegate-gateway", "statefulset/tidegate-valkey"}
    assert await changed("mine-too", "redis-password") == both
    assert await changed("mine", "something-else") == set()


async def test_what_the_gateway_refuses_changes_nothing(namespace: Namespace) -> None:
    """The settings were new and the pods replaced when the API server refused the Gateway."""
    await namespace.helm("helm", "install", "tidegate")
    before = await everything(namespace)
    for values in (
        {"settings": {"viewer": {"ping_interval_s": 7}}, "scaling": {"min": 11}},
        {"settings": {"viewer": {"ping_interval_s": 7}}, "streams": {"ttl": {"idleS": 5}}},
    ):
        status, told = await namespace.try_helm("helm", "upgrade", "tidegate", values)
        assert status != 0
        assert "must be" in told
        assert await everything(namespace) == before


async def everything(space: Namespace) -> dict[str, str]:
    """Version of every object that an upgrade changes."""
    kinds = "configmaps,deployments,statefulsets,services,gateways.tidegate.dev"
    found = json.loads(await space.kubectl("get", kinds, "--output", "json"))
    return {
        f"{one['kind']}/{one['metadata']['name']}": json.dumps(
            [one.get("spec"), one.get("data")], sort_keys=True
        )
        for one in found["items"]
    }


@pytest.mark.full
async def test_a_number_that_an_autoscaler_sets_is_refused_before_anything(
    namespace: Namespace,
) -> None:
    hpa = {"scaling": {"mode": "hpa", "hpa": {"cpuPercent": 70}}}
    await namespace.helm("helm", "install", "tidegate", {**hpa, "gateway": {"replicas": 3}})
    before = await everything(namespace)
    values = {**hpa, "gateway": {"replicas": 4}, "settings": {"viewer": {"ping_interval_s": 7}}}
    status, told = await namespace.try_helm("helm", "upgrade", "tidegate", values)
    assert status != 0
    assert "gateway.replicas: replicas has no effect in modes hpa and keda" in told
    assert await everything(namespace) == before
    values["gateway"] = {"replicas": 3}
    await namespace.helm("helm", "upgrade", "tidegate", values)


@pytest.mark.full
async def test_what_a_conflict_leaves(namespace: Namespace) -> None:
    """As docs/install.md says: what comes before it is changed, and the rest by a repetition."""
    await namespace.helm("helm", "install", "tidegate", {"scaling": {"min": 2}})
    patch = (
        "apiVersion: tidegate.dev/v1alpha1\nkind: Gateway\nmetadata: {name: tidegate}\n"
        "spec: {target: {name: tidegate-gateway}, scaling: {min: 4}}\n"
    )
    file = namespace._folder / "patch.yaml"
    file.write_text(patch)
    await namespace.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(file))
    before = await everything(namespace)
    values = {"settings": {"viewer": {"ping_interval_s": 7}}, "scaling": {"min": 3}}
    status, told = await namespace.try_helm("helm", "upgrade", "tidegate", values)
    assert status != 0
    assert "conflict" in told
    after = await everything(namespace)
    assert {name for name in after if after[name] != before[name]} == {
        "ConfigMap/tidegate-gateway",
        "Deployment/tidegate-gateway",
    }
    status, told = await namespace.try_helm(
        "helm", "upgrade", "tidegate", values, "--force-conflicts"
    )
    assert status == 0, told
    assert (await namespace.get(DEFINITION, "tidegate"))["spec"]["scaling"]["min"] == 3
