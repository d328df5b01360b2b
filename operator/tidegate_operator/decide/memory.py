"""What deciding remembers from one observation to the next. An immutable value, handed back.

It lives in the leader's memory only. A new leader starts with an empty one, and empty means
careful: nothing is taken away before a whole window was seen.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Need:
    """The fewest pods that would have done at one moment."""

    at_s: float
    pods: int


@dataclass(frozen=True, slots=True)
class Change:
    """Replicas were seen to change by so many, whoever did it."""

    at_s: float
    by: int


@dataclass(frozen=True, slots=True)
class Memory:
    """`decide(spec, observation, memory)` gives the next one.

    Attributes:
        since_s: first observation; None: there was none yet.
        replicas: at the last observation.
        needs: of the stabilisation window, oldest first.
        changes: of the longest period that matters, oldest first.
        shedding_until_s: no new shed before: the last one is still under way or not yet seen.
        rebalancing: it began and has not come within the tolerance.
        costs_at_s: when deletion costs were last handed out in a mode where another one scales.
    """

    since_s: float | None = None
    replicas: int | None = None
    needs: tuple[Need, ...] = ()
    changes: tuple[Change, ...] = ()
    shedding_until_s: float = float("-inf")
    rebalancing: bool = False
    costs_at_s: float = float("-inf")
