"""The `data` of `current_state` and of `GET /operations/{id}`: a folded state as JSON, bounded.

What does not differ from the beginning is left out. A result that is too large is left out and said
so; long texts are cut, and the state is `partial` then. Times are Unix milliseconds, as in the
fields of the state. `folded_state` reads it again where a frame has `at`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from tidegate.model.folded_state import FoldedState, fold

#: Of a result, as JSON.
RESULT_MAX_BYTES = 16_384
#: Of title, message, error, unit and status.
TEXT_MAX_CHARS = 16_384
_TEXTS = ("status", "title", "message", "error", "unit")
_FIGURES = ("progress", "current", "total")
_TIMES = ("started_ms", "updated_ms", "ended_ms", "estimated_end_ms")
_MARKS = ("partial", "result_omitted", "in_percent")


def bounded(state: FoldedState) -> FoldedState:
    """The state without what is too large to be told."""
    long = {name: text for name in _TEXTS if len(text := getattr(state, name)) > TEXT_MAX_CHARS}
    if long:
        cut = {name: text[:TEXT_MAX_CHARS] for name, text in long.items()}
        state = replace(state, partial=True, **cut)
    if state.result is not None and len(_written(state.result)) > RESULT_MAX_BYTES:
        state = replace(state, result=None, result_omitted=True)
    return state


def state_data(state: FoldedState) -> dict[str, Any]:
    """What differs from the beginning, and `status`, of a state that is `bounded`."""
    data: dict[str, Any] = {"status": state.status}
    for name in _FIGURES:
        figure = getattr(state, name)
        if figure is not None:
            data[name] = int(figure) if figure.is_integer() else figure
    for name in (*_TEXTS[1:], "text", *_TIMES, *_MARKS):
        value = getattr(state, name)
        if value is not None and value != "" and value is not False:
            data[name] = value
    if state.result is not None:
        data["result"] = orjson.Fragment(_written(state.result))
    if state.merged:
        data["merged"] = orjson.Fragment(_written(state.merged))
    return data


def known_data(known: Mapping[str, Any]) -> dict[str, Any]:
    """What an operation source says, with the figures as a state has them."""
    state = fold(FoldedState(), {"type": "current_state", "data": dict(known)}).state
    figures = {name: getattr(state, name) for name in _FIGURES}
    return {**known, **{name: value for name, value in figures.items() if value is not None}}


def _written(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # half a surrogate pair, or an integer of more than 64 bits
        return json.dumps(value, separators=(",", ":")).encode()
