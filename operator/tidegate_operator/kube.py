"""The Kubernetes API, as far as the operator needs it: every call it makes is a method here.

Over lightkube. What each call needs of the Role is in `PERMISSIONS`, by which the chart's Role and
the page are checked; a call is counted by verb, resource and answer. Every call has a time limit
and raises one of `kube_objects`' errors. Writes name the version that was read wherever somebody
else may write the same.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
from lightkube import AsyncClient, KubeConfig, operators
from lightkube.core.exceptions import ApiError, ConfigError, LoadResourceError
from lightkube.generic_resource import create_namespaced_resource
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.autoscaling_v2 import HorizontalPodAutoscaler
from lightkube.resources.coordination_v1 import Lease
from lightkube.resources.core_v1 import Node, Pod, Secret
from lightkube.resources.events_v1 import Event
from lightkube.types import PatchType

from tidegate.model.errors import SettingsError
from tidegate_operator.kube_objects import (
    DELETION_COST,
    MARK,
    OWN_COST,
    TEMPLATE_HASH,
    ZONE_LABEL,
    Autoscaler,
    Conflict,
    DeploymentState,
    Forbidden,
    KubeError,
    Match,
    NotFound,
    PodState,
    Reference,
    Refused,
    Unreachable,
    lease_time,
)
from tidegate_operator.leader import Record, Write
from tidegate_operator.model.gateway import GROUP, KIND, PLURAL, VERSION

FIELD_MANAGER = "tidegate-operator"
#: Objects of one answer to a list; the rest follows in pages.
PAGE = 500

Gateway = create_namespaced_resource(GROUP, VERSION, KIND, PLURAL)
ScaledObject = create_namespaced_resource("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects")


class Permission(NamedTuple):
    """A line of the Role: API group, resource, verbs, and why.

    Attributes:
        named: only on the objects with these names, which the chart knows.
        when: the feature that needs it; empty: always.
    """

    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str
    named: bool = False
    when: str = ""


PERMISSIONS: tuple[Permission, ...] = (
    Permission(GROUP, "gateways", ("list", "watch"), "what is to be done"),
    Permission(GROUP, "gateways/status", ("patch",), "what was done, and the conditions"),
    Permission("coordination.k8s.io", "leases", ("create",), "the election"),
    Permission(
        "coordination.k8s.io",
        "leases",
        ("get", "patch"),
        "the election; the Lease only",
        named=True,
    ),
    Permission("apps", "deployments", ("get",), "replicas and the state of a rollout"),
    Permission("apps", "deployments/scale", ("patch",), "scaling, in `internal` and `none`"),
    Permission("", "pods", ("list", "patch"), "which are ready; the deletion cost before they go"),
    Permission("", "secrets", ("get",), "the login of Redis; those Secrets only", named=True),
    Permission("events.k8s.io", "events", ("create",), "scale decisions and failures"),
    Permission(
        "autoscaling",
        "horizontalpodautoscalers",
        ("list", "create", "patch", "delete"),
        "mode `hpa`; in every mode, who else writes the scale",
    ),
    Permission(
        "keda.sh",
        "scaledobjects",
        ("list", "create", "patch", "delete"),
        "mode `keda`; in every mode, who else writes the scale",
        when="keda",
    ),
    Permission("", "nodes", ("get",), "zones before Kubernetes 1.35; a ClusterRole", when="zones"),
)


class Kube:
    """One connection to the API server, for one namespace. `close` when done."""

    def __init__(self, config: KubeConfig, namespace: str, *, timeout_s: float) -> None:
        self.namespace = namespace
        self._timeout_s = timeout_s
        #: Any: its overloads know each way to call it but not each of its own resources.
        self._client: Any = AsyncClient(
            config=config,
            namespace=namespace,
            timeout=httpx2.Timeout(timeout_s),
            field_manager=FIELD_MANAGER,
        )
        #: Calls by (verb, resource, answer): `ok`, the HTTP status, `timeout`, `unreachable`.
        self.calls: Counter[tuple[str, str, str]] = Counter()

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
            Conflict, NotFound, KubeError
        """
        body: dict[str, Any] = {"status": dict(status)}
        if version is not None:
            body["metadata"] = {"resourceVersion": version}
        async with self._call("patch", "gateways/status"):
            return dict(
                await self._client.patch(
                    Gateway.Status, name, body, namespace=self.namespace, patch_type=PatchType.MERGE
                )
            )

    # -- the Lease ---------------------------------------------------------------------------------

    async def lease(self, name: str) -> Record | None:
        """The Lease; None if there is none."""
        try:
            async with self._call("get", "leases"):
                return _record(await self._client.get(Lease, name, namespace=self.namespace))
        except NotFound:
            return None

    async def write_lease(
        self, name: str, write: Write, *, duration_s: int, renewed: datetime
    ) -> Record:
        """Carry a write of the election out.

        Raises:
            Conflict: somebody was quicker.
            KubeError
        """
        now = lease_time(renewed)
        spec: dict[str, Any] = {
            "holderIdentity": write.holder,
            "leaseDurationSeconds": duration_s,
            "leaseTransitions": write.transitions,
            "renewTime": now,
        }
        if write.begins:
            spec["acquireTime"] = now
        if write.version is None:
            body = Lease.from_dict({"metadata": {"name": name}, "spec": spec})
            async with self._call("create", "leases"):
                return _record(await self._client.create(body, namespace=self.namespace))
        patch = {"metadata": {"resourceVersion": write.version}, "spec": spec}
        async with self._call("patch", "leases"):
            return _record(
                await self._client.patch(
                    Lease, name, patch, namespace=self.namespace, patch_type=PatchType.MERGE
                )
            )

    # -- the workload ------------------------------------------------------------------------------

    async def deployment(self, name: str) -> DeploymentState:
        """A Deployment. Raises NotFound, KubeError."""
        async with self._call("get", "deployments"):
            found = await self._client.get(Deployment, name, namespace=self.namespace)
        return _deployment(found)

    async def pods(self, selector: Sequence[Match]) -> list[PodState]:
        """The pods that a label selector finds, in no order."""
        pairs = [(one.key, _OPERATORS[one.operator](one.values)) for one in selector]
        return [_pod(one) async for one in self._list("pods", Pod, labels=pairs)]

    async def scale(self, name: str, version: str, replicas: int) -> None:
        """Write the number of replicas of a Deployment that is still of this version.

        Raises:
            Conflict: it changed meanwhile; look again before deciding again.
            KubeError
        """
        body = {"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}}
        async with self._call("patch", "deployments/scale"):
            await self._client.patch(
                Deployment.Scale, name, body, namespace=self.namespace, patch_type=PatchType.MERGE
            )

    async def set_deletion_cost(self, pod: str, uid: str, cost: int) -> None:
        """Write what the loss of this pod costs. Raises NotFound (also for another uid)."""
        body = {
            # A uid in a patch must be the object's own: a new pod of this name is not meant.
            "metadata": {
                "uid": uid,
                "annotations": {DELETION_COST: str(cost), OWN_COST: str(cost)},
            }
        }
        async with self._call("patch", "pods"):
            await self._client.patch(
                Pod, pod, body, namespace=self.namespace, patch_type=PatchType.MERGE
            )

    async def zone_of(self, node: str) -> str | None:
        """The zone of a node. Raises Forbidden where the Role has no nodes, which is usual."""
        async with self._call("get", "nodes"):
            found = await self._client.get(Node, node)
        labels = (found.metadata and found.metadata.labels) or {}
        return labels.get(ZONE_LABEL)

    # -- autoscalers -------------------------------------------------------------------------------

    async def autoscalers(self) -> list[Autoscaler]:
        """All HorizontalPodAutoscalers of the namespace."""
        return [_hpa(one) async for one in self._list(HPAS, HorizontalPodAutoscaler)]

    async def scaled_objects(self) -> list[Autoscaler] | None:
        """All ScaledObjects of the namespace; None if the cluster has no KEDA."""
        try:
            return [_scaled(dict(one)) async for one in self._list("scaledobjects", ScaledObject)]
        except NotFound:
            return None

    async def apply_autoscaler(self, api: str, manifest: Mapping[str, Any]) -> None:
        """Make an autoscaler of ours what this says, fields that others set left alone."""
        kind: Any = HorizontalPodAutoscaler if api == "hpa" else ScaledObject
        name = str(manifest["metadata"]["name"])
        async with self._call("patch", HPAS if api == "hpa" else "scaledobjects"):
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
            async with self._call("delete", HPAS if api == "hpa" else "scaledobjects"):
                await self._client.delete(kind, name, namespace=self.namespace)
        except NotFound:
            pass

    # -- the rest ----------------------------------------------------------------------------------

    async def secret(self, name: str) -> dict[str, str]:
        """A Secret's values as text. Raises NotFound, Forbidden, KubeError."""
        async with self._call("get", "secrets"):
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
        async with self._call("create", "events"):
            await self._client.create(Event.from_dict(body), namespace=self.namespace)

    # -- inside ------------------------------------------------------------------------------------

    async def _list(self, resource: str, kind: Any, **options: Any) -> AsyncIterator[Any]:
        """Pages are read as they are needed; each is a call of its own to the server."""
        async with self._call("list", resource):
            found = self._client.list(kind, namespace=self.namespace, chunk_size=PAGE, **options)
            every = [one async for one in found]
        for one in every:
            yield one

    @asynccontextmanager
    async def _call(self, verb: str, resource: str) -> AsyncIterator[None]:
        """Count a call, bound its time, and turn what goes wrong into a `KubeError`."""
        answer = "ok"
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except ApiError as error:
            answer = str(error.status.code or 0)
            raise _error(verb, resource, error.status.code or 0, str(error)) from None
        except httpx2.HTTPStatusError as error:
            answer = str(error.response.status_code)
            text = error.response.reason_phrase
            raise _error(verb, resource, error.response.status_code, text) from None
        except TimeoutError:
            answer = "timeout"
            raise Unreachable(f"no answer to {verb} {resource} in {self._timeout_s:g} s") from None
        except (httpx2.HTTPError, OSError) as error:
            answer = "unreachable"
            text = str(error) or type(error).__name__
            raise Unreachable(f"{verb} {resource}: {text}") from None
        except (ConfigError, LoadResourceError) as error:
            answer = "unreachable"
            raise Unreachable(f"{verb} {resource}: {error}") from None
        except asyncio.CancelledError:
            answer = "cancelled"
            raise
        finally:
            self.calls[(verb, resource, answer)] += 1


HPAS = "horizontalpodautoscalers"
_OPERATORS: Mapping[str, Callable[[Sequence[str]], Any]] = {
    "In": operators.in_,
    "NotIn": operators.not_in,
    "Exists": lambda _: operators.exists(),
    "DoesNotExist": lambda _: operators.not_exists(),
}


def connect(kubeconfig: Path | None, namespace: str, *, timeout_s: float) -> Kube:
    """The API server that a kubeconfig, the pod's service account or the environment names.

    Raises:
        SettingsError: none of them says where it is.
    """
    try:
        config = KubeConfig.from_env() if kubeconfig is None else KubeConfig.from_file(kubeconfig)
        return Kube(config, namespace, timeout_s=timeout_s)
    except (ConfigError, OSError, KeyError, ValueError, TypeError) as error:
        where = "the environment" if kubeconfig is None else str(kubeconfig)
        text = (
            f"kubeconfig: {where} does not say how to reach the API server ({error}); "
            "run it in a pod with a service account, or give --kubeconfig"
        )
        raise SettingsError((text,)) from None


def _error(verb: str, resource: str, code: int, text: str) -> KubeError:
    kind: Callable[[str, int], KubeError]
    match code:
        case 401 | 403:
            kind = Forbidden
        case 404:
            kind = NotFound
        case 409:
            kind = Conflict
        case 400 | 405 | 406 | 413 | 415 | 422:
            kind = Refused
        case _:
            kind = Unreachable
    return kind(f"{verb} {resource}: {text or code}", code)


def _record(lease: Any) -> Record:
    spec, meta = lease.spec, lease.metadata
    renewed = spec.renewTime if spec else None
    return Record(
        holder=(spec and spec.holderIdentity) or "",
        duration_s=float((spec and spec.leaseDurationSeconds) or 0),
        renewed="" if renewed is None else lease_time(renewed),
        transitions=int((spec and spec.leaseTransitions) or 0),
        version=str(meta.resourceVersion),
    )


def _deployment(found: Any) -> DeploymentState:
    status, spec, meta = found.status, found.spec, found.metadata
    return DeploymentState(
        name=meta.name,
        uid=meta.uid,
        version=meta.resourceVersion,
        replicas=1 if spec.replicas is None else spec.replicas,
        selector=_selector(spec.selector),
        generation=meta.generation or 0,
        observed_generation=(status and status.observedGeneration) or 0,
        current=(status and status.replicas) or 0,
        updated=(status and status.updatedReplicas) or 0,
        ready=(status and status.readyReplicas) or 0,
        available=(status and status.availableReplicas) or 0,
        paused=bool(spec.paused),
    )


def _selector(selector: Any) -> tuple[Match, ...]:
    exact = sorted((selector.matchLabels or {}).items())
    return (
        *(Match(key, "In", (value,)) for key, value in exact),
        *(
            Match(one.key, one.operator, tuple(one.values or ()))
            for one in selector.matchExpressions or ()
        ),
    )


def _pod(found: Any) -> PodState:
    meta, status, spec = found.metadata, found.status, found.spec
    conditions = {one.type: one.status for one in (status and status.conditions) or ()}
    labels, annotations = meta.labels or {}, meta.annotations or {}
    return PodState(
        name=meta.name,
        uid=meta.uid,
        phase=(status and status.phase) or "Unknown",
        ready=conditions.get("Ready") == "True",
        terminating=meta.deletionTimestamp is not None,
        replica_set=labels.get(TEMPLATE_HASH),
        node=(spec and spec.nodeName) or "",
        zone=labels.get(ZONE_LABEL),
        cost=_cost(annotations.get(DELETION_COST)),
        own_cost=_cost(annotations.get(OWN_COST)),
    )


def _cost(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def _hpa(found: Any) -> Autoscaler:
    meta, spec, status = found.metadata, found.spec, found.status
    owners = {one.kind: one for one in meta.ownerReferences or ()}
    return Autoscaler(
        api="hpa",
        name=meta.name,
        uid=meta.uid,
        version=meta.resourceVersion,
        owner=str(owners[KIND].uid) if KIND in owners else "",
        via=str(owners["ScaledObject"].name) if "ScaledObject" in owners else "",
        target=(spec.scaleTargetRef.kind, spec.scaleTargetRef.name),
        mark=(meta.annotations or {}).get(MARK, ""),
        desired=status.desiredReplicas if status else None,
        deleting=meta.deletionTimestamp is not None,
    )


def _scaled(found: dict[str, Any]) -> Autoscaler:
    meta: dict[str, Any] = found.get("metadata") or {}
    target = (found.get("spec") or {}).get("scaleTargetRef") or {}
    owners = {one.get("kind"): one for one in meta.get("ownerReferences") or ()}
    return Autoscaler(
        api="keda",
        name=str(meta.get("name", "")),
        uid=str(meta.get("uid", "")),
        version=str(meta.get("resourceVersion", "")),
        owner=str(owners[KIND].get("uid", "")) if KIND in owners else "",
        via="",
        target=(str(target.get("kind") or "Deployment"), str(target.get("name", ""))),
        mark=str((meta.get("annotations") or {}).get(MARK, "")),
        deleting=bool(meta.get("deletionTimestamp")),
    )
