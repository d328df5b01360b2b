"""Taskiq 0.13: every task is an operation, whose id is the task's.

    from tidegate.integrations.taskiq import report_tasks

    broker = report_tasks(RedisStreamBroker(url).with_middlewares(SimpleRetryMiddleware()))

`export.kicker().with_labels(operation="42", operation_title="Export").kiq(...)` names it. A task
that a retry middleware sends again is retrying: these mark it by a `NoResultError` (their option
`no_result_on_retry`, on by default).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from taskiq import TaskiqMiddleware
from taskiq.exceptions import NoResultError

from tidegate.client.stopping import OperationCancelled
from tidegate.integrations.reporter import TaskReporter
from tidegate.integrations.task_reports import ReportedTask, ResultOf, TaskReports

#: Of a message: the id of its operation, or None to leave it out.
OperationOf = Callable[[Any], str | None]
_ERROR = "tidegate_error"


def report_tasks(
    broker: Any,
    reporter: TaskReporter | None = None,
    *,
    operation: OperationOf | None = None,
    result: ResultOf | None = None,
) -> Any:
    """Report the tasks of a broker, and return it. Call it after the other middlewares were added:
    after an error the last one is called first, and this one prevents the retry of cancelled tasks.
    """
    broker.add_middlewares(TaskiqReports(TaskReports(reporter, result), operation))
    return broker


class TaskiqReports(TaskiqMiddleware):
    """Reports starts and ends; `report_tasks` adds it."""

    def __init__(self, reports: TaskReports, operation: OperationOf | None = None) -> None:
        super().__init__()
        self._reports = reports
        self._operation = operation
        #: Of messages between their error and what was made of it. The next attempt may run at the
        #: same time, so the id of the task tells too little.
        self._errors: dict[int, tuple[ReportedTask | None, BaseException]] = {}

    def pre_execute(self, message: Any) -> Any:
        """See Taskiq."""
        self._reports.start(self._task(message))
        return message

    def on_error(self, message: Any, result: Any, exception: BaseException) -> None:
        """See Taskiq."""
        # Before a retry middleware counts the next attempt in the same labels.
        self._errors[id(message)] = self._task(message), exception
        if isinstance(exception, OperationCancelled):
            message.labels["retry_on_error"] = False

    def post_execute(self, message: Any, result: Any) -> None:
        """See Taskiq."""
        task, error = self._errors.pop(id(message), (self._task(message), None))
        if error is None or isinstance(error, NoResultError):
            self._reports.succeed(task, result.return_value)
        elif isinstance(result.error, NoResultError):
            self._reports.retry(task, error)
        else:
            self._reports.fail(task, error)

    async def shutdown(self) -> None:
        """See Taskiq."""
        await asyncio.to_thread(self._reports.flush)

    def _task(self, message: Any) -> ReportedTask | None:
        own = message.task_id if self._operation is None else self._operation(message)
        operation = message.labels.get("operation") or own
        if operation is None:
            return None
        title = str(message.labels.get("operation_title") or message.task_name)
        attempt = int(message.labels.get("_retries", 0)) + 1
        return ReportedTask(str(operation), message.task_id, title, attempt)
