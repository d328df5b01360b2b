"""What deciding remembers from one observation to the next. An immutable value, handed back.

It lives in the leader's memory only. A new leader starts with an empty one, and empty means
careful: nothing is taken away before a whole window was seen. So does one that did not look for a
while.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

#: A longer pause between two observations begins a new row of them.
PAUSE_MAX_S = 120.0


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
class Balancing:
    """Where rebalancing stands; the states are drawn in `rebalance.py`.

    Attributes:
        under_way: it began and has not come within the tolerance.
        excess: connections above the mean, over all pods, before the last round.
        sent_away: viewers of the last round.
        fruitless: rounds in a row that changed nothing.
        not_before_s: nothing is shed before: a round is under way, or it was given up.
    """

    under_way: bool = False
    excess: float = 0.0
    sent_away: int = 0
    fruitless: int = 0
    not_before_s: float = float("-inf")


@dataclass(frozen=True, slots=True)
class DecisionState:
    """`decide(spec, observation, memory)` gives the next one.

    Attributes:
        since_s: first observation of an unbroken row; None: there was none yet.
        last_s: the last observation.
        replicas: at the last observation.
        needs: of the stabilisation window, oldest first, and each lower than the one before: what
            a later need exceeds is forgotten.
        changes: of the longest period that matters, oldest first.
        balancing: where rebalancing stands.
        costs_at_s: when deletion costs were last handed out in a mode where another one scales.
    """

    since_s: float | None = None
    last_s: float | None = None
    replicas: int | None = None
    needs: tuple[Need, ...] = ()
    changes: tuple[Change, ...] = ()
    balancing: Balancing = Balancing()
    costs_at_s: float = float("-inf")

    def looked(self, at_s: float, replicas: int, *, keep_s: float) -> DecisionState:
        """After an observation: what changed since the last one, and nothing older than `keep_s`.

        A clock that went backwards is another one's: then everything is forgotten.
        """
        if self.last_s is None or not 0 <= at_s - self.last_s <= PAUSE_MAX_S:
            return DecisionState(since_s=at_s, last_s=at_s, replicas=replicas)
        changes = self.changes
        if self.replicas is not None and replicas != self.replicas:
            changes = (*changes, Change(at_s, replicas - self.replicas))
        kept = tuple(one for one in changes if one.at_s > at_s - keep_s)
        return replace(self, last_s=at_s, replicas=replicas, changes=kept)

    def needed(self, at_s: float, pods: int, *, window_s: float) -> DecisionState:
        """With the need of this moment; a need counts until the window has passed it."""
        kept = (one for one in self.needs if one.at_s > at_s - window_s and one.pods > pods)
        return replace(self, needs=(*kept, Need(at_s, pods)))

    def grew_since(self, at_s: float) -> bool:
        """Whether pods were added after this moment."""
        return any(one.by > 0 and one.at_s > at_s for one in self.changes)
