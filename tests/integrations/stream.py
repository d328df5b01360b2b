"""What viewers of an operation get of it: its stream, read in words."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from tests.harness.backend import PREFIX, Backend

ENDS = ("operation_completed", "operation_failed", "operation_cancelled")


class Written(NamedTuple):
    """One entry."""

    type: str
    data: dict[str, Any]


async def written(backend: Backend, operation: str = "42") -> list[Written]:
    """The whole stream, oldest first."""
    entries: Any = await backend.client.xrange(PREFIX + operation)
    messages = [json.loads(fields[b"message"]) for _, fields in entries]
    return [Written(one["type"], one["data"]) for one in messages]


def steps(entries: list[Written]) -> list[str]:
    """The types of all that is no progress and no log."""
    others = ("progress", "log", "append", "cancel_requested")
    return [one.type for one in entries if one.type not in others]


def bar(entries: list[Written]) -> list[float]:
    """Where the bar was, one after the other."""
    return [one.data["progress"] for one in entries if one.type == "progress"]


def has_ended(entries: list[Written]) -> bool:
    return any(one.type in ENDS for one in entries)


async def ask_to_cancel(backend: Backend, operation: str) -> None:
    """What a viewer's Stop leaves in Redis: an entry, and its id in a key."""
    asked = await backend.publish(operation, "cancel_requested", status="cancelling")
    await backend.client.set(f"{{{PREFIX}{operation}}}:cancel", asked)
