"""arq: `arq ...arq_app.WorkerSettings` runs it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from arq.jobs import Job
from arq.worker import Retry

from tests.integrations.programs.bodies import BODIES, BROKER
from tidegate.integrations import current_operation
from tidegate.integrations.arq import report_jobs

SETTINGS = RedisSettings.from_dsn(BROKER)


async def run(ctx: dict[Any, Any], body: str) -> Any:
    try:
        return await asyncio.to_thread(BODIES[body], current_operation())
    except ConnectionError as error:
        raise Retry from error


async def sleeps(ctx: dict[Any, Any]) -> None:
    await ctx["redis"].set(f"waiting:{ctx['job_id']}", 1)
    await asyncio.sleep(3_600)


@report_jobs
class WorkerSettings:
    functions = (run, sleeps)
    redis_settings = SETTINGS
    allow_abort_jobs = True
    poll_delay = 0.05


async def send_all(tasks: Sequence[Sequence[str]]) -> None:
    """Pairs of a task and an operation."""
    pool = await create_pool(SETTINGS)
    for body, operation in tasks:
        if body == "abort":
            with contextlib.suppress(asyncio.TimeoutError):
                await Job(operation, pool).abort(timeout=0.01)
        elif body == "sleeps":
            await pool.enqueue_job("sleeps", _job_id=operation)
        else:
            await pool.enqueue_job("run", body, _job_id=operation)
