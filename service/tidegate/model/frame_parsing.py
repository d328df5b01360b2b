"""Frames as texts: JSON as browsers read it, so that all clients agree on what is a frame.

Python reads more (`NaN`) and less (numbers of more than 4,300 digits); a frame with such a number
is one all the same.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _long_integer(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:  # sys.get_int_max_str_digits()
        return float(text)


_read = json.JSONDecoder(parse_constant=_no_constant).decode
_read_slowly = json.JSONDecoder(parse_constant=_no_constant, parse_int=_long_integer).decode


def parse_frame(text: str | bytes) -> dict[str, Any] | None:
    """A frame; what is none is passed over, as a newer protocol may bring what we do not know."""
    if isinstance(text, bytes):
        return None
    try:
        try:
            frame = _read(text)
        except json.JSONDecodeError:
            return None
        except ValueError:
            frame = _read_slowly(text)
    except (ValueError, RecursionError):
        return None
    return frame if isinstance(frame, dict) else None
