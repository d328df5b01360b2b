"""CPU time of everything in a round, between two moments, and what the machine spent besides.

Invariant: figures of one stretch come from the same two moments, so that shares add up. `others`
is all that ran on this machine and was not part of the round; while it is high, no figure can be
trusted.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.procfs import cpu_ns, machine_busy_s, user_system_s


@dataclass(frozen=True, slots=True)
class Clock:
    """All clocks at one moment, in seconds."""

    at_s: float
    server_s: float
    server_user_s: float
    redis_s: float
    viewers_s: float
    publisher_s: float
    machine_s: float


@dataclass(frozen=True, slots=True)
class Meter:
    """What a stretch of time cost, in seconds of CPU."""

    seconds: float
    server_s: float
    server_user_s: float
    redis_s: float
    viewers_s: float
    publisher_s: float
    others_s: float

    @classmethod
    def between(cls, before: Clock, after: Clock) -> "Meter":
        server = after.server_s - before.server_s
        redis = after.redis_s - before.redis_s
        viewers = after.viewers_s - before.viewers_s
        publisher = after.publisher_s - before.publisher_s
        machine = after.machine_s - before.machine_s
        return cls(
            seconds=after.at_s - before.at_s,
            server_s=server,
            server_user_s=after.server_user_s - before.server_user_s,
            redis_s=redis,
            viewers_s=viewers,
            publisher_s=publisher,
            others_s=max(0.0, machine - server - redis - viewers - publisher),
        )

    def shares(self) -> dict[str, float]:
        """Each one's share of one core in percent."""
        scale = 100 / self.seconds
        return {
            "server_core_pct": self.server_s * scale,
            "redis_core_pct": self.redis_s * scale,
            "viewers_core_pct": self.viewers_s * scale,
            "publisher_core_pct": self.publisher_s * scale,
            "others_core_pct": self.others_s * scale,
        }


def read_clock(servers: Sequence[int], *, redis: int, viewers: int, publisher: int) -> Clock:
    """The clocks of these processes, by pid. Raises `ProcessLookupError` when one is gone."""
    return Clock(
        at_s=time.monotonic(),
        server_s=sum(cpu_ns(pid) for pid in servers) / 1e9,
        server_user_s=sum(user_system_s(pid)[0] for pid in servers),
        redis_s=cpu_ns(redis) / 1e9,
        viewers_s=cpu_ns(viewers) / 1e9,
        publisher_s=cpu_ns(publisher) / 1e9,
        machine_s=machine_busy_s(),
    )
