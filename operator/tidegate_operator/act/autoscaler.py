"""What the autoscalers of modes `hpa` and `keda` look like. Pure: from the spec to a manifest.

Both get the bounds that hold now and the same behaviour: up at once, in steps; down by the highest
need of a window, in small ones. The tolerances stay with Kubernetes: per autoscaler they came with
1.35, and an older API server refuses what it does not know.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any

from tidegate_operator.decide.schedule import bounds_at
from tidegate_operator.kube.objects import MARK, Reference
from tidegate_operator.model.scaling import Down, Scaling, Up

Manifest = dict[str, Any]


def hpa(owner: Reference, target: str, scaling: Scaling, wall: datetime) -> Manifest:
    """An HorizontalPodAutoscaler (autoscaling/v2) that belongs to the Gateway `owner`."""
    bounds = bounds_at(scaling, wall)
    metrics: list[Manifest] = []
    if scaling.hpa.cpu_percent is not None:
        goal = {"type": "Utilization", "averageUtilization": scaling.hpa.cpu_percent}
        metrics.append({"type": "Resource", "resource": {"name": "cpu", "target": goal}})
    for one in scaling.hpa.external:
        metric: Manifest = {"name": one.metric}
        if one.labels:
            metric["selector"] = {"matchLabels": dict(sorted(one.labels.items()))}
        goal = {"type": "AverageValue", "averageValue": str(one.per_pod)}
        metrics.append({"type": "External", "external": {"metric": metric, "target": goal}})
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target},
        "minReplicas": bounds.min,
        "maxReplicas": bounds.max,
        "metrics": metrics,
        "behavior": _behavior(scaling),
    }
    return _manifest("autoscaling/v2", "HorizontalPodAutoscaler", owner, spec)


def scaled_object(owner: Reference, target: str, scaling: Scaling, wall: datetime) -> Manifest:
    """A ScaledObject (keda.sh/v1alpha1) that belongs to the Gateway `owner`."""
    bounds = bounds_at(scaling, wall)
    triggers = []
    for one in scaling.keda.triggers:
        trigger: Manifest = {"type": one.type, "metadata": dict(sorted(one.metadata.items()))}
        if one.authentication is not None:
            trigger["authenticationRef"] = {"name": one.authentication}
        triggers.append(trigger)
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target},
        "minReplicaCount": bounds.min,
        "maxReplicaCount": bounds.max,
        "pollingInterval": scaling.keda.polling_s,
        "triggers": triggers,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior(scaling)}},
    }
    return _manifest("keda.sh/v1alpha1", "ScaledObject", owner, spec)


def _behavior(scaling: Scaling) -> Manifest:
    return {
        "scaleUp": _rules(scaling.up, 0),
        "scaleDown": _rules(scaling.down, scaling.down.window_s),
    }


def _rules(side: Up | Down, window_s: int) -> Manifest:
    policies = [{"type": "Pods", "value": side.max_pods, "periodSeconds": side.period_s}]
    if side.max_percent > 0:  # a policy of 0 % is refused
        policies.append(
            {"type": "Percent", "value": side.max_percent, "periodSeconds": side.period_s}
        )
    return {
        "stabilizationWindowSeconds": window_s,
        "selectPolicy": "Max",
        "policies": policies,
    }


def _manifest(api_version: str, kind: str, owner: Reference, spec: Manifest) -> Manifest:
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:16]
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": owner.name,
            "annotations": {MARK: digest},
            "labels": {"app.kubernetes.io/managed-by": "tidegate-operator"},
            "ownerReferences": [
                {
                    "apiVersion": owner.api_version,
                    "kind": owner.kind,
                    "name": owner.name,
                    "uid": owner.uid,
                    "controller": True,
                    # True would need the right to write finalizers of Gateways.
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": spec,
    }
