"""What publishers say: the types and data of progress and of the three ends.

The forms are those that the gateway's default settings know: `progress` entries replace one another
for a viewer that lags, `operation_<status>` ends an operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tidegate.model.errors import InvalidInput

PROGRESS = "progress"
STARTED = "operation_started"
Data = dict[str, Any]
#: What viewers are told of an exception.
Describe = Callable[[BaseException], str]


def describe_kind(error: BaseException) -> str:
    """The kind of the error only: its text may hold what browsers must not see."""
    return type(error).__name__


def progress_data(fraction: float | None, data: Data) -> Data:
    """`progress` from 0 to 1, told or made from `current` and `total` in `data`.

    Raises:
        InvalidInput: neither is there, or it is no number.
    """
    if fraction is None:
        current, total = data.get("current"), data.get("total")
        if not isinstance(current, int | float) or not isinstance(total, int | float) or not total:
            raise InvalidInput("progress", "needs a fraction, or current and total")
        fraction = current / total
    if not math.isfinite(fraction):
        raise InvalidInput("progress", "must be a number from 0 to 1")
    return {"progress": min(1.0, max(0.0, float(fraction))), **data}


def end_type(status: str) -> str:
    """The type of the entry that ends an operation."""
    return f"operation_{status}"
