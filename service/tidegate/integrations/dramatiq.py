"""Dramatiq 2.2 or later: every message is an operation, whose id is the message's.

    from tidegate.integrations.dramatiq import report_messages

    report_messages(broker)


    @dramatiq.actor
    def export(rows):
        for row in current_operation().track(rows): ...

`export.send_with_options(args=(...), operation="42", operation_title="Export")` names it. A message
that is skipped (by an age limit, or since it was aborted) is cancelled, or failed if the middleware
that skipped it says so. `raise_if_cancelled` ends a message without a retry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dramatiq import Middleware

from tidegate.client.stopping import OperationCancelled
from tidegate.integrations.reporter import TaskReporter
from tidegate.integrations.task_reports import ReportedTask, ResultOf, TaskReports

#: Of a message: the id of its operation, or None to leave it out.
OperationOf = Callable[[Any], str | None]


def report_messages(
    broker: Any,
    reporter: TaskReporter | None = None,
    *,
    operation: OperationOf | None = None,
    result: ResultOf | None = None,
) -> TaskReports:
    """Report the messages of a broker. Call it after the other middleware was added.

    Middleware is called in reverse order after a message, so the reporting one is added first: when
    it is called, `Retries` has decided.
    """
    reports = TaskReports(reporter, result)
    outcome = DramatiqReports(reports, operation)
    if broker.middleware:
        broker.add_middleware(outcome, before=type(broker.middleware[0]))
    else:
        broker.add_middleware(outcome)
    broker.add_middleware(NoRetryOfCancelled())
    return reports


class NoRetryOfCancelled(Middleware):
    """Prevents the retry of a message whose cancellation was requested; it follows `Retries`."""

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: Any = None
    ) -> None:
        """See Dramatiq."""
        if isinstance(exception, OperationCancelled):
            message.options["max_retries"] = 0


class DramatiqReports(Middleware):
    """Reports messages. It precedes `Retries`; `report_messages` adds it."""

    def __init__(self, reports: TaskReports, operation: OperationOf | None = None) -> None:
        self._reports = reports
        self._operation = operation

    def before_process_message(self, broker: Any, message: Any) -> None:
        """See Dramatiq."""
        self._reports.start(self._task(message))

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: Any = None
    ) -> None:
        """See Dramatiq."""
        task = self._task(message, has_retried=exception is not None)
        if exception is None:
            self._reports.succeed(task, result)
        elif message.failed or not self._is_retried(message, exception):
            self._reports.fail(task, exception)
        else:
            self._reports.retry(task, exception)

    def after_skip_message(self, broker: Any, message: Any) -> None:
        """See Dramatiq."""
        task = self._task(message)
        if message.failed:
            self._reports.fail(task, "skipped before it ran")
        else:
            self._reports.cancel(task)

    def before_worker_shutdown(self, broker: Any, worker: Any) -> None:
        """See Dramatiq."""
        self._reports.flush()

    def after_worker_shutdown(self, broker: Any, worker: Any) -> None:
        """See Dramatiq."""
        self._reports.flush()

    def _is_retried(self, message: Any, exception: BaseException) -> bool:
        """`Retries` counts what it tries again; without it nothing is."""
        return bool(message.options.get("retries"))

    def _task(self, message: Any, *, has_retried: bool = False) -> ReportedTask | None:
        options = message.options
        own = message.message_id if self._operation is None else self._operation(message)
        operation = options.get("operation") or own
        if operation is None:
            return None
        # Behind a failure it has counted the next attempt already.
        attempt = options.get("retries", 0) + 1
        if has_retried and options.get("retries"):
            attempt -= 1
        title = options.get("operation_title") or message.actor_name
        return ReportedTask(operation, message.message_id, title, attempt)
