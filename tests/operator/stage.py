"""A namespace on a real API server with a Gateway, its Deployment and pods, and operators as
processes.

Nobody runs the pods: a test says which there are, whether they are ready, and what their leases in
a real Redis tell. The operators are started as the command starts them, with a user of their own
who may exactly what `PERMISSIONS` lists.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import httpx

from tests.harness.waiting import until
from tests.redis.pod import slot_settings
from tests.servers.kubernetes import Kubernetes
from tests.servers.process import Process, ProcessError
from tidegate.model.errors import RedisUnavailable
from tidegate.redis.address import parse_address
from tidegate.redis.batches import end_if_cancelled
from tidegate.redis.pods import LeaseFigures, Pods
from tidegate.redis.topology import Topology
from tidegate_operator.kube.objects import DELETION_COST
from tidegate_operator.kube.permissions import (
    DEPLOYMENT,
    LEASE,
    OWN,
    PERMISSIONS,
    SECRETS,
    Permission,
)
from tidegate_operator.model.gateway import GROUP, KIND, PLURAL, VERSION
from tidegate_operator.model.schema import crd

TARGET = "tidegate"
HASH = "6d5f9c7b8"
#: No test waits for it to pass.
PATIENCE_S = 60
#: Figures alone are written into the status no more often.
STATUS_S = 2
Object = dict[str, Any]


def conditions_of(gateway: Object) -> dict[str, Object]:
    return {one["type"]: one for one in gateway.get("status", {}).get("conditions", ())}


class Stage:
    """`async with`."""

    def __init__(self, kubernetes: Kubernetes, redis_url: str, folder: Path) -> None:
        self.kubernetes = kubernetes
        self.redis_url = redis_url
        self.folder = folder
        self.namespace = f"t-{secrets.token_hex(4)}"
        self.user = kubernetes.user()
        self.operators: list[Operator] = []
        self._topology = Topology(
            parse_address(slot_settings(redis_url, "x").redis), slot_settings(redis_url, "x").redis
        )
        self._leases: dict[str, Pods] = {}
        self._figures: dict[str, LeaseFigures] = {}
        self._renewing: asyncio.Task[None] | None = None
        self.api: httpx.AsyncClient = kubernetes.client()

    async def __aenter__(self) -> Self:
        try:
            await self._set()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def _set(self) -> None:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        await self.send("POST", "/api/v1/namespaces", body)
        await self.apply_crd(crd())
        self._renewing = asyncio.create_task(self._renew(), name="leases")

    async def __aexit__(self, *exc: object) -> None:
        for operator in self.operators:
            operator.process.close()
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait({self._renewing})
        await self._topology.close()
        await self.api.aclose()

    # --- the API

    async def send(self, method: str, path: str, body: Any = None, **more: Any) -> Object:
        kind = {"PATCH": "application/merge-patch+json"}.get(method, "application/json")
        headers = {"Content-Type": more.pop("content_type", kind)}
        content = None if body is None else json.dumps(body)
        answer = await self.api.request(method, path, content=content, headers=headers, **more)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        found: Object = answer.json()
        return found

    async def apply_crd(self, definition: Object) -> None:
        name, spec = definition["metadata"]["name"], definition["spec"]
        api = f"/apis/{spec['group']}/{spec['versions'][0]['name']}"
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
        options = {"params": {"fieldManager": "test", "force": "true"}}
        await self.send(
            "PATCH", path, definition, content_type="application/apply-patch+yaml", **options
        )

        async def served() -> bool:
            conditions = (await self.send("GET", path))["status"].get("conditions") or ()
            if not any(c["type"] == "Established" and c["status"] == "True" for c in conditions):
                return False
            # Who serves the objects learns of it a moment later.
            objects = self.path(spec["names"]["plural"], api=api)
            return (await self.api.get(objects)).status_code == 200

        await until(served, "the definition is served")

    def path(self, kind: str, name: str = "", api: str = "/api/v1") -> str:
        end = f"/{name}" if name else ""
        return f"{api}/namespaces/{self.namespace}/{kind}{end}"

    async def grant(
        self,
        permissions: Sequence[Permission] = PERMISSIONS,
        *,
        names: Sequence[str] = (),
        gateways: Sequence[str] = ("main",),
        leases: Sequence[str] = ("tidegate-operator",),
        targets: Sequence[str] = (TARGET,),
    ) -> None:
        """A Role with exactly these for the operator's user; those of the whole cluster left out.

        `names` are the Secrets.
        """
        only = {LEASE: list(leases), DEPLOYMENT: list(targets)}
        only |= {SECRETS: list(names), OWN: list(gateways)}
        rules = []
        for one in permissions:
            if one.when == "zones":
                continue
            rule: Object = {
                "apiGroups": [one.group],
                "resources": [one.resource],
                "verbs": list(one.verbs),
            }
            if one.only:
                rule["resourceNames"] = only[one.only]
            if rule.get("resourceNames") != []:
                rules.append(rule)
        api = "/apis/rbac.authorization.k8s.io/v1"
        role = {"metadata": {"name": "operator"}, "rules": rules}
        await self.send("POST", self.path("roles", api=api), role)
        binding = {
            "metadata": {"name": "operator"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": "operator",
            },
            "subjects": [{"kind": "User", "name": self.user}],
        }
        await self.send("POST", self.path("rolebindings", api=api), binding)
        # Who authorizes learns of it a moment later.
        list_them = {"group": GROUP, "resource": PLURAL, "verb": "list"}
        asked = {"user": self.user, "resourceAttributes": list_them | {"namespace": self.namespace}}

        async def granted() -> bool:
            path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
            return bool((await self.send("POST", path, {"spec": asked}))["status"]["allowed"])

        await until(granted, "the operator may what it needs")

    # --- the workload

    @property
    def deployments(self) -> str:
        return self.path("deployments", api="/apis/apps/v1")

    async def make_deployment(self, replicas: int) -> None:
        labels = {"app": TARGET}
        container = {"name": "gateway", "image": "tidegate"}
        body = {
            "metadata": {"name": TARGET},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [container]},
                },
            },
        }
        await self.send("POST", self.deployments, body)

    async def settle_deployment(self) -> None:
        """Say what its controller would: everything is as it should be."""
        found = await self.send("GET", f"{self.deployments}/{TARGET}")
        number = found["spec"]["replicas"]
        status = {
            "observedGeneration": found["metadata"]["generation"],
            **dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas"), number),
            "availableReplicas": number,
        }
        await self.send("PATCH", f"{self.deployments}/{TARGET}/status", {"status": status})

    async def replicas(self) -> int:
        found = await self.send("GET", f"{self.deployments}/{TARGET}")
        return int(found["spec"]["replicas"])

    async def make_pod(
        self, end: str, *, connections: int | None = 0, ready: bool = True, **figures: Any
    ) -> str:
        """A pod with a name as the Deployment gives it, and a lease unless `connections` is None.

        It stays as long as the stage.
        """
        name = f"{TARGET}-{HASH}-{end}"
        body = {
            "metadata": {"name": name, "labels": {"app": TARGET, "pod-template-hash": HASH}},
            "spec": {"containers": [{"name": "gateway", "image": "tidegate"}]},
        }
        await self.send("POST", self.path("pods"), body)
        condition = {"type": "Ready", "status": str(ready)}
        status = {"phase": "Running", "conditions": [condition]}
        await self.send("PATCH", self.path("pods", f"{name}/status"), {"status": status})
        if connections is not None:
            await self.lease(name, connections, **figures)
        return name

    async def delete_pod(self, name: str) -> None:
        await self.send("DELETE", self.path("pods", name), params={"gracePeriodSeconds": "0"})

    async def lease(self, pod: str, connections: int, **figures: Any) -> None:
        """The pod has a lease from now on, and tells this."""
        self._figures[pod] = LeaseFigures(connections=connections, ready=True)._replace(**figures)
        if pod not in self._leases:
            self._leases[pod] = Pods(
                self._topology,
                slot_settings(self.redis_url, pod),
                figures=lambda: self._figures[pod],
            )
        await self._leases[pod].renew()

    async def load(self, connections: int) -> None:
        """Each pod with a lease tells so many connections from now on."""
        for pod in tuple(self._leases):
            await self.lease(pod, connections)

    async def end_lease(self, pod: str) -> None:
        await self._leases.pop(pod).leave()

    async def costs(self) -> dict[str, int]:
        """The deletion costs that are written on pods, by the end of their names."""
        pods = (await self.send("GET", self.path("pods")))["items"]
        found = {}
        for pod in pods:
            cost = (pod["metadata"].get("annotations") or {}).get(DELETION_COST)
            if cost is not None:
                found[pod["metadata"]["name"].rsplit("-", 1)[1]] = int(cost)
        return found

    # --- the Gateway

    @property
    def gateways(self) -> str:
        return self.path(PLURAL, api=f"/apis/{GROUP}/{VERSION}")

    async def make_gateway(self, name: str = "main", **spec: Any) -> Object:
        redis = {"url": self.redis_url.removesuffix("/0")}
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "metadata": {"name": name},
            "spec": {"target": {"name": TARGET}, "redis": redis, **spec},
        }
        return await self.send("POST", self.gateways, body)

    async def change_gateway(self, name: str = "main", **spec: Any) -> Object:
        return await self.send("PATCH", f"{self.gateways}/{name}", {"spec": spec})

    async def gateway(self, name: str = "main") -> Object:
        """As it is; its status is empty until the operator has written one."""
        return {"status": {}, **await self.send("GET", f"{self.gateways}/{name}")}

    async def condition(
        self,
        kind: str,
        status: str,
        reason: str | None = None,
        *,
        gateway: str = "main",
        within_s: float = PATIENCE_S,
    ) -> Object:
        """Wait for a condition of the Gateway, and return it."""
        last: Object = {}

        async def holds() -> bool:
            nonlocal last
            last = conditions_of(await self.gateway(gateway)).get(kind, {})
            return last.get("status") == status and reason in (None, last.get("reason"))

        await until(holds, lambda: f"{kind}={status} {reason or ''}: {last}", within_s=within_s)
        return last

    async def events(self) -> list[Object]:
        path = self.path("events", api="/apis/events.k8s.io/v1")
        found: list[Object] = (await self.send("GET", path))["items"]
        return found

    # --- operators

    async def start_operator(self, name: str = "operator-0", **variables: str) -> Operator:
        """Start one, and wait until it is ready."""
        operator = Operator(self, name, variables)
        self.operators.append(operator)
        operator.process.spawn()
        await operator.ready()
        return operator

    async def leader(self) -> str:
        """Who holds the Lease; empty if nobody."""
        path = self.path("leases", "tidegate-operator", api="/apis/coordination.k8s.io/v1")
        answer = await self.api.get(path)
        if answer.status_code == 404:
            return ""
        return str(answer.json()["spec"].get("holderIdentity", ""))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(2)
            for pods in tuple(self._leases.values()):
                with suppress(RedisUnavailable):  # a pod goes on as well, and is there again
                    await pods.renew()
                end_if_cancelled()


class Operator:
    """`tidegate-operator run` as a process."""

    def __init__(self, stage: Stage, name: str, variables: dict[str, str]) -> None:
        self.name = name
        self.url = ""
        given = {"INTERVAL_S": "0.5", "STATUS_S": str(STATUS_S), "PORT": "0", "LOG_FORMAT": "json"}
        given |= {"REDIS_HOSTS": "127.0.0.1"} | variables
        self.process = Process(
            [
                *(sys.executable, "-m", "tidegate_operator.cli.main", "run"),
                *("--namespace", stage.namespace, "--identity", name),
                *("--kubeconfig", stage.kubernetes.kubeconfig(stage.user)),
            ],
            log_file=stage.folder / f"{name}.log",
            environment={f"TIDEGATE_OPERATOR_{key}": value for key, value in given.items()},
        )

    async def ready(self, *, within_s: float = PATIENCE_S) -> None:
        async def answers() -> bool:
            if not self.process.running:
                raise ProcessError("the operator ended", self.process)
            text = self.process.log_file.read_text() if self.process.log_file.exists() else ""
            if not (found := re.search(r'"port": (\d+)[,}]', text)):
                return False
            self.url = f"http://127.0.0.1:{found[1]}"
            return (await self.get("/readyz")).status_code == 200

        await until(answers, self.process.log_tail, within_s=within_s)

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.url, timeout=20) as client:
            return await client.get(path)

    async def metric(self, name: str, **labels: str) -> float:
        """A metric's value; the sum over the series that have these labels."""
        total = 0.0
        for line in (await self.get("/metrics")).text.splitlines():
            if re.match(rf"{name}(\{{| )", line) and all(
                f'{key}="{value}"' in line for key, value in labels.items()
            ):
                total += float(line.rsplit(" ", 1)[1])
        return total
