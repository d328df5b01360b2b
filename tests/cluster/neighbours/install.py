"""Projects of others beside the chart, from their own manifests: what `get.sh` built.

A test installs one when it begins and removes it in the end, with its definitions, so that the next
file finds a cluster without it. Where one was not built, its cases are skipped, and say what to do.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.kube import Cluster, command
from tests.cluster.patience import PATIENCE


class _Loader(yaml.CSafeLoader):
    """Reads `=`, the default of a matcher in a schema, as text: YAML 1.1 has a type for it."""


def _text(_loader: yaml.CSafeLoader, node: yaml.ScalarNode) -> str:
    return str(node.value)


_Loader.add_constructor("tag:yaml.org,2002:value", _text)


def folder(name: str) -> Path:
    """Where `get.sh` put it; skips the test if it did not."""
    lab = os.environ.get("CLUSTER_LAB")
    if lab is None:
        pytest.skip(f"needs the lab, which can load an image of {name}")
    found = Path(lab).parent / "neighbours" / name
    if not found.is_dir():
        pytest.skip(f"needs {name}: tests/cluster/neighbours/get.sh {name}")
    return found


class Neighbour:
    """One of them: `load` its images, `install` what its manifests say, `remove` that again."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        """`cluster`: any namespace of it; the manifests name theirs."""
        self._cluster = cluster
        self._folder = folder(name)

    async def load(self) -> None:
        """Its images, into the node."""
        assert self._cluster.lab is not None
        for archive in sorted(self._folder.glob("*.tar")):
            await command(
                *("ctr", "--address", str(self._cluster.lab / "containerd.sock")),
                *("--namespace", "k8s.io", "images", "import", str(archive)),
            )

    async def install(self) -> None:
        """Until its Deployments and the APIs that it serves are available."""
        await self.load()
        # On the server's side: definitions are too large for the annotation of the other way.
        await self._kubectl("apply", "--server-side", "--filename", str(self._manifests))
        for found in self._objects():
            kind, named = found["kind"], found["metadata"]
            if kind in ("Deployment", "APIService", "CustomResourceDefinition"):
                condition = "Established" if kind.startswith("Custom") else "Available"
                words = ["wait", f"--for=condition={condition}", f"{kind}/{named['name']}"]
                words.append(f"--timeout={PATIENCE}")
                if "namespace" in named:
                    words += ["--namespace", named["namespace"]]
                await self._kubectl(*words)

    async def remove(self) -> None:
        """With its definitions, whose objects it lets go while it still runs."""
        definitions = [
            f"customresourcedefinition/{found['metadata']['name']}"
            for found in self._objects()
            if found["kind"] == "CustomResourceDefinition"
        ]
        wait = f"--timeout={PATIENCE}"
        if definitions:
            await self._kubectl("delete", "--ignore-not-found", wait, *definitions)
        await self._kubectl(
            "delete", "--ignore-not-found", wait, "--filename", str(self._manifests)
        )

    @property
    def _manifests(self) -> Path:
        return self._folder / "install.yaml"

    def _objects(self) -> list[dict[str, Any]]:
        text = self._manifests.read_text("utf-8")
        return [one for one in yaml.load_all(text, _Loader) if one]

    async def _kubectl(self, *words: str) -> str:
        return await command("kubectl", *words, env=self._cluster.env)
