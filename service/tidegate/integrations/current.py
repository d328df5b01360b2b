"""The operation that the code at hand is working on, set by the adapter around each task.

    def export(rows):
        for row in current_operation().track(rows):
            ...

Outside of a task it is an operation that reports nothing, so that a task's function can be called
and tested like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar, Token
from typing import Any

from tidegate.integrations.backlog import TaskPart
from tidegate.integrations.reported import TaskOperation


class _Nobody:
    """A reporter that does not report."""

    def progress(self, operation: str, fraction: float | None = None, **data: Any) -> None:
        """Nothing."""

    def count(self, operation: str, current: float, **data: Any) -> None:
        """Nothing."""

    def publish(
        self,
        operation: str,
        type: str,  # noqa: A002 - the name that the field has
        data: Mapping[str, Any] | None = None,
    ) -> bool:
        """Nothing."""
        return True

    def completed(self, operation: str, *, part: TaskPart | None = None, **data: Any) -> None:
        """Nothing."""

    def failed(self, operation: str, error: BaseException | str, **data: Any) -> None:
        """Nothing."""

    def cancelled(self, operation: str, **data: Any) -> None:
        """Nothing."""

    def cancel_requested(self, operation: str) -> bool:
        """Nobody does."""
        return False

    def redact(self, text: str) -> str:
        """The text."""
        return text


_current: ContextVar[TaskOperation | None] = ContextVar("tidegate operation", default=None)


def current_operation() -> TaskOperation:
    """The operation of the running task; outside of a task, one that reports nothing."""
    return _current.get() or TaskOperation(_Nobody(), "none")


def enter(op: TaskOperation | None) -> Token[TaskOperation | None]:
    """Make this the current operation of this thread or task."""
    return _current.set(op)


def leave() -> None:
    """Unset the current operation."""
    _current.set(None)
