"""The Kubernetes API, as far as the operator needs it: every call it makes is a method here.

Over lightkube. What each call needs of the Role is in `permissions`, by which the chart's Role and
the page are checked. Every call goes through `calls`, which counts it and limits its time, and
raises one of `errors`. Writes name the version that was read wherever someone else may write the
same.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
from lightkube import AsyncClient, KubeConfig, operators
from lightkube.core.exceptions import ConfigError
from lightkube.generic_resource import create_namespaced_resource
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.autoscaling_v2 import HorizontalPodAutoscaler
from lightkube.resources.coordination_v1 import Lease
from lightkube.resources.core_v1 import Node, Pod, Secret
from lightkube.resources.events_v1 import Event
from lightkube.types import PatchType

from tidegate.model.errors import SettingsError
from tidegate_operator.kube import answers
from tidegate_operator.kube.calls import Calls
from tidegate_operator.kube.errors import ApiForbidden, ApiNotFound
from tidegate_operator.kube.lease import Record, Write, lease_time
from tidegate_operator.kube.objects import (
    DELETION_COST,
    OWN_COST,
    ZONE_LABEL,
    Autoscaler,
    DeploymentState,
    Match,
    PodState,
    Reference,
)
from tidegate_operator.model.gateway import GROUP, KIND, PLURAL, VERSION

FIELD_MANAGER = "tidegate-operator"
#: Objects of one answer to a list; the rest follows in pages.
PAGE = 500

Gateway = create_namespaced_resource(GROUP, VERSION, KIND, PLURAL)
ScaledObject = create_namespaced_resource("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects")
HPAS = "horizontalpodautoscalers"
_OPERATORS: Mapping[str, Callable[[Sequence[str]], Any]] = {
    "In": operators.in_,
    "NotIn": operators.not_in,
    "Exists": lambda _: operators.exists(),
    "DoesNotExist": lambda _: operators.not_exists(),
}


class Kube:
    """One connection to the API server, for one namespace. `close` when done."""

    def __init__(
        self,
        config: KubeConfig,
        namespace: str,
        *,
        timeout_s: float,
        pod: Reference | None = None,
    ) -> None:
        """`pod` is the one of this process: a Lease that it takes goes with it."""
        self.namespace = namespace
        self._pod = pod
        #: Any: its overloads know each way to call it but not each of its own resources.
        self._client: Any = AsyncClient(
            config=config,
            namespace=namespace,
            timeout=httpx2.Timeout(timeout_s),
            field_manager=FIELD_MANAGER,
        )
        self._calls = Calls(timeout_s)

    @property
    def calls(self) -> Counter[tuple[str, str, str]]:
        """How many calls, by verb, resource and answer."""
        return self._calls.counts

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    # -- Gateways ----------------------------------------------------------------------------------

    async def gateways(self) -> list[dict[str, Any]]:
        """All `Gateway` resources of the namespace, as they are written."""
        return [dict(one) async for one in self._list("gateways", Gateway)]

    async def patch_status(
        self, name: str, version: str | None, status: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Merge into the status of a Gateway; with a version only if it is unchanged since.

        Raises:
            ApiConflict, ApiNotFound, KubeError
        """
        body: dict[str, Any] = {"status": dict(status)}
        if version is not None:
            body["metadata"] = {"resourceVersion": version}
        async with self._calls.one("patch", "gateways/status"):
            return dict(
                await self._client.patch(
                    Gateway.Status, name, body, namespace=self.namespace, patch_type=PatchType.MERGE
                )
            )

    # -- the Lease ---------------------------------------------------------------------------------

    async def lease(self, name: str) -> Record | None:
        """The Lease; None if there is none."""
        try:
            async with self._calls.one("get", "leases"):
                return answers.lease_of(
                    await self._client.get(Lease, name, namespace=self.namespace)
                )
        except ApiNotFound:
            return None

    async def write_lease(
        self, name: str, write: Write, *, duration_s: int, renewed: datetime
    ) -> Record:
        """Carry a write of the election out.

        Raises:
            ApiConflict: someone was quicker.
            ApiNotFound: it was deleted since it was read.
            KubeError
        """
        now = lease_time(renewed)
        owned: dict[str, Any] = {}
        spec: dict[str, Any] = {
            "holderIdentity": write.holder,
            "leaseDurationSeconds": duration_s,
            "leaseTransitions": write.transitions,
            "renewTime": now,
        }
        if write.begins:
            spec["acquireTime"] = now
            if self._pod is not None:
                owned = {"ownerReferences": [_owner(self._pod)]}
        if write.version is None:
            made = Lease.from_dict({"metadata": {"name": name, **owned}, "spec": spec})
            async with self._calls.one("create", "leases"):
                return answers.lease_of(await self._client.create(made, namespace=self.namespace))
        metadata = {"resourceVersion": write.version}
        try:
            return await self._patch_lease(name, {"metadata": metadata | owned, "spec": spec})
        except ApiForbidden:
            # OpenShift (OwnerReferencesPermissionEnforcement) lets nobody change an owner who may
            # not delete the object. The Lease goes with its last owner then, and is made again.
            if not owned:
                raise
            return await self._patch_lease(name, {"metadata": metadata, "spec": spec})

    # -- the workload ------------------------------------------------------------------------------

    async def deployment(self, name: str) -> DeploymentState:
        """A Deployment. Raises ApiNotFound, KubeError."""
        async with self._calls.one("get", "deployments"):
            found = await self._client.get(Deployment, name, namespace=self.namespace)
        return answers.deployment_of(found)

    async def pods(self, selector: Sequence[Match]) -> list[PodState]:
        """The pods that a label selector finds, in no order."""
        pairs = [(one.key, _OPERATORS[one.operator](one.values)) for one in selector]
        return [answers.pod_of(one) async for one in self._list("pods", Pod, labels=pairs)]

    async def scale(self, name: str, version: str, replicas: int) -> None:
        """Write the number of replicas of a Deployment that is still of this version.

        Raises:
            ApiConflict: it changed meanwhile; look again before deciding again.
            KubeError
        """
        body = {"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}}
        async with self._calls.one("patch", "deployments/scale"):
            await self._client.patch(
                Deployment.Scale, name, body, namespace=self.namespace, patch_type=PatchType.MERGE
            )

    async def set_deletion_cost(self, pod: str, uid: str, cost: int) -> None:
        """Write what the loss of this pod costs. Raises ApiNotFound (also for another uid)."""
        body = {
            # A uid in a patch must be the object's own: a new pod of this name is not meant.
            "metadata": {
                "uid": uid,
                "annotations": {DELETION_COST: str(cost), OWN_COST: str(cost)},
            }
        }
        async with self._calls.one("patch", "pods"):
            await self._client.patch(
                Pod, pod, body, namespace=self.namespace, patch_type=PatchType.MERGE
            )

    async def zone_of(self, node: str) -> str | None:
        """The zone of a node. Raises ApiForbidden where the Role has no nodes, which is usual."""
        async with self._calls.one("get", "nodes"):
            found = await self._client.get(Node, node)
        labels = (found.metadata and found.metadata.labels) or {}
        return labels.get(ZONE_LABEL)

    # -- autoscalers -------------------------------------------------------------------------------

    async def autoscalers(self) -> list[Autoscaler]:
        """All HorizontalPodAutoscalers of the namespace."""
        return [answers.hpa_of(one) async for one in self._list(HPAS, HorizontalPodAutoscaler)]

    async def scaled_objects(self) -> list[Autoscaler] | None:
        """All ScaledObjects of the namespace; None if the cluster has no KEDA."""
        try:
            found = [dict(one) async for one in self._list("scaledobjects", ScaledObject)]
        except ApiNotFound:
            return None
        return [answers.scaled_object_of(one) for one in found]

    async def apply_autoscaler(self, api: str, manifest: Mapping[str, Any]) -> None:
        """Make an autoscaler of ours what this says, fields that others set left alone."""
        kind: Any = HorizontalPodAutoscaler if api == "hpa" else ScaledObject
        name = str(manifest["metadata"]["name"])
        async with self._calls.one("patch", HPAS if api == "hpa" else "scaledobjects"):
            await self._client.patch(
                kind,
                name,
                dict(manifest),
                namespace=self.namespace,
                patch_type=PatchType.APPLY,
                field_manager=FIELD_MANAGER,
                force=True,
            )

    async def delete_autoscaler(self, api: str, name: str) -> None:
        """Delete an autoscaler; one that is gone is fine. It may take its time to go."""
        kind: Any = HorizontalPodAutoscaler if api == "hpa" else ScaledObject
        try:
            async with self._calls.one("delete", HPAS if api == "hpa" else "scaledobjects"):
                await self._client.delete(kind, name, namespace=self.namespace)
        except ApiNotFound:
            pass

    # -- the rest ----------------------------------------------------------------------------------

    async def secret(self, name: str) -> dict[str, str]:
        """A Secret's values as text. Raises ApiNotFound, ApiForbidden, KubeError."""
        async with self._calls.one("get", "secrets"):
            found = await self._client.get(Secret, name, namespace=self.namespace)
        values: dict[str, str] = {}
        for key, value in (found.data or {}).items():
            try:
                values[key] = base64.b64decode(value, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                continue  # not text, so not a login; who asks for it is told that it is missing
        return values

    async def event(
        self, regarding: Reference, *, reason: str, action: str, note: str, warning: bool, by: str
    ) -> None:
        """Tell something about an object, as `kubectl describe` shows it."""
        now = datetime.now(UTC)
        body: Any = {
            "metadata": {"name": f"{regarding.name[:200]}.{int(now.timestamp() * 1e6):x}"},
            "eventTime": lease_time(now),
            "reportingController": "tidegate.dev/operator",
            "reportingInstance": by[:128],
            "action": action,
            "reason": reason,
            "note": note[:1024],
            "type": "Warning" if warning else "Normal",
            "regarding": {
                "apiVersion": regarding.api_version,
                "kind": regarding.kind,
                "name": regarding.name,
                "namespace": self.namespace,
                "uid": regarding.uid,
            },
        }
        async with self._calls.one("create", "events"):
            await self._client.create(Event.from_dict(body), namespace=self.namespace)

    # -- inside ------------------------------------------------------------------------------------

    async def _patch_lease(self, name: str, patch: Mapping[str, Any]) -> Record:
        async with self._calls.one("patch", "leases"):
            return answers.lease_of(
                await self._client.patch(
                    Lease, name, patch, namespace=self.namespace, patch_type=PatchType.MERGE
                )
            )

    async def _list(self, resource: str, kind: Any, **options: Any) -> AsyncIterator[Any]:
        """Pages are read as they are needed; each is a call of its own to the server."""
        async with self._calls.one("list", resource):
            found = self._client.list(kind, namespace=self.namespace, chunk_size=PAGE, **options)
            every = [one async for one in found]
        for one in every:
            yield one


def _owner(pod: Reference) -> dict[str, str]:
    return {
        "apiVersion": pod.api_version,
        "kind": pod.kind,
        "name": pod.name,
        "uid": pod.uid,
    }


def connect(
    kubeconfig: Path | None, namespace: str, *, timeout_s: float, pod: Reference | None = None
) -> Kube:
    """The API server that a kubeconfig, the pod's service account or the environment names.

    Raises:
        SettingsError: none of them says where it is.
    """
    try:
        config = KubeConfig.from_env() if kubeconfig is None else KubeConfig.from_file(kubeconfig)
        return Kube(config, namespace, timeout_s=timeout_s, pod=pod)
    except (ConfigError, OSError, KeyError, ValueError, TypeError) as error:
        where = "the environment" if kubeconfig is None else str(kubeconfig)
        text = (
            f"kubeconfig: {where} does not say how to reach the API server ({error}); "
            "run it in a pod with a service account, or give --kubeconfig"
        )
        raise SettingsError((text,)) from None
