"""How many replicas, how large, and what Redis needs: one pure function of the expected load.

Two costs of CPU decide: that of each frame to a viewer, and that of each entry on each replica with
viewers of its operation. More replicas share the frames, but not the entries of an operation that
has viewers on all of them, so there are loads that no number of replicas can carry. All costs are
in `size_costs`, and the constants with their sources in `size_figures`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tidegate.cli import size_figures as figures
from tidegate.cli.size_costs import Work, redis_cpu, replica_cpu
from tidegate.model.errors import InvalidInput, TidegateError

REPLICAS_MAX = 1_000
#: Of a Redis Cluster, as its documentation recommends.
PRIMARIES_MAX = 1_000
_MIB = 2**20
#: Largest accepted value: far above any load, and no computation overflows.
_LARGEST = 10**12


@dataclass(frozen=True, slots=True)
class Load:
    """What is expected at the busiest time.

    Attributes:
        viewers: connections.
        operations: operations that run and have viewers.
        entries_per_second: over all operations.
        entry_bytes: average size of an entry.
        watches: operations that each connection is subscribed to.
        kept_operations: streams in Redis; None: as many as `operations`.
        kept_entries: entries kept of each stream.
        connections_per_replica: maximum number of connections of a replica.
        core_share: share of its core that a replica may use for this load.
        spare_replicas: how many replicas may be missing; with `workers`, machines or pods.
        replay_buffer_bytes: memory for the replay buffers of a replica.
        cpu_scale: CPU of the machine for the same work, relative to the measured one.
        workers: replicas of each machine or pod, which fail together.
        replicas: compute for this number of replicas; None: as many as are needed.
        primaries: the same for primaries of Redis.
        crowd: viewers of one operation that has more viewers than the others; 0: there is none.
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
    workers: int = 1
    replicas: int | None = None
    primaries: int | None = None
    crowd: int = 0

    def __post_init__(self) -> None:
        """
        Raises:
            InvalidInput: a value is out of range.
        """
        for name in ("viewers", "operations", "entries_per_second", "entry_bytes", "watches"):
            self._check(name, above=0)
        for name in ("kept_entries", "connections_per_replica", "core_share", "cpu_scale"):
            self._check(name, above=0)
        self._check("workers", above=0)
        for name in ("replicas", "primaries"):
            if getattr(self, name) is not None:
                self._check(name, above=0)
        for name in ("kept_operations", "spare_replicas", "replay_buffer_bytes", "crowd"):
            if getattr(self, name) is not None:
                self._check(name, above=-1)
        if self.watches > self.operations:
            raise InvalidInput("watches", "at most as many as there are operations")
        if self.crowd > self.viewers:
            raise InvalidInput("crowd", "at most as many as there are viewers")

    @property
    def deliveries_per_second(self) -> float:
        """Frames to viewers per second, of all replicas together."""
        return self.entries_per_second * self.viewers * self.watches / self.operations

    def _check(self, name: str, *, above: int) -> None:
        if not above < getattr(self, name) <= _LARGEST:  # also false for NaN
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
    """All primaries together. CPU in cores; `primaries` is how many are needed for it."""

    cpu: float
    primaries: int
    memory_bytes: int
    connections: int
    sent_bits_per_second: float


@dataclass(frozen=True, slots=True)
class GroupSize:
    """Machines or pods, each with `workers` replicas and a supervisor: their number, and the size
    of one.
    """

    count: int
    workers: int
    cpu_request: float
    memory_request_bytes: int
    memory_limit_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """`limit` names what determined the number of replicas: `cpu`, `connections`, or `given`.

    `groups`: the machines or pods; with one worker each, these are the replicas.
    `reconnect_s`: seconds that the others need to accept the connections of a lost one.
    """

    replicas: int
    limit: str
    deliveries_per_second: float
    replica: ReplicaSize
    redis: RedisSize
    reconnect_s: float
    groups: GroupSize


class LoadTooLarge(TidegateError):
    """`REPLICAS_MAX` replicas cannot carry it."""


def size_plan(load: Load) -> Plan:
    """Plan the smallest number of replicas that carry this load, or the number that is given.

    Raises:
        LoadTooLarge: there is no such number.
    """
    spare = load.spare_replicas * load.workers
    if load.replicas is not None:
        given = _whole_groups(load.replicas, load.workers)
        return _plan(load, max(load.workers, given - spare), given, "given")
    by_connections = max(1, math.ceil(load.viewers / load.connections_per_replica))
    first = _whole_groups(by_connections, load.workers)
    candidates = range(first, REPLICAS_MAX - spare + 1, load.workers)
    fits = (one for one in candidates if _cpu(load, one) <= load.core_share)
    needed = next(fits, None)
    if needed is None:
        raise LoadTooLarge(_why_too_large(load))
    return _plan(load, needed, needed + spare, "connections" if needed == first else "cpu")


def _plan(load: Load, needed: int, replicas: int, limit: str) -> Plan:
    lost = load.viewers / replicas * load.workers
    replica = _replica(load, needed)
    return Plan(
        replicas=replicas,
        limit=limit,
        deliveries_per_second=load.deliveries_per_second,
        replica=replica,
        groups=_groups(replica, replicas, load.workers),
        redis=_redis(load, replicas),
        reconnect_s=lost / (needed * figures.CONNECTS_PER_S) * load.cpu_scale,
    )


