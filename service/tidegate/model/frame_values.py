"""Values from outside: positions, numbers, texts and objects, read so that all clients agree.

What joins and merges is bounded here: a text by `TEXT_MAX_UNITS`, of which the newest part is kept,
and merged data by `MERGED_MAX` and `DEPTH_MAX`. Lengths are counted in UTF-16 code units, which
every language has or can count. The same in TypeScript is `clients/js/src/values.ts`; the cases of
both are `clients/vectors`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from tidegate.model.errors import InvalidStreamId
from tidegate.model.ids import StreamId, parse_stream_id

#: Figures above it are nonsense, and some are larger than any float.
NUMBER_MAX = 1e18
NUMBER_TEXT_MAX_CHARS = 64
#: Two numbers of 64 bits.
POSITION_MAX_CHARS = 41
#: The last moment that calendars of all languages have (ECMAScript: 100,000,000 days).
NEWEST_TIME_MS = 8_640_000_000_000_000
#: Of a text that was appended to.
TEXT_MAX_UNITS = 262_144
#: Of merged data: a value counts as 1, a text and a name as their units as well; an element of a
#: list is named by its index.
MERGED_MAX = 16_384
#: Objects and lists in one another.
DEPTH_MAX = 16
_NUMBER = re.compile(
    r"[ \t\r\n]*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[ \t\r\n]*", re.ASCII
)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_ABOVE_16_BITS = re.compile("[\U00010000-\U0010ffff]")


def number_of(value: object) -> float | None:
    """A number, or a text that is one (`XADD ... progress 0.7`); None for all else."""
    if value is None or value is True or value is False:
        return None
    if isinstance(value, str):
        if len(value) > NUMBER_TEXT_MAX_CHARS or _NUMBER.fullmatch(value) is None:
            return None
        value = float(value)
    if isinstance(value, int | float) and -NUMBER_MAX <= value <= NUMBER_MAX:
        return float(value)
    return None


def time_of(value: object) -> int | None:
    """A time in Unix milliseconds, without its fractions; None for what no calendar has."""
    number = number_of(value)
    return int(number) if number is not None and 0 <= number <= NEWEST_TIME_MS else None


def read_text(value: object) -> str | None:
    """A text; what JSON can name and no terminal can show (half a surrogate pair) is U+FFFD."""
    return _LONE_SURROGATE.sub("\ufffd", value) if isinstance(value, str) else None


def read_position(value: object) -> StreamId | None:
    """A position in a stream; None where it is none."""
    if not isinstance(value, str) or len(value) > POSITION_MAX_CHARS:
        return None
    return _position_of(value)


@lru_cache(maxsize=128)  # each id is read again as the cursor of the next
def _position_of(text: str) -> StreamId | None:
    try:
        return parse_stream_id(text)
    except InvalidStreamId:
        return None


def newest_part(text: str) -> str:
    """The last `TEXT_MAX_UNITS` of a text; half a character at its beginning is U+FFFD."""
    if 2 * len(text) <= TEXT_MAX_UNITS or _units(text) <= TEXT_MAX_UNITS:
        return text
    kept = text.encode("utf-16-le")[-2 * TEXT_MAX_UNITS :]
    return kept.decode("utf-16-le", "replace")


def merged_with(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any] | None:
    """`target` after this JSON merge patch (RFC 7396); None where it would be too large or deep."""
    if _weight(patch, DEPTH_MAX) > MERGED_MAX:
        return None
    merged = _merge(target, patch)
    return merged if _weight(merged, DEPTH_MAX) <= MERGED_MAX else None


def _merge(target: object, patch: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value) if isinstance(value, Mapping) else value
    return merged


def _weight(value: object, depth: int) -> float:
    """What counts of a value; infinite when it is too deep."""
    if isinstance(value, str):
        return 1 + _units(value)
    if not isinstance(value, Mapping | list):
        return 1
    if not depth:
        return math.inf
    members = value.items() if isinstance(value, Mapping) else enumerate(value)
    return 1 + sum(_units(str(name)) + _weight(one, depth - 1) for name, one in members)


def _units(text: str) -> int:
    """UTF-16 code units."""
    return len(text) if text.isascii() else len(text) + len(_ABOVE_16_BITS.findall(text))
