"""In which order operations are listed, where there are too many to list them all."""

from __future__ import annotations

import enum


class OperationOrder(enum.StrEnum):
    """What those that come first have most of."""

    VIEWERS = "viewers"
    LAGGING = "lagging"
    ENTRIES = "entries"
