"""Which pods live, for the sweep: by their leases in Redis, and by Kubernetes.

Dead = no lease **and** no such pod in Kubernetes, each by a source that is sure of itself. Idle
times of consumers prove no death: before Redis 7.2 a consumer of a quiet stream looks idle forever
(redis/redis#9996). They prove life, though: one that read a moment ago is left alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from tidegate.core.slots import pod_of
from tidegate.core.workers import pod_of_replica
from tidegate_operator.streams.look import Consumer

#: A consumer that read within this time is alive, whatever the sources say.
FRESH_MS = 60_000


class Leases(NamedTuple):
    """The leases at one moment.

    Attributes:
        now_ms: the server's time.
        order: number of the newest birth that can be in it; younger pods are unknown to it.
        live: incarnations, `<pod>.<order>.<random>`.
        certain: whether a missing one is dead: leases were renewed without a break for as long as
            a lease lasts.
    """

    now_ms: int
    order: int
    live: frozenset[str]
    certain: bool

    @classmethod
    def of(
        cls,
        now_ms: int,
        clock: tuple[int, int, int] | None,
        rows: Iterable[tuple[str, float]],
        lease_ms: int,
    ) -> Leases:
        """From the zset (incarnation, expiry) and the clock beside it (since, last, order).

        The rule for `certain` is that of `pod_renew.lua`: leases that were lost, or that nobody
        renewed for a lease, say nothing about who is dead.
        """
        live = frozenset(name for name, expiry in rows if expiry > now_ms)
        if clock is None:
            return cls(now_ms, 0, live, certain=False)
        since, last, order = clock
        certain = since <= now_ms and now_ms - since >= lease_ms and now_ms - last <= lease_ms
        return cls(now_ms, order, live, certain)


class Liveness(NamedTuple):
    """Who lives.

    Attributes:
        names: pods and replicas, None when that cannot be said and nobody counts as dead.
        incarnations: those with a lease.
        order: see `Leases`; 0 when no incarnation can be said to be dead.
        fresh_ms: who read within this time is alive.
    """

    names: frozenset[str] | None
    incarnations: frozenset[str] = frozenset()
    order: int = 0
    fresh_ms: int = FRESH_MS

    @classmethod
    def of(
        cls,
        leases: Leases,
        kubernetes: Collection[str] | None,
        *,
        alone: bool,
        fresh_ms: int = FRESH_MS,
    ) -> Liveness:
        """Both sources joined. `alone`: there is no Kubernetes, leases decide by themselves.

        Args:
            leases: from Redis.
            kubernetes: names of all pods that exist, None when the API did not answer.
            alone: without Kubernetes.
            fresh_ms: see the attribute.
        """
        order = leases.order if leases.certain else 0
        if not leases.certain or (kubernetes is None and not alone):
            return cls(None, leases.live, order, fresh_ms)
        names = frozenset(pod_of(one) for one in leases.live)
        return cls(names | frozenset(kubernetes or ()), leases.live, order, fresh_ms)

    def is_dead(self, consumer: Consumer) -> bool:
        """Whether this consumer belongs to no pod any more. Kubernetes knows the pod of a worker
        process, its lease the worker.
        """
        if self.names is None or consumer.idle_ms < self.fresh_ms:
            return False
        return self.names.isdisjoint((consumer.name, pod_of_replica(consumer.name)))

    def is_dead_incarnation(self, incarnation: str) -> bool:
        """Whether its slots are left over: the gateway's own rule, see `slot_prelude.lua`."""
        born = incarnation.rsplit(".", 2)
        if self.order == 0 or len(born) != 3 or not born[1].isdecimal():
            return False
        return int(born[1]) <= self.order and incarnation not in self.incarnations
