"""RQ 3.0 or later: every job is an operation, whose id is the job's.

    queue = Queue(connection=redis, job_class=ReportedJob)

    rq worker --job-class tidegate.integrations.rq.ReportedJob

`queue.enqueue(export, meta={"operation": "42", "operation_title": "Export"})` names the operation.
Jobs that fail, are stopped, or lose their process are ended by the worker; `job.cancel()` ends a
job that waits. `current_operation()` in the job's function reports progress.

A job runs in a process that ends without exit functions: its last updates are sent before it does,
or given up after two seconds.
"""

from __future__ import annotations

from typing import Any

from rq import Retry
from rq.job import Job, JobStatus

from tidegate.client.stopping import OperationCancelled
from tidegate.integrations.task_reports import ReportedTask, TaskReports

ATTEMPT = "operation_attempt"
LOST = "the job's process ended unexpectedly, or its time was over"


class ReportedJob(Job):
    """A job that reports. `reports` is one for all jobs of a process."""

    reports = TaskReports()
    _error: BaseException | str = LOST
    _has_ended = False

    def perform(self) -> Any:
        """As RQ: runs the function, in the process of the job."""
        self.reports.start(self._task())
        try:
            result = super().perform()
        except BaseException as error:
            self._error = error
            if isinstance(error, OperationCancelled):
                self.retries_left = 0
            if self.should_retry:
                self.reports.leave(self._task())
            else:
                self._end(error)
            raise
        if isinstance(result, Retry):
            self._error = "the job asks to be run again"
            if (self.number_of_retries or 0) < result.max:
                self._again()
            else:
                self._end(self._error)
            return result
        self._has_ended = True
        self.reports.succeed(self._task(), result)
        self.reports.flush()
        return result

    def retry(self, *args: Any, **named: Any) -> Any:
        """As RQ: in the process of the job, or of the worker when that one is gone."""
        self._again()
        return super().retry(*args, **named)

    def set_status(self, status: JobStatus, *args: Any, **named: Any) -> Any:
        """As RQ; ends that the job's own process could not report are reported here."""
        if not self._has_ended:
            if status == JobStatus.FAILED:
                self._end(self._error)
            elif status in (JobStatus.STOPPED, JobStatus.CANCELED):
                self._has_ended = True
                self.reports.cancel(self._task())
                self.reports.flush()
        return super().set_status(status, *args, **named)

    def _again(self) -> None:
        task = self._task()
        self.reports.retry(task, self._error)
        self.reports.flush()
        # RQ counts only how many are left, and that of one of its two kinds of retries.
        self.meta[ATTEMPT] = task.attempt + 1
        self.save_meta()

    def _end(self, error: BaseException | str) -> None:
        self._has_ended = True
        self.reports.fail(self._task(), error)
        self.reports.flush()

    def _task(self) -> ReportedTask:
        meta = self.meta or {}
        return ReportedTask(
            str(meta.get("operation") or self.id),
            self.id,
            str(meta.get("operation_title") or self.func_name or ""),
            int(meta.get(ATTEMPT, 1)),
        )
