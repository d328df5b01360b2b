"""Huey 3.5 or later: every task is an operation, whose id is the task's.

    from tidegate.integrations.huey import report_tasks

    report_tasks(huey)


    @huey.task()
    def export(rows):
        for row in current_operation().track(rows): ...

`operation=lambda task: ...` gives the ids, from the task's arguments for one. Retries, revoked and
expired tasks, time-outs and an interrupted consumer are reported as Huey signals them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from huey import signals as events

from tidegate.client.stopping import OperationCancelled
from tidegate.integrations.reporter import TaskReporter
from tidegate.integrations.task_reports import ReportedTask, TaskReports

#: Of a task: the id of its operation, or None to leave it out.
OperationOf = Callable[[Any], str | None]
_TEXTS = {
    events.SIGNAL_TIMEOUT: "its time was over",
    events.SIGNAL_RATE_LIMITED: "refused by a rate limit",
    events.SIGNAL_LOCKED: "refused by a lock",
    events.SIGNAL_INTERRUPTED: "interrupted by the end of its worker",
    events.SIGNAL_EXPIRED: "expired before it ran",
}
_WITH_RETRIES = (
    events.SIGNAL_ERROR,
    events.SIGNAL_TIMEOUT,
    events.SIGNAL_RATE_LIMITED,
    events.SIGNAL_LOCKED,
    events.SIGNAL_CANCELED,
)


def report_tasks(
    huey: Any, reporter: TaskReporter | None = None, *, operation: OperationOf | None = None
) -> TaskReports:
    """Report the tasks of a Huey. Its signals do not include return values, so viewers see none."""
    reports = TaskReports(reporter)
    adapter = _Adapter(reports, operation)
    huey.signal()(adapter.receive)
    huey.on_shutdown()(reports.flush)
    return reports


class _Adapter:
    def __init__(self, reports: TaskReports, operation: OperationOf | None) -> None:
        self._reports = reports
        self._operation = operation

    def receive(self, signal: str, task: Any, error: BaseException | None = None) -> None:
        """Any signal of Huey."""
        reported = self._task(task)
        what: BaseException | str = error or _TEXTS.get(signal, "")
        if isinstance(error, OperationCancelled):
            task.retries = 0
        if signal in _WITH_RETRIES and task.retries:
            task.tidegate_error = what  # RETRYING follows, and has no error
            return
        match signal:
            case events.SIGNAL_EXECUTING:
                self._reports.start(reported)
            case events.SIGNAL_COMPLETE:
                self._reports.succeed(reported)
            case events.SIGNAL_RETRYING:
                self._reports.retry(reported, getattr(task, "tidegate_error", ""))
            case events.SIGNAL_REVOKED | events.SIGNAL_CANCELED:
                self._reports.cancel(reported)
            case _ if signal == events.SIGNAL_ERROR or signal in _TEXTS:
                self._reports.fail(reported, what)
            case _:
                pass

    def _task(self, task: Any) -> ReportedTask | None:
        operation = task.id if self._operation is None else self._operation(task)
        if operation is None:
            return None
        attempt = max(0, (task.default_retries or 0) - (task.retries or 0)) + 1
        return ReportedTask(operation, task.id, task.name, attempt)
