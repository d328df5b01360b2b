"""Huey: `huey_consumer ...huey_app.huey` runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from huey import RedisHuey

from tests.integrations.programs.bodies import BODIES, BROKER
from tidegate.integrations import current_operation
from tidegate.integrations.huey import report_tasks

huey = RedisHuey("contract", url=BROKER)
report_tasks(huey, operation=lambda task: task.args[1])


@huey.task(retries=1)
def run(body: str, operation: str) -> Any:
    return BODIES[body](current_operation())


@huey.task()
def fails(body: str, operation: str) -> Any:
    return BODIES[body](current_operation())


async def send_all(tasks: Sequence[Sequence[str]]) -> None:
    """Pairs of a task and an operation."""
    for body, operation in tasks:
        (fails if body == "fail" else run)(body, operation)
