"""The API server's answers, turned into our own records: no type of lightkube goes further."""

from __future__ import annotations

from typing import Any

from tidegate_operator.kube.lease import Record, lease_time
from tidegate_operator.kube.objects import (
    DELETION_COST,
    MARK,
    OWN_COST,
    TEMPLATE_HASH,
    ZONE_LABEL,
    Autoscaler,
    DeploymentState,
    Match,
    PodState,
)
from tidegate_operator.model.gateway import KIND


def lease_of(lease: Any) -> Record:
    """A Lease."""
    spec, meta = lease.spec, lease.metadata
    renewed = spec.renewTime if spec else None
    return Record(
        holder=(spec and spec.holderIdentity) or "",
        duration_s=float((spec and spec.leaseDurationSeconds) or 0),
        renewed="" if renewed is None else lease_time(renewed),
        transitions=int((spec and spec.leaseTransitions) or 0),
        version=str(meta.resourceVersion),
    )


def deployment_of(found: Any) -> DeploymentState:
    """A Deployment."""
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


def pod_of(found: Any) -> PodState:
    """A pod."""
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


def hpa_of(found: Any) -> Autoscaler:
    """An HorizontalPodAutoscaler."""
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


def scaled_object_of(found: dict[str, Any]) -> Autoscaler:
    """A ScaledObject, which comes as it was written."""
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
