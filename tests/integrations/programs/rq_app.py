"""RQ: `rq worker --job-class tidegate.integrations.rq.ReportedJob` runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
from rq import Queue, Retry, get_current_job
from rq.command import send_stop_job_command

from tests.integrations.programs.bodies import BODIES, BROKER, meeting
from tidegate.integrations import current_operation
from tidegate.integrations.rq import CALLBACKS, ReportedJob

UNREPORTED = ("returns", "fails", "fails once", "stopped")


def run(body: str) -> Any:
    if body == "meta":
        return _tell_by_meta()
    return BODIES[body](current_operation())


def _tell_by_meta() -> None:
    job = get_current_job()
    assert job is not None
    for told in ({"progress": 0.25, "message": "half of the half"}, {"progress": 50}):
        job.meta |= told
        job.save_meta()


def unreported(body: str) -> None:
    """In a worker that knows nothing of operations."""
    if body == "fails" or (body == "fails once" and meeting.incr("tries:unreported") == 1):
        raise ValueError("password=hunter2")
    if body == "stopped":
        meeting.set("waiting:unreported", 1)
        meeting.blpop(["never"], timeout=60)


async def send_all(tasks: Sequence[Sequence[str]]) -> None:
    """Pairs of a task and an operation."""
    queue = Queue(connection=redis.Redis.from_url(BROKER), job_class=ReportedJob)
    for body, operation in tasks:
        if body == "stop":
            send_stop_job_command(queue.connection, operation)
            continue
        if body in UNREPORTED:
            queue.enqueue(
                f"{__name__}.unreported",
                body,
                job_id=f"job-{operation}",
                meta={"operation": operation},
                retry=Retry(max=1) if body == "fails once" else None,
                **CALLBACKS,
            )
            continue
        retry = None if body in ("fail", "die", "meta") else Retry(max=1)
        queue.enqueue(
            f"{__name__}.run",
            body,
            job_id=operation,
            meta={"operation": operation},
            retry=retry,
        )
