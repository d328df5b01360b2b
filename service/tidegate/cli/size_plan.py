"""How many replicas, how large, and what Redis needs: one pure function of the expected load.

The model has two costs of CPU: one for each frame to a viewer, one for each entry on each replica
that has viewers of its operation. More replicas share the frames; they do not share the entries of
an operation that has viewers on all of them, so there are loads that no number of replicas can
carry. The constants and their sources are in `size_figures`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tidegate.cli import size_figures as figures
from tidegate.model.errors import InvalidInput, TidegateError

REPLICAS_MAX = 1_000
_MIB = 2**20
#: Far above any load; below it no figure overflows.
_LARGEST = 10**12


@dataclass(frozen=True, slots=True)
class Load:
    """What is expected at the busiest time.

    `viewers`: connections. `operations`: that have viewers and are updated, with
    `entries_per_second` over all of them. `watches`: operations that each connection is subscribed
    to. `kept_operations` and `kept_entries`: streams in Redis, and entries of each.
    `cpu_scale`: CPU of the machine for the same work, relative to the measured one.
    """

    viewers: int
    operations: int
    entries_per_second: float
    entry_bytes: int = 200
    watches: int = 1
    kept_operations: int | None = None
    kept_entries: int = 1_000
    connections_per_replica: int = 10_000
    core_share: float = 0.5
    spare_replicas: int = 1
    replay_buffer_bytes: int = 64 * _MIB
    cpu_scale: float = 1.0

    def __post_init__(self) -> None:
        """Raises `InvalidInput` for what no computation can start from."""
        for name in ("viewers", "operations", "entries_per_second", "entry_bytes", "watches"):
            self._check(name, above=0)
        for name in ("kept_entries", "connections_per_replica", "core_share", "cpu_scale"):
            self._check(name, above=0)
        for name in ("kept_operations", "spare_replicas", "replay_buffer_bytes"):
            if getattr(self, name) is not None:
                self._check(name, above=-1)
        if self.watches > self.operations:
            raise InvalidInput("watches", "at most as many as there are operations")

    def _check(self, name: str, *, above: int) -> None:
        if not above < getattr(self, name) <= _LARGEST:  # NaN is not either
            raise InvalidInput(name, f"a number above {above} and at most {_LARGEST:,}")


@dataclass(frozen=True, slots=True)
class ReplicaSize:
    """One replica while `spare_replicas` are missing. CPU in cores, sizes in bytes, rates in /s."""

    connections: int
    followed_operations: int
    entries_per_second: float
    deliveries_per_second: float
    cpu: float
    cpu_request: float
    memory_request_bytes: int
    memory_limit_bytes: int
    sent_bits_per_second: float
    received_bits_per_second: float


@dataclass(frozen=True, slots=True)
class RedisSize:
    """All primaries together; `primaries` is how many are needed for the CPU."""

    cpu: float
    primaries: int
    memory_bytes: int
    connections: int
    sent_bits_per_second: float


@dataclass(frozen=True, slots=True)
class Plan:
    """`limit` names what determined the number of replicas: `cpu` or `connections`.

    `reconnect_s`: CPU time in which the other replicas accept the connections of a lost one.
    """

    replicas: int
    limit: str
    deliveries_per_second: float
    replica: ReplicaSize
    redis: RedisSize
    reconnect_s: float


class LoadTooLarge(TidegateError):
    """`REPLICAS_MAX` replicas cannot carry it."""


def size_plan(load: Load) -> Plan:
    """The smallest number of replicas that carry this load.

    Raises:
        LoadTooLarge: there is none.
    """
    deliveries = load.entries_per_second * load.viewers * load.watches / load.operations
    by_connections = max(1, math.ceil(load.viewers / load.connections_per_replica))
    candidates = range(by_connections, REPLICAS_MAX - load.spare_replicas + 1)
    fits = (one for one in candidates if _cpu(load, deliveries, one) <= load.core_share)
    needed = next(fits, None)
    if needed is None:
        raise LoadTooLarge(_why_too_large(load))
    replicas = needed + load.spare_replicas
    lost = load.viewers / replicas
    return Plan(
        replicas=replicas,
        limit="connections" if needed == by_connections else "cpu",
        deliveries_per_second=deliveries,
        replica=_replica(load, deliveries, needed),
        redis=_redis(load, replicas),
        reconnect_s=lost / (needed * figures.CONNECTS_PER_S) * load.cpu_scale,
    )


def _why_too_large(load: Load) -> str:
    entries = load.entries_per_second * _followed(load, REPLICAS_MAX)
    if replica_cpu(entries, 0) * load.cpu_scale <= load.core_share:
        return f"more than {REPLICAS_MAX:,} replicas would be needed"
    return (
        "no number of replicas is enough: operations with many viewers have some on each replica, "
        f"so each replica processes their entries, and its core can process at most about "
        f"{_entries_that_fit(load):,.0f} per second. Publish less often (limit the rate of "
        "progress updates), or divide the operations between several gateways"
    )


def replica_cpu(entries_per_second: float, deliveries_per_second: float) -> float:
    """Cores of the measured machine that one replica uses for this."""
    entries = _coalesced(entries_per_second, figures.SINGLE_ENTRY_US, figures.FURTHER_ENTRY_US)
    return (entries + deliveries_per_second * figures.DELIVERY_US) / 1e6


def redis_cpu(entries_per_second: float, following_replicas: float) -> float:
    """Cores of the measured machine that Redis uses, with so many replicas on each operation."""
    one = _coalesced(
        entries_per_second, figures.REDIS_SINGLE_ENTRY_US, figures.REDIS_FURTHER_ENTRY_US
    )
    more = max(0.0, following_replicas - 1) * figures.REDIS_FURTHER_REPLICA
    return one * (1 + more) / 1e6


def _coalesced(per_second: float, single_us: float, further_us: float) -> float:
    """Microseconds per second: the more entries there are, the more of them share a wake-up."""
    single = min(per_second, figures.SINGLE_ENTRIES_PER_S)
    return single * single_us + (per_second - single) * further_us


def _followed(load: Load, replicas: int) -> float:
    """The share of operations with viewers on one replica, if viewers are spread at random."""
    return (
        -math.expm1(load.viewers * load.watches / load.operations * math.log1p(-1 / replicas))
        if replicas > 1
        else 1.0
    )


def _cpu(load: Load, deliveries: float, replicas: int) -> float:
    entries = load.entries_per_second * _followed(load, replicas)
    return replica_cpu(entries, deliveries / replicas) * load.cpu_scale


def _entries_that_fit(load: Load) -> float:
    """On one replica, with no viewers to speak of."""
    left = load.core_share / load.cpu_scale * 1e6
    single = figures.SINGLE_ENTRIES_PER_S * figures.SINGLE_ENTRY_US
    if left <= single:
        return left / figures.SINGLE_ENTRY_US
    return figures.SINGLE_ENTRIES_PER_S + (left - single) / figures.FURTHER_ENTRY_US


def _replica(load: Load, deliveries: float, replicas: int) -> ReplicaSize:
    connections = math.ceil(load.viewers / replicas)
    followed = _followed(load, replicas)
    entries = load.entries_per_second * followed
    each = deliveries / replicas
    operations = math.ceil(load.operations * followed)
    cpu = _cpu(load, deliveries, replicas)
    memory = (
        figures.REPLICA_BYTES
        + connections * figures.CONNECTION_BYTES
        + operations * figures.OPERATION_BYTES
        + load.replay_buffer_bytes
    )
    frame = load.entry_bytes + figures.FRAME_EXTRA_BYTES + figures.PACKET_EXTRA_BYTES
    return ReplicaSize(
        connections=connections,
        followed_operations=operations,
        entries_per_second=entries,
        deliveries_per_second=each,
        cpu=cpu,
        # A process uses one core at most; less than a tenth is too little to start with.
        cpu_request=min(1.0, max(0.1, math.ceil(cpu / load.core_share * 10) / 10)),
        memory_request_bytes=_mebibytes(memory),
        memory_limit_bytes=_mebibytes(max(memory * 1.5, memory + figures.MEMORY_SPARE_BYTES)),
        sent_bits_per_second=each * frame * 8,
        received_bits_per_second=entries * _relayed(load) * 8,
    )


def _redis(load: Load, replicas: int) -> RedisSize:
    following = replicas * _followed(load, replicas)
    cpu = redis_cpu(load.entries_per_second, following) * load.cpu_scale
    kept = load.operations if load.kept_operations is None else load.kept_operations
    primaries = max(1, math.ceil(cpu / figures.REDIS_CORE_SHARE))
    return RedisSize(
        cpu=cpu,
        primaries=primaries,
        memory_bytes=_mebibytes(
            primaries * figures.REDIS_BYTES
            + kept * figures.REDIS_OPERATION_BYTES
            + kept * load.kept_entries * (load.entry_bytes + figures.REDIS_ENTRY_EXTRA_BYTES)
        ),
        connections=replicas * primaries * figures.REDIS_CONNECTIONS,
        sent_bits_per_second=load.entries_per_second * following * _relayed(load) * 8,
    )


def _relayed(load: Load) -> int:
    return load.entry_bytes + figures.RELAY_EXTRA_BYTES


def _mebibytes(size: float) -> int:
    """Rounded up to whole ones."""
    return math.ceil(size / _MIB) * _MIB
