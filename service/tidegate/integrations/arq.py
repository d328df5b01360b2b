"""arq 0.25 or later: every job is an operation, whose id is the job's.

    from tidegate.integrations.arq import report_jobs


    @report_jobs
    class WorkerSettings:
        functions = [export]

`enqueue_job("export", _job_id="42")` names the operation. A job that is aborted is cancelled, one
that is over its time has failed; arq cancels both, and the worker's shutdown does so as well, so
what it was is read from the job's result.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from arq.jobs import Job
from arq.worker import Function, Retry, func

from tidegate.integrations.reporter import TaskReporter
from tidegate.integrations.task_reports import ReportedTask, ResultOf, TaskReports

S = TypeVar("S")
Context = dict[Any, Any]
DEFAULT_MAX_TRIES = 5
_UNKNOWN = "tidegate cancelled"


def report_jobs(
    settings: S, reporter: TaskReporter | None = None, *, result: ResultOf | None = None
) -> S:
    """Report the jobs of a worker: wraps `functions`, `after_job_end` and `on_shutdown`.

    Args:
        settings: the settings class of the worker.
        result: returns what viewers see of a return value; by default nothing.
    """
    reports = TaskReports(reporter, result)
    of: Any = settings
    max_tries = getattr(of, "max_tries", DEFAULT_MAX_TRIES)
    of.functions = [_wrapped(one, reports, max_tries) for one in of.functions]
    after = getattr(of, "after_job_end", None)
    shutdown = getattr(of, "on_shutdown", None)

    async def after_job_end(ctx: Context) -> None:
        await _settle(ctx, reports)
        if after is not None:
            await after(ctx)

    async def on_shutdown(ctx: Context) -> None:
        if shutdown is not None:
            await shutdown(ctx)
        await asyncio.to_thread(reports.flush)

    # Of a class they would become methods.
    of.after_job_end = staticmethod(after_job_end)
    of.on_shutdown = staticmethod(on_shutdown)
    return settings


def _wrapped(given: Any, reports: TaskReports, max_tries: int) -> Function:
    whole: Function = given if isinstance(given, Function) else func(given)
    inner: Callable[..., Awaitable[Any]] = whole.coroutine
    tries = whole.max_tries or max_tries

    @functools.wraps(inner)
    async def run(ctx: Context, *args: Any, **named: Any) -> Any:
        task = _task(ctx, whole.name)
        reports.start(task)
        try:
            returned = await inner(ctx, *args, **named)
        except Retry as error:
            if task.attempt < tries:
                reports.retry(task, error.__cause__ or "")
            else:  # arq says so when it would run again, to nobody
                reports.fail(task, error.__cause__ or f"failed {tries} times")
            raise
        except asyncio.CancelledError:
            ctx[_UNKNOWN] = task  # the hook gets the same context
            reports.leave(task)
            raise
        except Exception as error:
            reports.fail(task, error)
            raise
        reports.succeed(task, returned)
        return returned

    whole.coroutine = run
    return whole


async def _settle(ctx: Context, reports: TaskReports) -> None:
    """What became of a job that was cancelled: its result says so; none: it runs again."""
    task = ctx.pop(_UNKNOWN, None)
    if task is None:
        return
    info = await Job(ctx["job_id"], ctx["redis"]).result_info()
    if info is None:
        reports.retry(task, "the worker was shut down")
    elif isinstance(info.result, asyncio.CancelledError):
        reports.cancel(task)
    else:
        reports.fail(task, info.result if isinstance(info.result, Exception) else "timed out")


def _task(ctx: Context, name: str) -> ReportedTask:
    return ReportedTask(ctx["job_id"], ctx["job_id"], name, ctx["job_try"])
