"""Figures of the cluster run: a line on the terminal for each case, and all of them as JSON lines.

`build/cluster-results.jsonl` is what docs/cluster-results.md is written from.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

RESULTS = Path(__file__).parents[2] / "build" / "cluster-results.jsonl"


@dataclass(frozen=True, slots=True)
class Figures:
    """What a harm did to viewers. `cut`: connections lost; `recovery_s`: from each loss to news."""

    name: str
    viewers: int
    entries: int
    deliveries: int
    skipped: int
    lost: int
    twice: int
    disordered: int
    other: int
    gaps: int
    cut: int
    peak_per_s: int
    recovery_s: list[float]
    notes: dict[str, object] = field(default_factory=dict)

    def report(self) -> None:
        """To the terminal and to the file."""
        times = sorted(self.recovery_s)
        figures = asdict(self) | {
            "recovery_s": None
            if not times
            else {"p50": round(median(times), 2), "max": round(times[-1], 2)}
        }
        write(figures)


def write(figures: dict[str, object]) -> None:
    """One line."""
    line = json.dumps(figures)
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(f"{line}\n")
    # Past pytest's capture: a run of ten minutes should say how it goes.
    sys.__stderr__.write(f"\n{line}\n") if sys.__stderr__ is not None else None
