"""The reporter of this process, for code that does not pass one around.

It writes to `TIDEGATE_REDIS__URL`, or to what `configure` says before it is first used.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import Any

from tidegate.integrations.reported import ReportedOperation
from tidegate.integrations.reporter import Reporter
from tidegate.model.settings import RedisSettings

_lock = threading.Lock()
#: None or one.
_shared: list[Reporter] = []


def configure(redis: str | RedisSettings | None = None, **options: Any) -> Reporter:
    """Make the reporter of this process; arguments as of `Reporter`. The one before is closed."""
    made = Reporter(redis, **options)
    with _lock:
        before = tuple(_shared)
        _shared[:] = [made]
    for one in before:
        one.close()
    return made


def shared_reporter() -> Reporter:
    """The reporter of this process, made when first asked for.

    Raises:
        SettingsError: TIDEGATE_REDIS__URL cannot be used.
    """
    with _lock:
        if not _shared:
            _shared.append(Reporter())
        return _shared[0]


def operation(operation: str, **data: Any) -> AbstractContextManager[ReportedOperation]:
    """As `Reporter.operation`, with the reporter of this process."""
    return shared_reporter().operation(operation, **data)
