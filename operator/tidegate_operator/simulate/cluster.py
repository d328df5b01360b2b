"""A small model of a Deployment of gateways, with viewers that come back where they are let in.

A pod starts for `start_s`, then is ready. One that is taken away drains for `drain_s`: its viewers
leave evenly and arrive at serving pods. Which pods go is decided as a ReplicaSet does: not ready
ones, then the lowest deletion cost, then the youngest. Viewers that find no serving pod wait.
All counts are whole, and none is ever lost: the connections of all pods and those who wait add up
to the load.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tidegate_operator.decide.records import DeletionCost, Pod, PodLoad, Shed
from tidegate_operator.simulate.trace import Point

ZONES = ("a", "b", "c")


class Balancer(enum.StrEnum):
    """How new connections find a pod: each in turn, or the one with the fewest."""

    TURN = "turn"
    LEAST = "least"


@dataclass(slots=True)
class _Pod:
    name: str
    zone: str
    born_s: float
    connections: int = 0
    cost: int | None = None
    leaving_s: float | None = None
    #: Told to send so many away until then.
    to_shed: int = 0
    shed_until_s: float = 0.0
    lag_ms: float = 1.0


@dataclass(slots=True)
class SimulatedCluster:
    """The pods at `now_s`; `advance` moves the time."""

    start_s: float = 20.0
    drain_s: float = 30.0
    balancer: Balancer = Balancer.TURN
    now_s: float = 0.0
    waiting: int = 0
    #: Viewers that had to connect again, because their pod drained or was told to shed.
    reconnects: int = 0
    _pods: list[_Pod] = field(default_factory=list)
    _born: int = 0
    _turn: int = 0

    def begin(self, replicas: int) -> None:
        """Start with so many pods, ready from the first moment."""
        self.scale(replicas)
        for pod in self._pods:
            pod.born_s = self.now_s - self.start_s

    @property
    def replicas(self) -> int:
        """Pods that are not leaving."""
        return sum(pod.leaving_s is None for pod in self._pods)

    @property
    def serving(self) -> int:
        """Pods that viewers are sent to."""
        return len(self._serving())

    @property
    def connections(self) -> int:
        """Viewers that are connected."""
        return sum(pod.connections for pod in self._pods)

    @property
    def connections_by_pod(self) -> dict[str, int]:
        """Of the serving pods."""
        return {pod.name: pod.connections for pod in self._serving()}

    def scale(self, replicas: int) -> None:
        """There are to be so many pods."""
        while self.replicas < replicas:
            self._pods.append(_Pod(f"pod-{self._born}", ZONES[self._born % len(ZONES)], self.now_s))
            self._born += 1
        for pod in self._victims(self.replicas - replicas):
            pod.leaving_s = self.now_s

    def annotate(self, costs: Iterable[DeletionCost]) -> None:
        """Write deletion costs."""
        wanted = {one.pod: one.cost for one in costs}
        for pod in self._pods:
            pod.cost = wanted.get(pod.name, pod.cost)

    def shed(self, orders: Iterable[Shed]) -> None:
        """Have pods send viewers away."""
        wanted = {one.pod: one for one in orders}
        for pod in self._pods:
            if order := wanted.get(pod.name):
                pod.to_shed = order.connections
                pod.shed_until_s = self.now_s + order.over_s

    def advance(self, by_s: float, load: Point) -> None:
        """Let the time pass, and the load become `load`."""
        self.now_s += by_s
        moved = sum(self._send_away(pod, by_s) for pod in self._pods)
        self.reconnects += moved
        self.waiting += moved
        self._pods = [pod for pod in self._pods if not self._is_gone(pod)]
        self._follow(load.connections)
        self._let_in()
        for pod in self._pods:
            pod.lag_ms = load.loop_lag_ms

    def seen(self, load: Point) -> tuple[Pod, ...]:
        """The pods as the operator sees them; of the oldest the leases are lost first."""
        known = round(load.leases * len(self._pods))
        per_connection = load.deliveries_per_s / max(1, self.connections)
        return tuple(
            Pod(
                pod.name,
                ready=self._is_ready(pod),
                terminating=pod.leaving_s is not None,
                figures=self._figures(pod, per_connection) if place >= 0 else None,
                replica_set="v1",
                zone=pod.zone,
                cost=pod.cost,
                own_cost=pod.cost,
            )
            for place, pod in enumerate(self._pods, start=known - len(self._pods))
        )

    def _figures(self, pod: _Pod, per_connection: float) -> PodLoad | None:
        if not self._is_ready(pod):
            return None
        return PodLoad(pod.connections, pod.connections * per_connection, pod.lag_ms)

    def _is_ready(self, pod: _Pod) -> bool:
        return self.now_s >= pod.born_s + self.start_s

    def _is_gone(self, pod: _Pod) -> bool:
        return (
            pod.leaving_s is not None
            and pod.connections == 0
            and (not self._is_ready(pod) or self.now_s >= pod.leaving_s + self.drain_s)
        )

    def _serving(self) -> list[_Pod]:
        return [pod for pod in self._pods if pod.leaving_s is None and self._is_ready(pod)]

    def _victims(self, count: int) -> Sequence[_Pod]:
        if count <= 0:
            return ()
        staying = [pod for pod in self._pods if pod.leaving_s is None]
        staying.sort(key=lambda pod: (self._is_ready(pod), pod.cost or 0, -pod.born_s))
        return staying[:count]

    def _send_away(self, pod: _Pod, by_s: float) -> int:
        leaving = 0
        if pod.leaving_s is not None:
            left_s = pod.leaving_s + self.drain_s - (self.now_s - by_s)
            leaving = _share(pod.connections, by_s, left_s)
        elif pod.to_shed:
            left_s = pod.shed_until_s - (self.now_s - by_s)
            leaving = min(pod.connections, _share(pod.to_shed, by_s, left_s))
            pod.to_shed -= min(pod.to_shed, max(leaving, 1))
        pod.connections -= leaving
        return leaving

    def _follow(self, load: int) -> None:
        """Viewers come, or go from everywhere in proportion."""
        surplus = self.connections + self.waiting - load
        self.waiting += max(0, -surplus)
        if surplus <= 0:
            return
        gone = min(self.waiting, surplus)
        self.waiting -= gone
        surplus -= gone
        total = self.connections
        for pod in self._pods:
            if total == 0:
                break
            going = round(surplus * pod.connections / total)
            total -= pod.connections
            pod.connections -= going
            surplus -= going

    def _let_in(self) -> None:
        serving = self._serving()
        if not serving or self.waiting == 0:
            return
        if self.balancer is Balancer.LEAST:
            _level(serving, self.waiting)
        else:
            each, rest = divmod(self.waiting, len(serving))
            for place, pod in enumerate(serving):
                first = (place - self._turn) % len(serving)
                pod.connections += each + (first < rest)
            self._turn = (self._turn + rest) % len(serving)
        self.waiting = 0


def _share(count: int, by_s: float, left_s: float) -> int:
    """How many of `count` go in this time if all are to be gone in `left_s`."""
    return count if left_s <= by_s else min(count, round(count * by_s / left_s))


def _level(pods: Sequence[_Pod], count: int) -> None:
    """Each to the pod that has the fewest then."""
    by_count = sorted(pods, key=lambda pod: pod.connections)
    for lowest in range(1, len(by_count) + 1):
        top = by_count[lowest].connections if lowest < len(by_count) else None
        room = None if top is None else sum(top - pod.connections for pod in by_count[:lowest])
        if room is None or room >= count:
            total = sum(pod.connections for pod in by_count[:lowest]) + count
            each, rest = divmod(total, lowest)
            for place, pod in enumerate(by_count[:lowest]):
                pod.connections = each + (place < rest)
            return
