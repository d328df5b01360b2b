"""Dramatiq: `dramatiq ...dramatiq_app` runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from tests.integrations.programs.bodies import BODIES, BROKER
from tidegate.integrations import current_operation
from tidegate.integrations.dramatiq import report_messages

broker = RedisBroker(url=BROKER)
report_messages(broker)
dramatiq.set_broker(broker)


@dramatiq.actor(max_retries=1, min_backoff=1, max_backoff=1)
def run(body: str) -> Any:
    BODIES[body](current_operation())


@dramatiq.actor(max_retries=0)
def fails(body: str) -> Any:
    BODIES[body](current_operation())


async def send_all(tasks: Sequence[Sequence[str]]) -> None:
    """Pairs of a task and an operation."""
    for body, operation in tasks:
        actor = fails if body == "fail" else run
        actor.send_with_options(args=(body,), operation=operation)
