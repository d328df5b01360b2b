"""What publishers say: the types and data of progress and of the three ends.

The forms are those that the gateway's default settings know: `progress` entries replace one another
for a viewer that lags, `operation_<status>` ends an operation.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable
from typing import Any

from tidegate.model.errors import InvalidInput

PROGRESS = "progress"
STARTED = "operation_started"
#: Sums of fractions end a little above 1.
ROUNDING_MAX = 1e-6
Data = dict[str, Any]
#: What viewers are told of an exception.
Describe = Callable[[BaseException], str]


def describe_kind(error: BaseException) -> str:
    """The kind of the error only: its text may hold what browsers must not see."""
    return type(error).__name__


def progress_data(fraction: float | None, data: Data) -> Data:
    """`progress` from 0 to 1, told or made from `current` and `total` in `data`.

    Raises:
        InvalidInput: neither is there, it is no number, or it is not from 0 to 1.
    """
    if "progress" in data:
        raise InvalidInput("progress", "is not a keyword: pass the fraction by position")
    if fraction is None:
        current, total = (_number(name, data.get(name)) for name in ("current", "total"))
        if total <= 0:
            raise InvalidInput("total", f"must be above 0, not {total:g}")
        return {"progress": min(1.0, max(0.0, current / total)), **data}
    fraction = _number("progress", fraction)
    if not -ROUNDING_MAX <= fraction <= 1 + ROUNDING_MAX:
        raise InvalidInput(
            "progress",
            f"must be from 0 to 1, not {fraction:g}; "
            f"for a percentage or a count pass current={fraction:g}, total=100",
        )
    return {"progress": min(1.0, max(0.0, fraction)), **data}


def _number(name: str, value: object) -> float:
    if value is None:
        raise InvalidInput("progress", "needs a fraction from 0 to 1, or current= and total=")
    number = math.nan
    if not isinstance(value, str | bytes | bool):
        try:
            number = float(value)  # type: ignore[arg-type]  # numpy's and others' numbers as well
        except (TypeError, ValueError, OverflowError):
            pass
    if not math.isfinite(number):
        allowed = "a number from 0 to 1" if name == "progress" else "a finite number"
        raise InvalidInput(name, f"must be {allowed}, not {reprlib.repr(value)}")
    return number


def count_data(current: float, data: Data) -> Data:
    """`current` without a total: how far it is when nobody knows how much there is.

    Raises:
        InvalidInput: it is no finite number.
    """
    given: object = current  # a text, for one
    if not isinstance(given, int | float) or not math.isfinite(given):
        raise InvalidInput("current", "must be a finite number")
    return {"current": current, **data}


def end_type(status: str) -> str:
    """The type of the entry that ends an operation."""
    return f"operation_{status}"
