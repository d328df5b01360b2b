"""What a round of the sweep saw and did, in counts, for the status, metrics and the terminal."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tidegate_operator.streams.memory import Level, MemoryUsage
from tidegate_operator.streams.retention import RetentionState


@dataclass(slots=True)
class Tally:
    """Counts of a round; in a dry run `done` says what would have been done."""

    streams: Counter[RetentionState] = field(default_factory=Counter)
    undatable: int = 0
    #: Entries that the group of a watched stream has not read; where Redis cannot tell: missing.
    undispatched: int = 0
    #: TTLs that were set, by state.
    expiring: Counter[RetentionState] = field(default_factory=Counter)
    #: Everything else that was done, by name: revived, shortened, trimmed, trimmed_entries,
    #: consumers, groups, slots.
    done: Counter[str] = field(default_factory=Counter)
    #: What was not done, by reason: changed, gone, sooner, watched, moved, fresh, more, refused,
    #: failed, foreign.
    left: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Take over what a page counted, once it is done with."""
        self.streams += other.streams
        self.undatable += other.undatable
        self.undispatched += other.undispatched
        self.expiring += other.expiring
        self.done += other.done
        self.left += other.left


@dataclass(frozen=True, slots=True)
class PrimaryMemory:
    """Memory of one primary at the end of its part of the round."""

    node: str
    reading: MemoryUsage
    level: Level


@dataclass(frozen=True, slots=True)
class SweepReport:
    """A round that went over every primary once.

    Attributes:
        began_at: server time, seconds since the epoch.
        seconds: how long it took, waits and interruptions included.
        dry_run: nothing was changed.
        interruptions: how often Redis was lost on the way.
        commands: that were sent, a script counting as one.
        pods_known: whether it could be said which pods are dead.
    """

    began_at: float
    seconds: float
    dry_run: bool
    interruptions: int
    commands: int
    pods_known: bool
    tally: Tally
    memory: tuple[PrimaryMemory, ...]

    @property
    def streams(self) -> int:
        """Streams that were looked at."""
        return self.tally.streams.total()

    @property
    def expiring(self) -> int:
        """Streams that got a TTL."""
        return self.tally.expiring.total()

    @property
    def level(self) -> Level:
        """Of the fullest primary."""
        levels = [one.level for one in self.memory]
        order = (Level.HIGH, Level.WARN, Level.OK)
        return next((level for level in order if level in levels), Level.UNKNOWN)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; names are those of the status."""
        tally = self.tally
        return {
            "beganAt": self.began_at,
            "seconds": round(self.seconds, 3),
            "dryRun": self.dry_run,
            "interruptions": self.interruptions,
            "commands": self.commands,
            "podsKnown": self.pods_known,
            "streams": {state.value: tally.streams[state] for state in RetentionState},
            "undatable": tally.undatable,
            "undispatched": tally.undispatched,
            "expiring": {s.value: tally.expiring[s] for s in RetentionState if s.goes},
            "done": dict(sorted(tally.done.items())),
            "left": dict(sorted(tally.left.items())),
            "memoryLevel": self.level.value,
            "memory": [
                {
                    "node": one.node,
                    "level": one.level.value,
                    "usedBytes": one.reading.used,
                    "limitBytes": one.reading.limit,
                    "policy": one.reading.policy,
                }
                for one in self.memory
            ],
        }
