"""CPU cost of work: the amount of each part, times its measured cost. Pure.

    all replicas = seconds x replicas + connections + operations x watching replicas
                   + entries on each watching replica + dispatches + deliveries + re-arms
    Redis        = seconds x replicas + operations x watching replicas
                   + entries + relays to further replicas + re-arms

A replica that watches an operation without dispatching it arms its change notification again at
most once in `REARM_S`, and at most once per entry. Above `SINGLE_ENTRIES_PER_S`, the entries of a
process share wake-ups, so each costs only a share of what a single one does.
`python -m bench.fleet_costs` measures the costs, and the error of the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tidegate.cli import size_figures as figures

#: `dispatch.follow_arm_s`.
REARM_S = 1.5
REPLICA_PARTS = (
    "second",
    "connection and second",
    "watched operation and second",
    "entry on a watching replica",
    "dispatch of an entry",
    "delivery",
    "re-arm",
)
REDIS_PARTS = (
    "replica and second",
    "watched operation and second",
    "entry, with its first relay",
    "relay to a further replica",
    "re-arm",
)


@dataclass(frozen=True, slots=True)
class Work:
    """The work of all replicas together, per second.

    `following`: average number of replicas with viewers of an operation. The operations are
    distributed evenly over `primaries`.
    """

    replicas: int
    connections: float
    operations: float
    following: float
    entries_per_second: float
    deliveries_per_second: float
    primaries: int = 1

    @property
    def watched(self) -> float:
        """Pairs of an operation and a replica that has viewers of it."""
        return self.operations * self.following

    @property
    def rearms_per_second(self) -> float:
        """Re-arms by the replicas that watch an operation without dispatching it."""
        per_replica = min(self.entries_per_second, self.operations / REARM_S)
        return per_replica * max(0.0, self.following - 1)

    @property
    def entries_per_replica(self) -> float:
        """Entries per second that one replica processes."""
        return self.entries_per_second * self.following / self.replicas


def replica_amounts(work: Work, *, further_share: float) -> Sequence[float]:
    """Amounts in the order of `REPLICA_PARTS`, per second, of all replicas together."""
    entries = work.replicas * coalesced(work.entries_per_replica, further_share)
    return (
        work.replicas,
        work.connections,
        work.watched,
        entries,
        entries / work.following,
        work.deliveries_per_second,
        work.rearms_per_second,
    )


def redis_amounts(work: Work, *, further_share: float) -> Sequence[float]:
    """Amounts in the order of `REDIS_PARTS`, per second, of all primaries together."""
    each = work.entries_per_second / work.primaries
    entries = work.primaries * coalesced(each, further_share)
    return (
        work.replicas,  # leases, which are on one primary
        work.watched,
        entries,
        entries * max(0.0, work.following - 1),
        work.rearms_per_second,
    )


def coalesced(per_second: float, further_share: float) -> float:
    """The number of single entries per second that would cost as much as these."""
    single = min(per_second, figures.SINGLE_ENTRIES_PER_S)
    return single + (per_second - single) * further_share


def replica_cpu(work: Work) -> float:
    """CPU of one replica, in cores of the measured machine."""
    amounts = replica_amounts(work, further_share=figures.FURTHER_SHARE)
    return _sum(amounts, figures.REPLICA_US) / work.replicas


def redis_cpu(work: Work) -> float:
    """CPU of all primaries together, in cores of the measured machine."""
    amounts = redis_amounts(work, further_share=figures.REDIS_FURTHER_SHARE)
    return _sum(amounts, figures.REDIS_US)


def replica_parts(work: Work) -> dict[str, float]:
    """CPU of one replica by part, in cores."""
    amounts = replica_amounts(work, further_share=figures.FURTHER_SHARE)
    cores = [a * c / 1e6 / work.replicas for a, c in zip(amounts, figures.REPLICA_US, strict=True)]
    return dict(zip(REPLICA_PARTS, cores, strict=True))


def redis_parts(work: Work) -> dict[str, float]:
    """CPU of one primary by part, in cores."""
    amounts = redis_amounts(work, further_share=figures.REDIS_FURTHER_SHARE)
    cores = [a * c / 1e6 / work.primaries for a, c in zip(amounts, figures.REDIS_US, strict=True)]
    return dict(zip(REDIS_PARTS, cores, strict=True))


def _sum(amounts: Sequence[float], costs_us: Sequence[float]) -> float:
    return sum(a * c for a, c in zip(amounts, costs_us, strict=True)) / 1e6
