"""Progress from the tools that run tasks: Celery, Dramatiq, RQ, arq, Taskiq, Huey, tqdm, LangChain.

Each module is a thin adapter over `TaskReporter`, which never raises and never waits for Redis: it
keeps what is reported in a bounded buffer, and a thread sends it. A module imports its library, so
only those are needed that are used; each has an extra of its name (`tidegate[celery]`).

    from tidegate.integrations import operation

    with operation("42", title="Import") as op:
        for row in op.track(rows):
            ...
"""

from __future__ import annotations

from tidegate.integrations.current import current_operation
from tidegate.integrations.describing import redact_secrets
from tidegate.integrations.reported import TaskOperation
from tidegate.integrations.reporter import TaskReporter
from tidegate.integrations.shared import configure, operation, shared_reporter
from tidegate.integrations.streams import append_chunks

__all__ = [
    "TaskOperation",
    "TaskReporter",
    "append_chunks",
    "configure",
    "current_operation",
    "operation",
    "redact_secrets",
    "shared_reporter",
]
