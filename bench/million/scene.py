"""The parameters of a run, and which viewer watches which operation. Pure.

A share of the viewers, the crowd, watches the first operation; the others are distributed over the
rest, one after the other. The number of a viewer, from 0 over all swarms, determines its operation,
so that nothing has to be stored.
"""

from dataclasses import dataclass
from typing import Final

from bench.mark import operation_name

#: The operation of the crowd.
CROWDED: Final = 0


@dataclass(frozen=True, slots=True)
class Scene:
    """The parameters. `crowd`: share of viewers that watch one operation. `seconds`: length of the
    phase `hold`. `drains`: number of replicas that are restarted, one after the other.
    """

    viewers: int
    operations: int
    replicas: int
    swarms: int
    connections_per_replica: int
    crowd: float
    seconds: float
    ping_interval_s: float
    absorb_per_s: int
    drains: int
    redis_server: str

    @property
    def per_swarm(self) -> int:
        """Number of viewers in the largest swarm."""
        return -(-self.viewers // self.swarms)


def in_crowd(viewers: int, share: float) -> int:
    """How many of the first `viewers` belong to the crowd."""
    return int(viewers * share)


def watched(viewer: int, *, share: float, operations: int) -> int:
    """The index of the operation that this viewer watches."""
    before = in_crowd(viewer, share)
    if operations == 1 or in_crowd(viewer + 1, share) > before:
        return CROWDED
    return 1 + (viewer - before) % (operations - 1)


def path(viewer: int, *, share: float, operations: int) -> str:
    """The path to which this viewer connects, without a query."""
    return f"/ws/operations/{operation_name(watched(viewer, share=share, operations=operations))}"
