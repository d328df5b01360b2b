"""Which limit an installation of a given size reaches first: the use of each resource, compared
with its limit.

This is for `tidegate size --replicas`, which computes what a given number of replicas and primaries
can carry instead of how many are needed. Pure. Limits that are not measured are chosen below, with
their reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tidegate.cli import size_figures as figures
from tidegate.cli.size_costs import (
    REDIS_PARTS,
    REPLICA_PARTS,
    redis_parts,
    replica_parts,
)
from tidegate.cli.size_plan import Load, frame_bytes, relayed_bytes, work_of

#: Network bandwidth of an ordinary virtual machine.
NETWORK_BITS_PER_S = 10e9
#: Default of `maxclients` in Redis. Publishers are not counted.
REDIS_CLIENTS = 10_000
#: Default of `tracking-table-max-keys` in Redis. Above it, Redis sends invalidations for keys that
#: have not changed.
TRACKED_KEYS = 1_000_000
#: Time in which all viewers of an operation should have an entry: people notice a longer one.
SPREAD_S = 1.0

_FEWER_REPLICAS = (
    "let the load balancer send the viewers of an operation to the same few replicas (hash of the "
    "path), or publish less often"
)
_REMEDIES: Mapping[str, str] = {
    REPLICA_PARTS[1]: "more replicas",
    REPLICA_PARTS[2]: _FEWER_REPLICAS,
    REPLICA_PARTS[3]: _FEWER_REPLICAS,
    REPLICA_PARTS[4]: "more replicas, or publish less often",
    REPLICA_PARTS[5]: "more replicas, or publish less often",
    REPLICA_PARTS[6]: _FEWER_REPLICAS,
    REDIS_PARTS[0]: "fewer, larger primaries",
    REDIS_PARTS[1]: _FEWER_REPLICAS,
    REDIS_PARTS[2]: "more primaries, or publish less often",
    REDIS_PARTS[3]: _FEWER_REPLICAS,
}


@dataclass(frozen=True, slots=True)
class Use:
    """A resource: how much of its limit is used, what uses most of it, and the remedy."""

    resource: str
    used: float
    limit: float
    unit: str
    mostly: str
    remedy: str

    @property
    def share(self) -> float:
        """Used share of the limit; above 1 the installation is too small."""
        return self.used / self.limit


def uses(load: Load, replicas: int, primaries: int) -> list[Use]:
    """All resources, the one with the highest share first."""
    work = work_of(load, replicas, primaries=primaries)
    connections = load.viewers / replicas
    found = [
        _cpu("CPU of a replica", replica_parts(work), load.core_share, load.cpu_scale),
        _cpu("CPU of a primary", redis_parts(work), figures.REDIS_CORE_SHARE, load.cpu_scale),
        Use(
            "connections of a replica",
            connections,
            load.connections_per_replica,
            "",
            "viewers",
            "more replicas",
        ),
        Use(
            "network of a replica",
            load.deliveries_per_second / replicas * frame_bytes(load) * 8,
            NETWORK_BITS_PER_S,
            "bit/s",
            "frames",
            "more replicas, or smaller entries",
        ),
        Use(
            "network of a primary",
            work.entries_per_second * work.following / primaries * relayed_bytes(load) * 8,
            NETWORK_BITS_PER_S,
            "bit/s",
            "relays",
            _FEWER_REPLICAS,
        ),
        Use(
            "clients of a primary",
            replicas * figures.REDIS_CONNECTIONS,
            REDIS_CLIENTS,
            "",
            "replicas",
            "raise maxclients",
        ),
        Use(
            "tracked keys of a primary",
            load.operations / primaries,
            TRACKED_KEYS,
            "",
            "operations with viewers",
            "raise tracking-table-max-keys, or more primaries",
        ),
    ]
    if load.crowd:
        found.append(
            Use(
                "an entry to the crowd, s",
                spread_s(load.crowd, replicas) * load.cpu_scale,
                SPREAD_S,
                "",
                "writes to its viewers",
                "more replicas; conflated types, of which a slow viewer gets the latest",
            )
        )
    return sorted(found, key=lambda one: -one.share)


def spread_s(viewers: int, replicas: int) -> float:
    """Seconds from the dispatch of an entry until the last of these viewers has it: the primary
    sends it to each replica, and each replica writes it to its viewers. Without any other work.
    """
    relays = figures.REDIS_US[3] * (replicas - 1)
    return (relays + math.ceil(viewers / replicas) * figures.REPLICA_US[5]) / 1e6


def _cpu(resource: str, parts: Mapping[str, float], limit: float, scale: float) -> Use:
    mostly = max(parts, key=lambda name: parts[name])
    remedy = _REMEDIES.get(mostly, "fewer replicas")
    return Use(resource, sum(parts.values()) * scale, limit, "cores", mostly, remedy)
