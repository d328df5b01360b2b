"""kubectl and helm as a test uses them, against the cluster that `run.sh` chose.

Commands of one namespace; what they print on failure is the error's text. The lab runs on this
machine, so there a container can be killed as a crash does it; elsewhere such a test is skipped.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.patience import PATIENCE


class CommandFailed(Exception):
    """A command that ended with another status than 0; the text is what it wrote."""


async def command(
    *words: str,
    stdin: str | None = None,
    env: dict[str, str] | None = None,
    errors: bool = False,
) -> str:
    """Run, and give standard output, and with `errors` standard error too. Raises CommandFailed."""
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=env,
    )
    try:
        out, err = await process.communicate(None if stdin is None else stdin.encode())
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):  # it may just have ended
            process.kill()
        await process.communicate()  # closes the pipes, too
        raise
    if process.returncode != 0:
        told = f"{err.decode()}\n{out.decode()}".strip()
        raise CommandFailed(f"{' '.join(words)}: status {process.returncode}\n{told}")
    return out.decode() + (err.decode() if errors else "")


class Cluster:
    """One namespace of the cluster under test; `helm` is `helm3` for the older one.

    With `instance`, pods are those of this release: the namespace has others.
    """

    def __init__(self, namespace: str, *, helm: str = "helm", instance: str | None = None) -> None:
        self.namespace = namespace
        self.instance = instance
        self._helm = helm
        self.env = {**os.environ, "KUBECONFIG": os.environ["CLUSTER_KUBECONFIG"]}
        lab = os.environ.get("CLUSTER_LAB")
        self.lab = None if lab is None else Path(lab)

    async def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """`kubectl` in the namespace."""
        return await command(
            "kubectl", "--namespace", self.namespace, *words, stdin=stdin, env=self.env
        )

    async def drain(self, node: str, *, selector: str) -> str:
        """`kubectl drain`, of the pods that match; all that it wrote. `uncordon` afterwards."""
        words = (f"--pod-selector={selector}", "--ignore-daemonsets", "--delete-emptydir-data")
        return await command(
            "kubectl", "drain", node, *words, f"--timeout={PATIENCE}", env=self.env, errors=True
        )

    async def uncordon(self, node: str) -> None:
        """Pods may come back to the node."""
        await self.kubectl("uncordon", node)

    async def helm(self, *words: str, stdin: str | None = None) -> str:
        """`helm` in the namespace."""
        return await command(
            self._helm, "--namespace", self.namespace, *words, stdin=stdin, env=self.env
        )

    async def get(self, *words: str) -> Any:
        """`kubectl get -o json`."""
        return json.loads(await self.kubectl("get", *words, "--output", "json"))

    async def address(self) -> str:
        """Where NodePorts are reached from here."""
        if given := os.environ.get("CLUSTER_ADDRESS"):
            return given
        nodes = (await self.get("nodes"))["items"]
        addresses = nodes[0]["status"]["addresses"]
        return str(next(one["address"] for one in addresses if one["type"] == "InternalIP"))

    # --- pods

    async def pods(self, component: str) -> list[Any]:
        """Pods of a component that are not being deleted, oldest first."""
        living = [pod for pod in await self._pods(component) if _stays(pod)]
        return sorted(living, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    async def _pods(self, component: str) -> list[Any]:
        selector = f"app.kubernetes.io/component={component}"
        if self.instance is not None:
            selector += f",app.kubernetes.io/instance={self.instance}"
        return list((await self.get("pods", "--selector", selector))["items"])

    async def ready(self, component: str, count: int, *, leaving: int | None = None) -> bool:
        """Whether exactly so many pods are there, all ready, and so many on their way out."""
        found = await self._pods(component)
        pods = [pod for pod in found if _stays(pod)]
        if leaving is not None and len(found) - len(pods) != leaving:
            return False
        return len(pods) == count and all(is_ready(pod) for pod in pods)

    async def kill_container(self, pod: Any) -> None:
        """SIGKILL to the pod's container, as a crash; the kubelet starts it again."""
        if self.lab is None:
            pytest.skip("killing a container needs the lab, where the node is this machine")
        node = pod["spec"]["nodeName"]
        home = self.lab if node == "node0" else self.lab / node
        container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix(
            "containerd://"
        )
        await command(
            *("ctr", "--address", str(home / "containerd.sock"), "--namespace", "k8s.io"),
            *("tasks", "kill", "--signal", "SIGKILL", container),
        )

    async def logs(self, component: str) -> str:
        """The last lines of its pods, for a failure's text."""
        selector = f"app.kubernetes.io/component={component}"
        return await self.kubectl("logs", "--selector", selector, "--tail=20", "--prefix")

    async def events(self) -> list[str]:
        """Warnings of the namespace, for a failure's text."""
        found = (await self.get("events", "--field-selector", "type=Warning"))["items"]
        return [f"{one['involvedObject']['name']}: {one['message']}" for one in found[-15:]]

    # --- what they asked the API server for (the lab's audit log)

    def audit(self, *, since: str) -> Iterator[dict[str, Any]]:
        """Requests of service accounts since that time (RFC 3339, UTC)."""
        if self.lab is None:
            pytest.skip("the audit log is the lab's")
        with (self.lab / "audit.log").open() as lines:
            for line in lines:
                if not line.endswith("\n"):  # it is being written
                    return
                event = json.loads(line)
                if event["requestReceivedTimestamp"] >= since:
                    yield event


def _stays(pod: Any) -> bool:
    return "deletionTimestamp" not in pod["metadata"]


def is_ready(pod: Any) -> bool:
    """Whether the condition Ready of a pod, or of a Gateway, is true."""
    conditions = pod.get("status", {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def restarts(pods: list[Any]) -> int:
    """Restarts of all containers."""
    return sum(
        status["restartCount"] for pod in pods for status in pod["status"]["containerStatuses"]
    )