def _whole_groups(replicas: int, workers: int) -> int:
    """The number of replicas, rounded up to whole groups of `workers`."""
    return math.ceil(replicas / workers) * workers


def _groups(replica: ReplicaSize, replicas: int, workers: int) -> GroupSize:
    supervisor = figures.SUPERVISOR_BYTES if workers > 1 else 0
    return GroupSize(
        count=replicas // workers,
        workers=workers,
        cpu_request=round(replica.cpu_request * workers, 1),
        memory_request_bytes=_mebibytes(replica.memory_request_bytes * workers + supervisor),
        memory_limit_bytes=_mebibytes(replica.memory_limit_bytes * workers + supervisor),
    )


def _why_too_large(load: Load) -> str:
    entries = load.entries_per_second * _followed(load, REPLICAS_MAX)
    if entries <= _entries_that_fit(load):
        return f"more than {REPLICAS_MAX:,} replicas would be needed"
    return (
        "no number of replicas is enough: operations with many viewers have some on each replica, "
        f"so each replica processes their entries, and its core can process at most about "
        f"{_entries_that_fit(load):,.0f} per second. Publish less often (limit the rate of "
        "progress updates), or divide the operations between several gateways"
    )


def _followed(load: Load, replicas: int) -> float:
    """The share of operations with viewers on one replica, if viewers are spread at random."""
    return (
        -math.expm1(load.viewers * load.watches / load.operations * math.log1p(-1 / replicas))
        if replicas > 1
        else 1.0
    )


def work_of(load: Load, replicas: int, *, primaries: int = 1) -> Work:
    """The work of this number of replicas, with viewers spread at random."""
    return Work(
        replicas=replicas,
        connections=load.viewers,
        operations=load.operations,
        following=max(1.0, replicas * _followed(load, replicas)),
        entries_per_second=load.entries_per_second,
        deliveries_per_second=load.deliveries_per_second,
        primaries=primaries,
    )


def _cpu(load: Load, replicas: int) -> float:
    return replica_cpu(work_of(load, replicas)) * load.cpu_scale


def _entries_that_fit(load: Load) -> float:
    """Entries per second that a replica can process if all of many replicas watch the same
    operations, without deliveries.
    """
    most = replace(load, viewers=load.operations)

    def cpu(per_second: float) -> float:
        work = work_of(replace(most, entries_per_second=per_second), REPLICAS_MAX)
        work = replace(work, following=REPLICAS_MAX, deliveries_per_second=0.0)
        return replica_cpu(work) * load.cpu_scale

    low, high = 0.0, 1e7
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if cpu(middle) <= load.core_share else (low, middle)
    return low


def _replica(load: Load, replicas: int) -> ReplicaSize:
    connections = math.ceil(load.viewers / replicas)
    followed = _followed(load, replicas)
    entries = load.entries_per_second * followed
    each = load.deliveries_per_second / replicas
    operations = math.ceil(load.operations * followed)
    cpu = _cpu(load, replicas)
    memory = (
        figures.REPLICA_BYTES
        + connections * figures.CONNECTION_BYTES
        + operations * figures.OPERATION_BYTES
        + load.replay_buffer_bytes
    )
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
        sent_bits_per_second=each * frame_bytes(load) * 8,
        received_bits_per_second=entries * relayed_bytes(load) * 8,
    )


def _redis(load: Load, replicas: int) -> RedisSize:
    cpu, primaries = _primaries(load, replicas)
    following = replicas * _followed(load, replicas)
    kept = load.operations if load.kept_operations is None else load.kept_operations
    return RedisSize(
        cpu=cpu,
        primaries=primaries,
        memory_bytes=_mebibytes(
            primaries * figures.REDIS_BYTES
            + kept * figures.REDIS_OPERATION_BYTES
            + kept * load.kept_entries * (load.entry_bytes + figures.REDIS_ENTRY_EXTRA_BYTES)
        ),
        connections=replicas * primaries * figures.REDIS_CONNECTIONS,
        sent_bits_per_second=load.entries_per_second * following * relayed_bytes(load) * 8,
    )


def _primaries(load: Load, replicas: int) -> tuple[float, int]:
    """Cores of all primaries, and how many are needed for that; each has links to all replicas."""
    if load.primaries is not None:
        work = work_of(load, replicas, primaries=load.primaries)
        return redis_cpu(work) * load.cpu_scale, load.primaries
    cpu, primaries = 0.0, 0
    for _ in range(PRIMARIES_MAX):
        primaries = max(primaries + 1, math.ceil(cpu / figures.REDIS_CORE_SHARE))
        cpu = redis_cpu(work_of(load, replicas, primaries=primaries)) * load.cpu_scale
        if cpu <= primaries * figures.REDIS_CORE_SHARE:
            break
    return cpu, primaries


def frame_bytes(load: Load) -> int:
    """Size of a frame on the network, with TLS."""
    return load.entry_bytes + figures.FRAME_EXTRA_BYTES + figures.PACKET_EXTRA_BYTES


def relayed_bytes(load: Load) -> int:
    """Size of an entry from Redis to one replica."""
    return load.entry_bytes + figures.RELAY_EXTRA_BYTES


def _mebibytes(size: float) -> int:
    """Rounded up to whole ones."""
    return math.ceil(size / _MIB) * _MIB
