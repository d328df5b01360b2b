"""What every adapter of a task queue does; each only translates its library's events into these.

    start --> succeed | fail | cancel        the end; `fail` with OperationCancelled is a cancel
          --> retry --> start                the next attempt, in whatever process

Nothing here raises: what goes wrong in reporting is logged, and the task goes on. An id that no
operation can have is logged once, and its task is not reported.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tidegate.client.stopping import OperationCancelled
from tidegate.integrations.backlog import TaskPart
from tidegate.integrations.current import enter, leave
from tidegate.integrations.reported import TaskOperation
from tidegate.integrations.reporter import FLUSH_S, TaskReporter
from tidegate.integrations.shared import shared_reporter
from tidegate.model.errors import InvalidOperationId, TidegateError

log = logging.getLogger(__name__)

#: What becomes of a return value: data of the end, for viewers to see.
ResultOf = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class ReportedTask:
    """One attempt of one task.

    Attributes:
        task: the library's id of it, the same for each attempt.
        title: what viewers see.
        attempt: from 1.
        part: its place in an operation of many tasks.
    """

    operation: str
    task: str
    title: str = ""
    attempt: int = 1
    part: TaskPart | None = None


class TaskReports:
    """Of one queue.

    Args:
        reporter: None: the one of this process (`configure`).
        result: makes what viewers get of a return value, under `result`; by default nothing, since
            only the application knows what they may see.
    """

    def __init__(
        self, reporter: TaskReporter | None = None, result: ResultOf | None = None
    ) -> None:
        self._reporter = reporter
        self._result = result
        self._warned = False

    @property
    def reporter(self) -> TaskReporter:
        return self._reporter or shared_reporter()

    def start(self, task: ReportedTask | None) -> TaskOperation | None:
        """It runs, and is the current operation of this thread."""
        op: TaskOperation | None = None
        if task is not None:
            try:
                op = TaskOperation(self.reporter, task.operation, part=task.part)
                number = {"attempt": task.attempt} if task.attempt > 1 else {}
                title = {"title": task.title} if task.title else {}
                # All parts of an operation are one run.
                run = "parts" if task.part else f"{task.task}/{task.attempt}"
                if task.part is None or task.attempt == 1:
                    self.reporter.started(task.operation, run=run, **title, **number)
            except TidegateError as error:
                op = None
                self._warn(error)
        enter(op)
        return op

    def progress(self, task: ReportedTask, fraction: float | None, **data: Any) -> None:
        """It is this far (0 to 1); None: only `data` is told."""
        self._safely(lambda: self.reporter.progress(task.operation, fraction, **data))

    def succeed(self, task: ReportedTask | None, result: Any = None) -> None:
        """It has returned."""
        self.leave(task)
        if task is None:
            return
        data: Mapping[str, Any] = {}
        if self._result is not None:
            try:
                data = {"result": self._result(result)}
            except Exception:
                log.exception("task %s: its result cannot be published", task.task)
        self._safely(lambda: self.reporter.completed(task.operation, part=task.part, **data))

    def fail(self, task: ReportedTask | None, error: BaseException | str) -> None:
        """It has failed for good."""
        self.leave(task)
        if task is None:
            return
        if isinstance(error, OperationCancelled):
            self._safely(lambda: self.reporter.cancelled(task.operation))
        else:
            self._safely(lambda: self.reporter.failed(task.operation, error))

    def retry(self, task: ReportedTask | None, error: BaseException | str = "") -> None:
        """It has failed and will run again."""
        self.leave(task)
        if task is not None:
            self._safely(
                lambda: self.reporter.retrying(task.operation, error, attempt=task.attempt)
            )

    def cancel(self, task: ReportedTask | None) -> None:
        """It was given up: revoked, aborted, stopped."""
        self.leave(task)
        if task is not None:
            self._safely(lambda: self.reporter.cancelled(task.operation))

    def leave(self, task: ReportedTask | None) -> None:
        """This thread has no current operation any more."""
        leave()
        if task is not None:
            self._safely(lambda: self.reporter.no_cancel(task.operation))

    def flush(self, timeout_s: float = FLUSH_S) -> None:
        """Before the process ends in a way that runs no exit functions."""
        self._safely(lambda: self.reporter.flush(timeout_s))

    def _safely(self, call: Callable[[], object]) -> None:
        try:
            call()
        except TidegateError as error:
            self._warn(error)

    def _warn(self, error: TidegateError) -> None:
        if self._warned and isinstance(error, InvalidOperationId):
            return
        self._warned = True
        log.warning("a task is not reported: %s", error)
