"""RQ 3.0 or later: every job is an operation, whose id is the job's.

    queue = Queue(connection=redis, job_class=ReportedJob)

    rq worker --job-class tidegate.integrations.rq.ReportedJob

`queue.enqueue(export, meta={"operation": "42", "operation_title": "Export"})` names the operation.
Jobs that fail, are stopped, or lose their process are ended by the worker; `job.cancel()` ends a
job that waits. `current_operation()` in the job's function reports progress; so do `progress` (0 to
1) and `message` in the job's `meta` whenever `job.save_meta()` is called.

Where workers cannot be given a job class, callbacks report how a job ends, and nothing before:

    queue.enqueue(export, meta={"operation": "42"}, **CALLBACKS)

A job runs in a process that ends without exit functions: its last updates are sent before it does,
or given up after two seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from rq import Retry
from rq.job import Job, JobStatus

from tidegate.client.stopping import OperationCancelled
from tidegate.integrations.task_reports import ReportedTask, TaskReports

ATTEMPT = "operation_attempt"
#: What viewers get of a job's `meta`, with each new `progress`.
TOLD = ("progress", "message")
LOST = "the job's process ended unexpectedly, or its time was over"


class ReportedJob(Job):
    """A job that reports. `reports` is shared by all jobs of a process."""

    reports = TaskReports()
    _error: BaseException | str = LOST
    _has_ended = False
    _told: Mapping[str, Any] = MappingProxyType({})

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

    def save_meta(self) -> None:
        """As RQ, and viewers get what they may see of it."""
        super().save_meta()
        told = {name: self.meta[name] for name in TOLD if name in self.meta}
        if "progress" in told and told != self._told and not self._has_ended:
            self._told = told
            self.reports.progress(self._task(), told["progress"], message=told.get("message"))

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
        return _task_of(self)


def report_success(job: Job, _connection: object, result: Any) -> None:
    """The callback for `on_success`."""
    if not isinstance(job, ReportedJob):
        ReportedJob.reports.succeed(_task_of(job), result)
        ReportedJob.reports.flush()


def report_failure(
    job: Job, _connection: object, _kind: object, error: BaseException, _traceback: object
) -> None:
    """The callback for `on_failure`. A job that RQ retries has not ended."""
    if isinstance(job, ReportedJob):
        return
    task = _task_of(job)
    if job.should_retry and not isinstance(error, OperationCancelled):
        ReportedJob.reports.retry(task, error)
    else:
        ReportedJob.reports.fail(task, error)
    ReportedJob.reports.flush()


def report_stopped(job: Job, _connection: object) -> None:
    """The callback for `on_stopped`."""
    if not isinstance(job, ReportedJob):
        ReportedJob.reports.cancel(_task_of(job))
        ReportedJob.reports.flush()


#: Arguments of `Queue.enqueue`.
CALLBACKS: Mapping[str, Callable[..., None]] = MappingProxyType(
    {"on_success": report_success, "on_failure": report_failure, "on_stopped": report_stopped}
)


def _task_of(job: Job) -> ReportedTask:
    meta = job.meta or {}
    return ReportedTask(
        str(meta.get("operation") or job.id),
        job.id,
        str(meta.get("operation_title") or job.func_name or ""),
        int(meta.get(ATTEMPT, 1)),
    )
