"""How long the event loops of the replicas were blocked, by their own metrics. Pure.

Two histograms are read: garbage collections, and late timers of the event loop. For a phase, the
numbers above one second and the total time of collections are reported.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

GC: Final = "tidegate_gc_pause_seconds"
LAG: Final = "tidegate_loop_lag_seconds"
#: Pauses above this count; a bound of the histograms (`tidegate.core.bounds.PAUSE_S`).
LONG_S: Final = 1.0
_LINE: Final = re.compile(r"^(\w+?)_(count|sum|bucket)(\{[^}]*\})? (\S+)", re.MULTILINE)
_BOUND: Final = re.compile(r'le="([^"]+)"')


class Pause(NamedTuple):
    """Sums since the start of a replica."""

    gc_s: float = 0.0
    gc_long: int = 0
    lag_long: int = 0


#: By pid, so that a restarted replica is not confused with the process before.
Pauses = dict[int, Pause]


def read_pauses(exposition: str) -> Pause:
    """Parse the text of `/metrics`; zero if metrics are disabled."""
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
    """The figures of a phase. Processes that ended in it are not counted."""
    seconds, collections, timers = 0.0, 0, 0
    for pid, now in after.items():
        then = before.get(pid, Pause())
        seconds += now.gc_s - then.gc_s
        collections += now.gc_long - then.gc_long
        timers += now.lag_long - then.lag_long
    return {"gc_s": round(seconds, 3), "gc_over_1s": collections, "lag_over_1s": timers}
