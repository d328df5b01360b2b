"""The API server's answers, turned into our own records: no type of lightkube goes further."""

from __future__ import annotations

import re
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
    StallReason,
)
from tidegate_operator.model.gateway import KIND

#: A container waits for these in every start.
_UNDER_WAY = frozenset({None, "", "ContainerCreating", "PodInitializing"})
_REASON = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}", re.ASCII)
#: Of what Kubernetes says, per pod.
_MESSAGE_MAX = 300


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
        stalled=_stalled((status and status.conditions) or ()),
    )


def _stalled(conditions: Any) -> StallReason | None:
    for one in conditions:
        if (one.type, one.status) in (("Progressing", "False"), ("ReplicaFailure", "True")):
            return _trouble(one.reason, one.message)
    return None


def _trouble(reason: str | None, message: str | None) -> StallReason:
    """With a word that a condition may have: a runtime may say anything."""
    word = reason or ""
    text = " ".join((message or "").split())[:_MESSAGE_MAX]
    return StallReason(word, text) if _REASON.fullmatch(word) else StallReason("NotStarting", text)


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
        trouble=_trouble_of(status),
    )


def _trouble_of(status: Any) -> StallReason | None:
    if status is None:
        return None
    for one in (*(status.initContainerStatuses or ()), *(status.containerStatuses or ())):
        waiting = one.state.waiting if one.state else None
        if waiting is None or waiting.reason in _UNDER_WAY:
            continue
        trouble = _trouble(waiting.reason, waiting.message)
        ended = one.lastState.terminated if one.lastState else None
        if ended is None:
            return trouble
        last = f"the last one ended with {ended.exitCode} ({_trouble(ended.reason, None).reason})"
        return StallReason(
            trouble.reason, f"{trouble.message}; {last}" if trouble.message else last
        )
    for one in status.conditions or ():
        if one.type == "PodScheduled" and one.status == "False":
            return _trouble(one.reason, one.message)
    return None


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
