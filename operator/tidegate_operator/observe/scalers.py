"""Who writes the scale: the autoscalers that aim at a gateway's Deployment, ours and others'."""

from __future__ import annotations

from collections.abc import Sequence

from tidegate_operator.decide.records import Scaler
from tidegate_operator.kube.objects import Autoscaler


def sort_scalers(
    name: str, uid: str, scalers: Sequence[Autoscaler]
) -> tuple[frozenset[Scaler], tuple[str, ...]]:
    """Which kinds of ours there are, and the names of those that are not ours.

    The HorizontalPodAutoscaler that KEDA makes of our ScaledObject is part of that: as long as it
    is there, it writes.
    """
    own: set[Scaler] = set()
    foreign: list[str] = []
    keda_is_foreign = {one.name for one in scalers if one.api == "keda" and one.owner != uid}
    for one in scalers:
        if one.owner == uid:
            own.add(Scaler.HPA if one.api == "hpa" else Scaler.KEDA)
        elif one.api == "hpa" and one.via == name and name not in keda_is_foreign:
            own.add(Scaler.KEDA)
        else:
            kind = Scaler.HPA if one.api == "hpa" else Scaler.KEDA
            foreign.append(f"{kind}/{one.name}")
    return frozenset(own), tuple(sorted(foreign))
