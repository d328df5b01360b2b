"""Which faults, when, and to whom: drawn from a seed, so that a failing run can be replayed. Pure.

Kinds are dealt from a shuffled deck, so that each comes up in every minute; several may be under
way at the same time, on different targets. What happens inside a fault (which bytes are cut) is
left to chance; the plan is what the seed decides.
"""

from __future__ import annotations

import enum
import random
from typing import NamedTuple


class Target(enum.Enum):
    """Whom a fault strikes."""

    REPLICA = "one replica's process"
    VIEWERS = "the connections between viewers and one replica"
    LINK = "the connections between one replica and Redis"
    REDIS = "the Redis server"
    STREAM = "one stream"


class Kind(enum.Enum):
    """What is done."""

    KILL_REPLICA = "kill -9 a replica, start it again"
    STOP_REPLICA = "SIGTERM a replica, start it again"
    PAUSE_REPLICA = "SIGSTOP a replica for a while"
    CUT_VIEWERS = "reset all viewer connections of a replica"
    DELAY_VIEWERS = "viewers get everything late"
    STALL_VIEWERS = "nothing gets through to viewers for a while"
    DEAD_VIEWERS = "viewer connections go silent for ever"
    KILL_REDIS = "kill -9 Redis, start it again"
    STOP_REDIS = "SIGTERM Redis, start it again"
    PAUSE_REDIS = "SIGSTOP Redis for a while"
    CUT_LINK = "reset a replica's connections to Redis"
    DELAY_LINK = "a replica hears from Redis late"
    STALL_LINK_DOWN = "a replica hears nothing from Redis for a while"
    STALL_LINK_UP = "Redis hears nothing from a replica for a while"
    DEAD_LINK = "a replica's connections to Redis go silent for ever"
    LOSE_RELAY = "relay messages are lost on their way"
    REPEAT_RELAY = "relay messages come twice"
    LOSE_BELL = "doorbell pushes are lost on their way"
    FLUSH_SCRIPTS = "SCRIPT FLUSH"
    KILL_CLIENTS = "CLIENT KILL of a replica's links"
    DESTROY_GROUP = "XGROUP DESTROY"
    REWIND_GROUP = "XGROUP SETID 0: everything is dispatched again"
    SKIP_GROUP = "XGROUP SETID $: what waits is never dispatched"
    STEAL_ENTRIES = "a stranger reads the group: nobody relays what it got"


class Spec(NamedTuple):
    """Target, and bounds of the duration in seconds (0, 0: it is over at once)."""

    target: Target
    min_s: float = 0.0
    max_s: float = 0.0


SPECS: dict[Kind, Spec] = {
    Kind.KILL_REPLICA: Spec(Target.REPLICA, 0.1, 2.5),
    Kind.STOP_REPLICA: Spec(Target.REPLICA, 0.1, 2.0),
    Kind.PAUSE_REPLICA: Spec(Target.REPLICA, 0.2, 4.0),
    Kind.CUT_VIEWERS: Spec(Target.VIEWERS),
    Kind.DELAY_VIEWERS: Spec(Target.VIEWERS, 0.5, 3.0),
    Kind.STALL_VIEWERS: Spec(Target.VIEWERS, 0.5, 3.0),
    Kind.DEAD_VIEWERS: Spec(Target.VIEWERS, 0.5, 2.0),
    Kind.KILL_REDIS: Spec(Target.REDIS, 0.05, 1.5),
    Kind.STOP_REDIS: Spec(Target.REDIS, 0.05, 1.5),
    Kind.PAUSE_REDIS: Spec(Target.REDIS, 0.2, 4.0),
    Kind.CUT_LINK: Spec(Target.LINK),
    Kind.DELAY_LINK: Spec(Target.LINK, 0.5, 3.0),
    Kind.STALL_LINK_DOWN: Spec(Target.LINK, 0.3, 3.0),
    Kind.STALL_LINK_UP: Spec(Target.LINK, 0.3, 3.0),
    Kind.DEAD_LINK: Spec(Target.LINK, 0.3, 2.5),
    Kind.LOSE_RELAY: Spec(Target.LINK, 0.5, 3.0),
    Kind.REPEAT_RELAY: Spec(Target.LINK, 0.5, 3.0),
    Kind.LOSE_BELL: Spec(Target.LINK, 0.5, 3.0),
    Kind.FLUSH_SCRIPTS: Spec(Target.REDIS),
    Kind.KILL_CLIENTS: Spec(Target.LINK),
    Kind.DESTROY_GROUP: Spec(Target.STREAM),
    Kind.REWIND_GROUP: Spec(Target.STREAM),
    Kind.SKIP_GROUP: Spec(Target.STREAM),
    Kind.STEAL_ENTRIES: Spec(Target.STREAM),
}

BETWEEN_S = (0.3, 1.7)


class Fault(NamedTuple):
    """One entry of the plan; `at_s` since the start. `replica` matters where the target is one's.

    `chance` settles what is only known at run time, such as which stream.
    """

    at_s: float
    kind: Kind
    replica: int
    seconds: float
    chance: float


def make_plan(
    seed: int, seconds: float, replicas: int, kinds: tuple[Kind, ...] = tuple(Kind)
) -> list[Fault]:
    """The faults of one run, by time. The same seed gives the same plan."""
    rng = random.Random(f"plan {seed}")
    plan: list[Fault] = []
    deck: list[Kind] = []
    at_s = rng.uniform(*BETWEEN_S)
    while at_s < seconds:
        if not deck:
            deck = list(kinds)
            rng.shuffle(deck)
        kind = deck.pop()
        spec = SPECS[kind]
        duration = rng.uniform(spec.min_s, spec.max_s)
        plan.append(Fault(at_s, kind, rng.randrange(replicas), duration, rng.random()))
        at_s += rng.uniform(*BETWEEN_S)
    return plan
