"""How long the event loops of the replicas stood still, from their own metrics. Pure.

Two histograms are read: garbage collections, and timers of the event loop that were late. Of a
phase the number above a second is what counts, and the time of all collections.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

GC: Final = "tidegate_gc_pause_seconds"
LAG: Final = "tidegate_loop_lag_seconds"
#: The bound of the histograms (`tidegate.core.bounds.PAUSE_S`) that is nearest to what hurts.
LONG_S: Final = 1.0
_LINE: Final = re.compile(r"^(\w+?)_(count|sum|bucket)(\{[^}]*\})? (\S+)", re.MULTILINE)
_BOUND: Final = re.compile(r'le="([^"]+)"')


class Pause(NamedTuple):
    """Since a replica's start."""

    gc_s: float = 0.0
    gc_long: int = 0
    lag_long: int = 0


#: By process, so that one that starts again is not taken for the one before.
Pauses = dict[int, Pause]


def read_pauses(exposition: str) -> Pause:
    """From the text of `/metrics`; nothing where metrics are off."""
    seconds = 0.0
    long = {GC: 0.0, LAG: 0.0}
    for name, kind, labels, value in _LINE.findall(exposition):
        if name not in long:
            continue
        if kind == "sum" and name == GC:
            seconds += float(value)
        elif kind == "count":
            long[name] += float(value)
        elif kind == "bucket":
            bound = _BOUND.search(labels)
            if bound is not None and float(bound[1]) == LONG_S:
                long[name] -= float(value)
    return Pause(seconds, int(long[GC]), int(long[LAG]))


def late(before: Mapping[int, Pause], after: Mapping[int, Pause]) -> dict[str, float]:
    """The figures of a phase; of a process that ended in it nothing is known."""
    seconds, collections, timers = 0.0, 0, 0
    for pid, now in after.items():
        then = before.get(pid, Pause())
        seconds += now.gc_s - then.gc_s
        collections += now.gc_long - then.gc_long
        timers += now.lag_long - then.lag_long
    return {"gc_s": round(seconds, 3), "gc_over_1s": collections, "lag_over_1s": timers}
