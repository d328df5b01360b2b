"""RQ: `rq worker --job-class tidegate.integrations.rq.ReportedJob` runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
from rq import Queue, Retry
from rq.command import send_stop_job_command

from tests.integrations.programs.bodies import BODIES, BROKER
from tidegate.integrations import current_operation
from tidegate.integrations.rq import ReportedJob


def run(body: str) -> Any:
    return BODIES[body](current_operation())


async def send_all(tasks: Sequence[Sequence[str]]) -> None:
    """Pairs of a task and an operation."""
    queue = Queue(connection=redis.Redis.from_url(BROKER), job_class=ReportedJob)
    for body, operation in tasks:
        if body == "stop":
            send_stop_job_command(queue.connection, operation)
            continue
        retry = None if body in ("fail", "die") else Retry(max=1)
        queue.enqueue(
            f"{__name__}.run",
            body,
            job_id=operation,
            meta={"operation": operation},
            retry=retry,
        )
