"""The state of an operation as the application's getter tells it, for the `current_state` frame.

A getter takes an operation id and returns a mapping, an object with attributes (an ORM row) or None
for "no such operation"; it may be a coroutine function. Of an object the attributes of `FIELDS` are
taken. What the stream says about the status goes before what the getter says, because it is newer.
"""

from __future__ import annotations

import asyncio
import enum
import inspect
from collections.abc import Awaitable, Callable, Mapping
from datetime import date
from typing import Any

import orjson

from tidegate.core.topic import RUNNING_STATUS, UNKNOWN_STATUS
from tidegate.model.frames import StateFrame

Getter = Callable[[str], Awaitable[Any] | Any]
State = dict[str, Any]

#: Attribute of an operation object -> name in the frame.
FIELDS = {
    "status": "status",
    "type": "operation_type",
    "created_at": "created_at",
    "started_at": "started_at",
    "completed_at": "completed_at",
    "error_message": "error_message",
}
#: A getter that does not answer must not hold a viewer forever.
GETTER_PATIENCE_S = 5.0


class NoSuchOperation(Exception):
    """The getter knows of no such operation."""


class GetterFailed(Exception):
    """The getter raised, did not answer in time, or returned what cannot be shown."""


async def ask(getter: Getter, operation: str) -> State:
    """The state in a form fit for JSON.

    Raises:
        NoSuchOperation, GetterFailed
    """
    try:
        async with asyncio.timeout(GETTER_PATIENCE_S):
            found = getter(operation)
            if inspect.isawaitable(found):
                found = await found
        if found is None:
            raise NoSuchOperation(operation)
        state: State = orjson.loads(orjson.dumps(_fields(found), default=str))
        return state
    except NoSuchOperation:
        raise
    except Exception as error:  # the application's code: whatever it raises
        raise GetterFailed(f"{type(error).__name__}: {error}") from error


def _fields(found: Any) -> dict[str, Any]:
    if isinstance(found, Mapping):
        return {str(name): _plain(value) for name, value in found.items()}
    return {
        shown: _plain(getattr(found, name))
        for name, shown in FIELDS.items()
        if hasattr(found, name)
    }


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    return value.isoformat() if isinstance(value, date) else value


def with_state(frame: StateFrame, state: State) -> StateFrame:
    """A `current_state` frame with the getter's fields added."""
    if not state:
        return frame
    status = frame.status
    if status in (UNKNOWN_STATUS, RUNNING_STATUS):  # nothing that an entry has set
        status = state.get("status", status)
    told = frame.body["data"]
    return frame.with_data({**state, **(told if isinstance(told, dict) else {}), "status": status})
