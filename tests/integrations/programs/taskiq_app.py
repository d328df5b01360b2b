"""Taskiq: `taskiq worker ...taskiq_app:broker` runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taskiq import SimpleRetryMiddleware
from taskiq_redis import ListQueueBroker

from tests.integrations.programs.bodies import BODIES, BROKER
from tidegate.integrations import current_operation
from tidegate.integrations.taskiq import report_tasks

broker = report_tasks(ListQueueBroker(BROKER).with_middlewares(SimpleRetryMiddleware()))


@broker.task(task_name="run", retry_on_error=True, max_retries=2)
def run(body: str) -> Any:
    return BODIES[body](current_operation())


@broker.task(task_name="fails")
def fails(body: str) -> Any:
    return BODIES[body](current_operation())


async def send_all(tasks: Sequence[Sequence[str]]) -> None:
    """Pairs of a task and an operation."""
    await broker.startup()
    for body, operation in tasks:
        task = fails if body == "fail" else run
        await task.kicker().with_labels(operation=operation).kiq(body)
    await broker.shutdown()
