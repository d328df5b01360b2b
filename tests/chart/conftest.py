"""The session's API server, with the definitions that objects of the chart need."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest_asyncio

from tests.chart.api import Api
from tests.chart.render import CHART, read
from tests.harness.waiting import until
from tests.servers import kubernetes
from tests.servers.kubernetes import Kubernetes

#: Where cases are applied; the second is for one that says so.
NAMESPACES = ("some", "other")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(shelf: Any) -> Kubernetes:
    """The session's API server."""
    found: Kubernetes = await shelf.kubernetes.take()
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(server: Kubernetes) -> AsyncIterator[Api]:
    """With the definitions, and a namespace that allows nothing but the level `restricted`."""
    levels = ("enforce", "warn")
    labels = {f"pod-security.kubernetes.io/{one}": "restricted" for one in levels}
    spaces = [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": labels},
        }
        for name in NAMESPACES
    ]
    runtime: dict[str, Any] = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": "gvisor"},
        "handler": "runsc",
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    folders = filter(None, (CHART / "crds", kubernetes.definitions()))
    files = [file for folder in folders for file in sorted(folder.iterdir())]
    definitions = [one for file in files for one in read(file.read_text())]
    async with server.client() as client:
        api = Api(client)
        for one in (*spaces, account, runtime, *definitions):
            status, told = await api.apply(one, dry_run=False)
            assert status in (200, 201), told
        for one in definitions:
            await until(partial(api.serves, one), f"{one['metadata']['name']} is served")
        yield api
