"""Who writes the number of replicas: one at any time, also while the mode changes.

    spec says      ours that exists        then
    internal/none  a scaler                remove it; write nothing until it is gone
    internal/none  none                    the operator writes
    hpa            the ScaledObject        remove it; nothing else until it is gone
    hpa            none, or the HPA        keep the HPA; the operator never writes
    keda           ...                     the same with the ScaledObject
    any            another one's scaler    remove ours, write nothing, say so

What is gone is only believed when an observation says so: the one who removes it does not know
whether it worked.
"""

from __future__ import annotations

from typing import NamedTuple

from tidegate_operator.decide.records import Observation, Reason, Scaler
from tidegate_operator.model.scaling import Mode

_SCALER_OF = {Mode.HPA: Scaler.HPA, Mode.KEDA: Scaler.KEDA}


class Writing(NamedTuple):
    """`reason` None: the operator writes. Else someone else does, or nobody may now."""

    reason: Reason | None
    message: str = ""
    remove: frozenset[Scaler] = frozenset()
    keep: Scaler | None = None


def writing(mode: Mode, seen: Observation) -> Writing:
    """Who may write now."""
    if seen.foreign_scalers:
        names = ", ".join(sorted(seen.foreign_scalers))
        return Writing(
            Reason.CONFLICT,
            f"{names} scales the same Deployment: delete it, or delete this Gateway",
            remove=seen.own_scalers,
        )
    wanted = _SCALER_OF.get(mode)
    left = frozenset(one for one in seen.own_scalers if one is not wanted)
    if left:
        names = ", ".join(sorted(left))
        return Writing(Reason.HANDOVER, f"waiting until the {names} is gone", remove=left)
    if wanted is not None:
        return Writing(Reason.DELEGATED, f"the {wanted} scales", keep=wanted)
    return Writing(None)
