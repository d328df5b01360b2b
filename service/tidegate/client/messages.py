"""The text of an entry's `message` field, as all Python publishers write it.

Values that JSON has no word for are written as most readers expect them: dates as ISO 8601, UUIDs
and enums as their values, NaN as null. What cannot be written is refused here, before it is in the
stream.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from tidegate.model.errors import InvalidInput
from tidegate.model.times import iso_time
from tidegate.telemetry.current_span import current_traceparent

_SURROGATE = re.compile("[\ud800-\udfff]")


def message(type_: str, data: Mapping[str, Any]) -> bytes:
    """`{"timestamp", "type", "data"}` with the time of now in UTC, and with `traceparent` when
    there is a span of OpenTelemetry around the call.

    Raises:
        InvalidInput: `type_` is empty, or `data` no mapping or not fit for JSON.
    """
    if not type_:
        raise InvalidInput("type", "must not be empty")
    now = iso_time(datetime.now(UTC))
    traceparent = current_traceparent()
    span = {} if traceparent is None else {"traceparent": traceparent}
    body = {"timestamp": now, "type": str(type_), **span, "data": _dict(data)}
    return _dumps(body, orjson.OPT_NON_STR_KEYS)


def request_of(type_: str, data: Mapping[str, Any]) -> bytes:
    """What tells one call from another: all of a message but its time."""
    return _dumps([str(type_), _dict(data)], orjson.OPT_NON_STR_KEYS | orjson.OPT_SORT_KEYS)


def _dict(data: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return dict(data)
    except (TypeError, ValueError) as error:
        raise InvalidInput("data", f"cannot be written as JSON: {error}") from None


def _dumps(value: Any, option: int) -> bytes:
    try:
        return orjson.dumps(value, default=_plain, option=option)
    except (TypeError, ValueError, RecursionError) as error:  # JSONEncodeError is a TypeError
        if "surrogates" in str(error):
            # A file name that could not be decoded, for one: JSON can name it, by an escape.
            mark = secrets.token_hex(8)
            try:
                text = orjson.dumps(_escaped(value, mark), default=_plain, option=option)
            except (TypeError, ValueError, RecursionError) as other:
                error = other
            else:
                return text.replace(mark.encode(), rb"\u")
        raise InvalidInput("data", f"cannot be written as JSON: {error}") from None


def _escaped(value: Any, mark: str) -> Any:
    """The same with each half of a surrogate pair as `mark` and four digits."""
    if isinstance(value, str):
        return _SURROGATE.sub(lambda half: f"{mark}{ord(half[0]):04x}", value)
    if isinstance(value, Mapping):
        return {_escaped(key, mark): _escaped(one, mark) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_escaped(one, mark) for one in value]
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
