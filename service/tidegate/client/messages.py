"""The text of an entry's `message` field, as all Python publishers write it.

Values that JSON has no word for are written as most readers expect them: dates as ISO 8601, UUIDs
and enums as their values, NaN as null. What cannot be written is refused here, before it is in the
stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from tidegate.model.errors import InvalidInput
from tidegate.telemetry.current_span import current_traceparent


def message(type_: str, data: Mapping[str, Any]) -> bytes:
    """`{"timestamp", "type", "data"}` with the time of now in UTC, and with `traceparent` when
    there is a span of OpenTelemetry around the call.

    Raises:
        InvalidInput: `type_` is empty, or `data` no mapping or not fit for JSON.
    """
    if not type_:
        raise InvalidInput("type", "must not be empty")
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    traceparent = current_traceparent()
    span = {} if traceparent is None else {"traceparent": traceparent}
    try:
        return orjson.dumps(
            {"timestamp": now, "type": str(type_), **span, "data": dict(data)},
            default=_plain,
            option=orjson.OPT_NON_STR_KEYS,
        )
    except (
        TypeError,
        ValueError,
        RecursionError,
    ) as error:  # orjson.JSONEncodeError is a TypeError
        raise InvalidInput("data", f"cannot be written as JSON: {error}") from None


def request_of(type_: str, data: Mapping[str, Any]) -> bytes:
    """What tells one call from another: all of a message but its time."""
    try:
        return orjson.dumps(
            [str(type_), dict(data)],
            default=_plain,
            option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SORT_KEYS,
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput("data", f"cannot be written as JSON: {error}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
