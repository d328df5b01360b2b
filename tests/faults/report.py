"""The counts of a run, and the time to recover by kind of fault.

Time to recover: from the blow to the arrival of the first entry that was written after it, at each
viewer that was struck. It contains the duration of the fault and the time to the next entry.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import median

from tests.faults.harm import Blow
from tests.faults.judge import Verdict
from tests.faults.plan import Kind
from tests.faults.stage import Operation
from tests.faults.viewer import Viewer

#: How many complaints are shown; the first ones tell most.
SHOWN = 12


def summary(
    seed: int,
    seconds: float,
    operations: Sequence[Operation],
    verdicts: Sequence[tuple[Viewer, Verdict]],
    blows: Sequence[Blow],
) -> str:
    """A few lines and a table."""
    entries = sum(len(op.log) for op in operations)
    uncertain = sum(op.publisher.uncertain for op in operations)
    total: Counter[str] = Counter()
    for _, verdict in verdicts:
        total["deliveries"] += verdict.entries
        total["reconnects"] += verdict.reconnects
        total["gaps"] += verdict.gaps
        total["skipped"] += verdict.skipped
        total["complaints"] += len(verdict.complaints)
    lines = [
        f"fault run: TIDEGATE_FAULTS_SEED={seed} TIDEGATE_FAULTS_SECONDS={seconds:g}",
        f"{len(operations)} operations, {len(verdicts)} viewers, {entries} entries",
        f"{uncertain} attempts to write of which the reply was lost",
        ", ".join(f"{total[name]} {name}" for name in total),
        f"{len(blows)} faults; seconds from the blow to the next new entry at a struck viewer:",
        f"  {'':16} {'times':>5} {'lasting':>8} {'struck':>7} {'p50':>6} {'max':>6}",
    ]
    by_kind: dict[Kind, list[Blow]] = defaultdict(list)
    for blow in blows:
        by_kind[blow.kind].append(blow)
    rows = (_row(kind, found) for kind in Kind if (found := by_kind.get(kind)))
    return "\n".join([*lines, *rows])


def _row(kind: Kind, blows: Sequence[Blow]) -> str:
    times = sorted(t for blow in blows for t in recoveries(blow))
    struck = sum(len(blow.struck) for blow in blows)
    lasting = max(blow.seconds for blow in blows)
    shown = f"{median(times):6.2f} {times[-1]:6.2f}" if times else f"{'-':>6} {'-':>6}"
    return f"  {kind.name:16} {len(blows):5} {lasting:8.2f} {struck:7} {shown}"


def recoveries(blow: Blow) -> list[float]:
    """Seconds for each struck viewer that got a newer entry at all (the others had ended)."""
    found = []
    for viewer in blow.struck:
        for arrival in viewer.arrivals:
            if arrival.written > blow.at:
                found.append(arrival.at - blow.at)
                break
    return found


def complaints(verdicts: Sequence[tuple[Viewer, Verdict]]) -> list[str]:
    """The first complaints, each with what the viewer noted around it."""
    found = []
    for viewer, verdict in verdicts:
        for complaint in verdict.complaints[:2]:
            at = complaint.event
            around = "\n    ".join(str(event) for event in viewer.record[max(0, at - 4) : at + 2])
            said = dict(viewer.said)
            found.append(f"{viewer.name}: {complaint}\n    {around}\n    it was told: {said}")
    return found[:SHOWN]
