"""A real API server as the tests of the chart ask it: by an apply of manifests, and by programs."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import httpx

from tests.chart.render import Manifest
from tests.harness import programs
from tests.servers import kubernetes
from tests.servers.kubernetes import Kubernetes


async def run(
    name: str, server: Kubernetes, *words: str, kubeconfig: Path | None = None
) -> tuple[int, str]:
    """Status of a program of Kubernetes, and everything it wrote; as administrator by default."""
    program = kubernetes.program(name)
    assert program is not None
    process = await asyncio.create_subprocess_exec(
        program,
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "KUBECONFIG": str(kubeconfig or server.admin_kubeconfig)},
    )
    done = await programs.ended(process)
    return done.code, done.out


class Api:
    """What `kubectl apply --server-side` sends, without a process for each manifest."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._kinds: dict[tuple[str, str], tuple[str, bool]] = {}
        #: What was taken, for most manifests are the same in many cases.
        self._taken: set[str] = set()

    async def apply(self, manifest: Manifest, *, dry_run: bool) -> tuple[int, str]:
        """Status, and the answer with its warnings."""
        version, kind = str(manifest["apiVersion"]), manifest["kind"]
        plural, namespaced = await self._resource(version, kind)
        namespace = manifest["metadata"].get("namespace", "some")
        place = f"{root(version)}/namespaces/{namespace}" if namespaced else root(version)
        answer = await self._client.patch(
            f"{place}/{plural}/{manifest['metadata']['name']}",
            params={
                "fieldManager": "test",
                "fieldValidation": "Strict",
                "force": "true",
                **({"dryRun": "All"} if dry_run else {}),
            },
            content=json.dumps(manifest, default=str),
            headers={"Content-Type": "application/apply-patch+yaml"},
        )
        warnings = "".join(f"warning: {one}\n" for one in answer.headers.get_list("warning"))
        return answer.status_code, warnings + answer.text

    async def allows(self, account: str, attributes: dict[str, str]) -> bool:
        """Whether a service account of the namespace may do this there."""
        asked = {
            "user": f"system:serviceaccount:some:{account}",
            "resourceAttributes": {"namespace": "some", **attributes},
        }
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        answer = (await self._client.post(path, json={"spec": asked})).raise_for_status()
        return bool(answer.json()["status"]["allowed"])

    async def takes(self, manifest: Manifest) -> None:
        """It would take this one, and warns of nothing."""
        text = json.dumps(manifest, sort_keys=True, default=str)
        if text in self._taken:
            return
        status, told = await self.apply(manifest, dry_run=True)
        assert status in (200, 201), f"{manifest['kind']} {manifest['metadata']['name']}: {told}"
        assert not told.startswith("warning"), told
        self._taken.add(text)

    async def _resource(self, version: str, kind: str) -> tuple[str, bool]:
        if (version, kind) not in self._kinds:
            found = (await self._client.get(root(version))).raise_for_status().json()
            for one in found["resources"]:
                if "/" not in one["name"]:
                    self._kinds[version, one["kind"]] = one["name"], one["namespaced"]
        return self._kinds[version, kind]

    async def serves(self, definition: Manifest) -> bool:
        """What is established is told to those who ask for kinds a moment later."""
        spec = definition["spec"]
        for one in spec["versions"]:
            answer = await self._client.get(f"/apis/{spec['group']}/{one['name']}")
            if one["served"] and (
                answer.status_code != 200 or spec["names"]["kind"] not in answer.text
            ):
                return False
        return True


def root(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"
