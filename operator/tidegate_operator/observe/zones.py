"""The zone of each pod: from its own label, else from its node, where the Role allows to ask.

Zones only make a choice between pods better, so nothing here is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from tidegate_operator.kube.errors import ApiForbidden, ApiNotFound, KubeError
from tidegate_operator.kube.objects import PodState

#: Nodes are asked for their zone again after so long, and so is a Role without them.
ZONE_S = 600.0


class Nodes(Protocol):
    """Tells the zone of a node; `Kube` is one."""

    async def zone_of(self, node: str) -> str | None: ...


class Zones:
    """Remembers what it was told."""

    def __init__(self, nodes: Nodes, clock: Callable[[], float]) -> None:
        self._nodes = nodes
        self._clock = clock
        self._zones: dict[str, tuple[float, str | None]] = {}
        self._none_until = float("-inf")

    async def of(self, pods: Iterable[PodState]) -> dict[str, str]:
        """The zone of each pod, as far as anyone tells."""
        found: dict[str, str] = {}
        now = self._clock()
        for pod in pods:
            zone = pod.zone
            if zone is None and pod.node and now >= self._none_until:
                zone = await self._ask(pod.node, now)
            if zone is not None:
                found[pod.name] = zone
        return found

    async def _ask(self, node: str, now: float) -> str | None:
        at, zone = self._zones.get(node, (float("-inf"), None))
        if now - at < ZONE_S:
            return zone
        try:
            zone = await self._nodes.zone_of(node)
        except ApiForbidden:
            self._none_until = now + ZONE_S
            return None
        except ApiNotFound:
            zone = None
        except KubeError:
            return zone  # the last one known; zones only make a choice between pods better
        self._zones = {n: v for n, v in self._zones.items() if now - v[0] < 2 * ZONE_S}
        self._zones[node] = (now, zone)
        return zone
