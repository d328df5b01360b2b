"""Says in the status of each Gateway that no replica of the operator leads.

It is the only thing that a replica writes without leading, and only after a time in which neither
it nor anyone else led: the leader is the one that would say all else. The version that was read
goes with the write, so that of several replicas, or of one and a new leader, one is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog

from tidegate_operator.kube.errors import KubeError
from tidegate_operator.kube.objects import Reference
from tidegate_operator.loops.scaling import StatusWriter
from tidegate_operator.loops.status import NO_LEADER, compose_leaderless
from tidegate_operator.model.gateway import GROUP, KIND, VERSION
from tidegate_operator.model.status import ConditionType

log = structlog.get_logger(__name__)

#: A replica that saw no leader for so many times the Lease's duration is not ready, and says so.
#: One is what a takeover takes, so with three it is no takeover that is under way.
PATIENCE_TERMS = 3.0


class GatewayWriter(StatusWriter, Protocol):
    """What is asked of Kubernetes; `Kube` is one."""

    async def gateways(self) -> list[dict[str, Any]]: ...


def explain(lease: str, leaderless_s: float, trouble: str) -> str:
    """Why nobody leads and what to do, in a sentence; `trouble` is the election's last failure."""
    why = f": {trouble}" if trouble else ""
    return (
        f"no replica of the operator has led for {leaderless_s:.0f} s, so nothing is scaled and "
        f"no stream is cleaned up{why}. The operator needs create on leases, and get and patch on "
        f"the Lease {lease}"
    )


async def tell_leaderless(api: GatewayWriter, name: str, message: str, *, by: str) -> None:
    """Write it into the status of each Gateway that `name` serves, with an event.

    Args:
        api: Kubernetes.
        name: of the only Gateway that this operator serves; empty: all.
        message: see `explain`.
        by: the identity of this replica.

    Raises nothing: what fails is tried again the next time, and logged.
    """
    try:
        for one in await api.gateways():
            if name in ("", one["metadata"]["name"]):
                await _tell(api, one, message, by)
    except KubeError as error:
        log.info("failed to report that no replica leads", reason=str(error))


async def _tell(api: GatewayWriter, resource: Mapping[str, Any], message: str, by: str) -> None:
    meta = resource["metadata"]
    before = resource.get("status") or {}
    made = compose_leaderless(before, int(meta.get("generation", 0)), message, datetime.now(UTC))
    if made is None:
        return
    name = str(meta["name"])
    await api.patch_status(name, str(meta["resourceVersion"]), made)
    log.error("no replica leads", gateway=name, reason=message)
    await api.event(
        Reference(f"{GROUP}/{VERSION}", KIND, name, str(meta["uid"])),
        reason=NO_LEADER,
        action=f"{ConditionType.LEADER_ELECTED}Check",
        note=message,
        warning=True,
        by=by,
    )
