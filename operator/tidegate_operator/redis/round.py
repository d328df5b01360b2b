"""A round of the sweep under way: where it is, and what it has counted.

`run_id` says whose SCAN cursor it is: in another process it is worth nothing, since the order of
keys depends on it, so a primary is begun again where another process answers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from tidegate.redis.address import Node
from tidegate_operator.streams.memory import Candidates, Level
from tidegate_operator.streams.report import PrimaryMemory, SweepReport, Tally


class SweepPhase(Enum):
    """What is done on a primary."""

    STREAMS = "streams"
    PRESSURE = "pressure"
    SLOTS = "slots"


class Progress(NamedTuple):
    """Where a round is.

    Attributes:
        node: the primary it is at, None before the first.
        phase: what it does there.
        fraction: of that primary, by its number of keys: an estimate.
        done: primaries that are behind it.
        primaries: that are known.
        tally: counts so far; not to be changed.
    """

    node: str | None
    phase: SweepPhase
    fraction: float
    done: int
    primaries: int
    tally: Tally


@dataclass(slots=True)
class Round:
    """A round under way."""

    began: float
    began_at_ms: int = 0
    done: set[Node] = field(default_factory=set)
    node: Node | None = None
    run_id: str = ""
    phase: SweepPhase = SweepPhase.STREAMS
    cursor: int = 0
    keys: int = 0
    passed: int = 0
    level: Level = Level.UNKNOWN
    candidates: Candidates = field(default_factory=Candidates)
    interruptions: int = 0
    commands: int = 0
    pods_known: bool = True
    tally: Tally = field(default_factory=Tally)
    memory: dict[Node, PrimaryMemory] = field(default_factory=dict)

    def enter(self, node: Node, run_id: str) -> None:
        """From the beginning of this primary, unless it is the process that the cursor is of."""
        if (node, run_id) != (self.node, self.run_id) or not run_id:
            self.node, self.run_id = node, run_id
            self.phase, self.cursor, self.passed = SweepPhase.STREAMS, 0, 0
            self.candidates = Candidates()

    def leave(self) -> None:
        """This primary is done with."""
        if self.node is not None:
            self.done.add(self.node)
        self.node, self.run_id = None, ""

    def progress(self, known: int) -> Progress:
        """Where it is, of so many primaries."""
        fraction = min(1.0, self.passed / self.keys) if self.keys else 0.0
        node = None if self.node is None else str(self.node)
        return Progress(node, self.phase, fraction, len(self.done), known, self.tally)

    def report(self, seconds: float, *, dry_run: bool) -> SweepReport:
        """What it came to."""
        return SweepReport(
            began_at=self.began_at_ms / 1000,
            seconds=seconds,
            dry_run=dry_run,
            interruptions=self.interruptions,
            commands=self.commands,
            pods_known=self.pods_known,
            tally=self.tally,
            memory=tuple(self.memory.values()),
        )
