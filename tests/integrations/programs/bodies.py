"""What the tasks of every library do; `BROKER` is where they and the test meet."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import redis

from tidegate.integrations import TaskOperation, shared_reporter

BROKER = os.environ["BROKER"]
meeting = redis.Redis.from_url(BROKER, decode_responses=True)


def count(op: TaskOperation) -> dict[str, int]:
    """At full rate."""
    for _ in op.track(range(2_000)):
        pass
    meeting.set(f"done:{op.id}", 1)
    return {"rows": 2_000}


def fail(op: TaskOperation) -> None:
    raise ValueError("cannot open postgres://app:hunter2@db/x")


def flaky(op: TaskOperation) -> None:
    """Fails the first time."""
    if meeting.incr(f"tries:{op.id}") == 1:
        raise ConnectionError("reset, password=hunter2")


def wait(op: TaskOperation) -> None:
    """Until it is cancelled."""
    meeting.set(f"waiting:{op.id}", 1)
    while True:
        op.progress(0.1)
        op.raise_if_cancelled()
        time.sleep(0.02)


def outlive(op: TaskOperation) -> None:
    """Until the test says so, which has ended the operation by then."""
    meeting.set(f"waiting:{op.id}", 1)
    while meeting.blpop([f"go:{op.id}"], timeout=1) is None:
        pass
    meeting.set(f"done:{op.id}", 1)


def die(op: TaskOperation) -> None:
    """Without a word, once viewers know that it runs."""
    assert shared_reporter().flush(60)
    os.kill(os.getpid(), signal.SIGKILL)


BODIES: dict[str, Callable[[TaskOperation], Any]] = {
    "count": count,
    "fail": fail,
    "flaky": flaky,
    "wait": wait,
    "outlive": outlive,
    "die": die,
}
