"""The reporter of this process, for code that does not pass one around.

It writes to `TIDEGATE_REDIS__URL`, or to what `configure` says before it is first used.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import Any

from tidegate.integrations.reported import TaskOperation
from tidegate.integrations.reporter import TaskReporter
from tidegate.model.settings import RedisSettings

_lock = threading.Lock()
#: None or one.
_shared: list[TaskReporter] = []


def configure(redis: str | RedisSettings | None = None, **options: Any) -> TaskReporter:
    """Make the reporter of this process; arguments as of `TaskReporter`. Closes the one before."""
    made = TaskReporter(redis, **options)
    with _lock:
        before = tuple(_shared)
        _shared[:] = [made]
    for one in before:
        one.close()
    return made


def shared_reporter() -> TaskReporter:
    """The reporter of this process, made when first asked for.

    Raises:
        SettingsError: TIDEGATE_REDIS__URL cannot be used.
    """
    with _lock:
        if not _shared:
            _shared.append(TaskReporter())
        return _shared[0]


def operation(operation: str, **data: Any) -> AbstractContextManager[TaskOperation]:
    """As `TaskReporter.operation`, with the reporter of this process."""
    return shared_reporter().operation(operation, **data)
