"""Celery: `celery -A ...celery_app worker` runs it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from celery import Celery, chord, group

from tests.integrations.programs.bodies import BODIES, BROKER, meeting
from tidegate.integrations.celery import ProgressTask, as_operation, report_tasks

app = Celery("contract", broker=BROKER, backend=BROKER)
app.conf.update(
    broker_connection_retry_on_startup=True, worker_prefetch_multiplier=1, task_acks_late=False
)
report_tasks(app, terminate=os.environ.get("TERMINATE") == "1")


@app.task(bind=True, base=ProgressTask, max_retries=1)
def run(self: Any, body: str) -> Any:
    try:
        return BODIES[body](self.operation)
    except ConnectionError as error:
        raise self.retry(exc=error, countdown=0) from error


@app.task(bind=True, base=ProgressTask)
def looks(self: Any) -> None:
    meeting.set(f"waiting:{self.operation.id}", 1)
    while True:
        self.progress(0.1)
        self.raise_if_cancelled()
        time.sleep(0.02)


@app.task(bind=True, base=ProgressTask)
def hangs(self: Any) -> None:
    meeting.set(f"waiting:{self.operation.id}", 1)
    self.progress(0.5)
    time.sleep(3_600)


@app.task(bind=True, base=ProgressTask)
def dies(self: Any) -> None:
    BODIES["die"](self.operation)


@app.task(bind=True, base=ProgressTask)
def part(self: Any, number: int) -> int:
    for _ in self.track(range(100)):
        pass
    if number < 0:
        raise ValueError("part")
    return number


@app.task(bind=True, base=ProgressTask)
def total(self: Any, numbers: list[int]) -> int:
    return sum(numbers)


def send(task: str, operation: str) -> None:
    named = {"headers": {"tidegate": {"operation": operation}}, "task_id": f"task-{operation}"}
    if task == "group":
        as_operation(group(part.s(n) for n in range(4)), operation, title="Group").apply_async()
    elif task == "chord":
        parts = [part.s(n) for n in range(3)]
        as_operation(chord(parts, total.s()), operation, title="Chord").apply_async()
    elif task == "chain":
        as_operation(part.s(1) | total.si([1, 2]), operation).apply_async()
    elif task == "broken":
        as_operation(group(part.s(n) for n in (0, -1, 2)), operation).apply_async()
    elif task == "hard":
        hangs.apply_async(time_limit=1, **named)
    elif task == "soft":
        hangs.apply_async(soft_time_limit=1, **named)
    elif task == "expired":
        hangs.apply_async(expires=-1, **named)
    elif task in ("looks", "hangs", "dies"):
        globals()[task].apply_async(**named)
    elif task == "revoke":
        app.control.revoke(f"task-{operation}", terminate=True)
    else:
        run.apply_async((task,), **named)


async def send_all(tasks: Sequence[Sequence[str]]) -> None:
    """Pairs of a task and an operation."""
    for one in tasks:
        send(*one)
