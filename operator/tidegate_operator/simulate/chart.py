"""Replicas against load, drawn with characters.

Each column is a stretch of time, each row a part of a pod. `█` is load that the pods are meant to
carry, `▓` load above that, `░` room. The largest load and the fewest pods of the stretch are drawn,
so what is too little shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tidegate_operator.simulate.replay import ReplayedDecision

LOAD, OVER, ROOM, NONE = "█", "▓", "░", " "


def chart(
    samples: Sequence[ReplayedDecision], *, per_pod: int, width: int = 100, height: int = 16
) -> list[str]:
    """Lines of text, the highest first; `width` counts the axis on the left too."""
    columns = max(1, min(len(samples), width - 6))
    bins = [
        samples[n * len(samples) // columns : max(1, (n + 1) * len(samples) // columns)]
        for n in range(columns)
    ]
    load = [max(one.load for one in part) / per_pod for part in bins]
    pods = [min(one.serving for one in part) for part in bins]
    top = max(1, math.ceil(max(*load, *pods)))
    rows = min(height, max(4, top * 2))
    lines = []
    for row in range(rows, 0, -1):
        level = top * (row - 0.5) / rows
        label = f"{top * row / rows:4.0f} " if (rows - row) % 4 == 0 else "     "
        cells = (_cell(level, worth, count) for worth, count in zip(load, pods, strict=True))
        lines.append(f"{label}|{''.join(cells)}")
    lines.append("     +" + "-" * columns)
    end = _clock(samples[-1].t_s)
    lines.append("      0" + end.rjust(columns - 1))
    return lines


def _cell(level: float, load: float, pods: int) -> str:
    if level <= load:
        return LOAD if level <= pods else OVER
    return ROOM if level <= pods else NONE


def _clock(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d}" if minutes >= 60 else f"{minutes} min"
