"""Celery 5.6 or later: every task is an operation, whose id is the task's.

    from tidegate.integrations.celery import ProgressTask, report_tasks

    report_tasks(app)


    @app.task(bind=True, base=ProgressTask)
    def export(self, rows):
        for row in self.track(rows):
            self.raise_if_cancelled()

| signal of Celery                         | the operation                                       |
|------------------------------------------|-----------------------------------------------------|
| task_prerun                              | started, once for each attempt                      |
| task_success                             | completed                                           |
| task_failure                             | failed; hard time limit and lost worker, too        |
| task_retry                               | retrying                                            |
| task_revoked                             | cancelled; failed where it has expired              |

`as_operation` makes one operation of a canvas (group, chain, chord), under an id of your own: in a
worker a task does not know how many belong to its group. The first task that fails fails it.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from celery import Task, chord, group, signals
from celery.app.task import Context
from celery.canvas import Signature, _chain
from celery.exceptions import Ignore

from tidegate.client.stopping import OperationCancelled
from tidegate.client.tracking import T
from tidegate.integrations.backlog import TaskPart
from tidegate.integrations.current import current_operation
from tidegate.integrations.reported import TaskOperation
from tidegate.integrations.reporter import TaskReporter
from tidegate.integrations.task_reports import ReportedTask, ResultOf, TaskReports

log = logging.getLogger(__name__)

HEADER = "tidegate"
#: Of a task's request: the id of its operation, or None to leave it out.
OperationOf = Callable[[Any], str | None]


class TaskCancelled(OperationCancelled, Ignore):
    """Ends a task whose cancellation was requested. Celery neither treats it as a failure nor
    retries the task.
    """


class ProgressTask(Task):
    """Base class of tasks that report: its methods act on the operation of the running task."""

    abstract = True

    @property
    def operation(self) -> TaskOperation:
        """The operation of the running task; it reports nothing if the task is called directly."""
        return current_operation()

    def progress(self, fraction: float | None = None, **data: Any) -> None:
        """Report progress: a fraction from 0 to 1, or `current=` and `total=`."""
        self.operation.progress(fraction, **data)

    def track(self, items: Iterable[T], total: int | None = None, **data: Any) -> Iterator[T]:
        """Iterate over items, and report progress after each."""
        return self.operation.track(items, total, **data)

    def publish(
        self,
        type: str,  # noqa: A002 - the name that the field has
        data: Mapping[str, Any] | None = None,
    ) -> bool:
        """Append an entry of any type."""
        return self.operation.publish(type, data)

    def raise_if_cancelled(self) -> None:
        """End the task as revoked if a viewer has requested the cancellation."""
        if not self.operation.cancel_requested():
            return
        request = self.request
        self.operation.end("cancelled")
        try:
            self.backend.mark_as_revoked(request.id, "cancelled", request=request)
        except Exception:  # noqa: BLE001 - the result backend is away: the task ends all the same
            log.warning("task %s: not marked as revoked", request.id)
        raise TaskCancelled(self.operation.id)


def report_tasks(
    app: Any,
    reporter: TaskReporter | None = None,
    *,
    operation: OperationOf | None = None,
    result: ResultOf | None = None,
    terminate: bool = False,
) -> TaskReports:
    """Report the tasks of an app, from its workers.

    Args:
        operation: returns the id of a task's operation; by default the id of the task.
        result: returns what viewers see of a return value; by default nothing.
        terminate: also revoke a task whose cancellation is requested with `terminate=True`, for
            tasks that never check: their process receives SIGTERM.
    """
    reports = TaskReports(reporter, result)
    adapter = _Adapter(app, reports, operation, terminate=terminate)
    adapter.connect()
    return reports


def as_operation(canvas: Signature, operation: str, *, title: str = "") -> Signature:
    """The same group, chain, chord or task, reported as one operation when it is called.

    A task that is replaced by several at run time (`replace`) is not counted.
    """
    whole = canvas.clone()
    leaves = list(_leaves(whole))
    for number, leaf in enumerate(leaves):
        mark = {"operation": operation, "title": title, "of": len(leaves), "part": str(number)}
        headers = {**(leaf.options.get("headers") or {}), HEADER: mark}
        leaf.set(headers=headers)
    return whole


def _leaves(canvas: Any) -> Iterator[Any]:
    if isinstance(canvas, chord):
        yield from _leaves(canvas.tasks if isinstance(canvas.tasks, group) else group(canvas.tasks))
        if canvas.body is not None:
            yield from _leaves(canvas.body)
    elif isinstance(canvas, (group, _chain)):
        for task in canvas.tasks:
            yield from _leaves(task)
    else:
        yield canvas


class _Adapter:
    """Receives the signals."""

    def __init__(
        self, app: Any, reports: TaskReports, operation: OperationOf | None, *, terminate: bool
    ) -> None:
        self._app = app
        self._reports = reports
        self._operation = operation
        self._terminate = terminate
        #: Of a worker's main process: a hard time limit is reported with the task's id only.
        self._received: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()

    def connect(self) -> None:
        """For the life of the process."""
        pairs = (
            (signals.task_received, self._on_received),
            (signals.task_prerun, self._on_prerun),
            (signals.task_postrun, self._on_postrun),
            (signals.task_success, self._on_success),
            (signals.task_failure, self._on_failure),
            (signals.task_retry, self._on_retry),
            (signals.task_revoked, self._on_revoked),
            # These processes end without exit functions.
            (signals.worker_process_shutdown, self._on_shutdown),
            (signals.worker_shutdown, self._on_shutdown),
        )
        for signal, receiver in pairs:
            signal.connect(receiver, weak=False)

    def _task(self, sender: Any, request: Any) -> ReportedTask | None:
        """What is reported of a task of this app; None: nothing."""
        if getattr(sender, "app", None) != self._app or not request.id:
            return None
        mark = getattr(request, HEADER, None) or (request.headers or {}).get(HEADER) or {}
        own = request.id if self._operation is None else self._operation(request)
        operation = mark.get("operation") or own
        if operation is None:
            return None
        part = TaskPart(mark["part"], 0.0, mark["of"]) if mark.get("of", 1) > 1 else None
        title = mark.get("title") or sender.name
        return ReportedTask(operation, request.id, title, (request.retries or 0) + 1, part)

    def _on_received(self, sender: Any = None, request: Any = None, **_: Any) -> None:
        self._received[request.id] = request

    def _on_prerun(self, sender: Any = None, task: Any = None, **_: Any) -> None:
        reported = self._task(task, task.request)
        op = self._reports.start(reported)
        if op is not None and self._terminate:
            revoke, task_id = self._app.control.revoke, task.request.id
            self._reports.reporter.on_cancel(op.id, lambda: revoke(task_id, terminate=True))

    def _on_postrun(self, sender: Any = None, task: Any = None, **_: Any) -> None:
        self._reports.leave(self._task(task, task.request))

    def _on_success(self, sender: Any = None, result: Any = None, **_: Any) -> None:
        self._reports.succeed(self._task(sender, sender.request), result)

    def _on_failure(
        self, sender: Any = None, task_id: str = "", exception: Any = None, **_: Any
    ) -> None:
        request = sender.request
        if request.id != task_id:
            received = self._received.get(task_id)
            if received is None:
                return
            request = Context(received.request_dict)
        self._reports.fail(self._task(sender, request), exception)

    def _on_retry(
        self, sender: Any = None, request: Any = None, reason: Any = None, **_: Any
    ) -> None:
        error = getattr(reason, "exc", None) or str(reason or "")
        self._reports.retry(self._task(sender, request), error)

    def _on_revoked(
        self, sender: Any = None, request: Any = None, expired: bool = False, **_: Any
    ) -> None:
        task = self._task(sender, request)
        if expired:
            self._reports.fail(task, "expired before it ran")
        else:
            self._reports.cancel(task)

    def _on_shutdown(self, **_: Any) -> None:
        self._reports.flush()
