"""Whether frames and messages are as `/asyncapi.json` describes them."""

from __future__ import annotations

from functools import cache
from typing import Any

import jsonschema_rs

from tidegate.web.frame_schemas import ALL_FRAMES, ALL_MESSAGES


@cache
def _validator(name: str) -> jsonschema_rs.Draft7Validator:
    return jsonschema_rs.Draft7Validator((ALL_FRAMES | ALL_MESSAGES)[name], validate_formats=True)


def name_of(frame: dict[str, Any]) -> str:
    """The name of its description: entries may have any type."""
    if "id" in frame and "timestamp" in frame:
        return "entry"
    return "unstored_entry" if "timestamp" in frame else str(frame["type"])


def assert_described(frame: dict[str, Any]) -> None:
    """Raises AssertionError for a frame that the description does not have."""
    name = name_of(frame)
    assert name in ALL_FRAMES, f"{name} is in no description: {frame}"
    error = next(iter(_validator(name).iter_errors(frame)), None)
    assert error is None, f"{name}: {error}"


def is_described(message: dict[str, Any]) -> bool:
    """Whether a message of a viewer is one that the description has."""
    name = message.get("type")
    return name in ALL_MESSAGES and _validator(str(name)).is_valid(message)
