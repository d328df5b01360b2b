"""What only Celery has: canvases, time limits, lost workers, revoked tasks, and gevent."""

from __future__ import annotations

import pytest

from tests.integrations.stream import bar, steps
from tests.integrations.worker import PROGRAMS, Worker, working

pytestmark = [pytest.mark.full, pytest.mark.real("valkey9"), pytest.mark.timeout(900)]

WORKER = ("-m", "celery", "-A", f"{PROGRAMS}.celery_app", "worker", "-c", "2")
STARTED, COMPLETED = "operation_started", "operation_completed"
FAILED, CANCELLED = "operation_failed", "operation_cancelled"


async def test_canvases_are_one_operation_and_ends_of_every_kind() -> None:
    async with working("celery_app", *WORKER) as worker:
        await _canvases(worker)
        await _limits(worker)
        await _revoked(worker)


async def _canvases(worker: Worker) -> None:
    await worker.send(("group", "g"), ("chord", "c"), ("chain", "l"), ("broken", "b"))
    for operation, of, title in (("g", 4, "Group"), ("c", 4, "Chord"), ("l", 2, None)):
        entries = await worker.ended(operation)
        assert steps(entries) == [STARTED, COMPLETED], worker.log()
        assert title is None or entries[0].data["title"] == title
        assert {one.data["parts"]["of"] for one in entries if one.type == "progress"} == {of}
        assert max(bar(entries)) <= 1.0
    entries = await worker.ended("b")
    assert steps(entries) == [STARTED, FAILED], worker.log()
    assert entries[-1].data["error"] == "ValueError: part"


async def _limits(worker: Worker) -> None:
    await worker.send(("hard", "hard"), ("soft", "soft"), ("expired", "old"), ("dies", "dies"))
    for operation, error in (
        ("hard", "TimeLimitExceeded"),
        ("soft", "SoftTimeLimitExceeded"),
        ("dies", "WorkerLostError"),
    ):
        entries = await worker.ended(operation)
        assert steps(entries) == [STARTED, FAILED], (operation, worker.log())
        assert entries[-1].data["error"].startswith(error)
    entries = await worker.ended("old")
    assert steps(entries) == [FAILED]
    assert entries[-1].data["error"] == "expired before it ran"


async def _revoked(worker: Worker) -> None:
    await worker.send(("looks", "looks"), ("hangs", "hangs"))
    await worker.reached("waiting:looks")
    await worker.reached("waiting:hangs")
    await worker.cancel("looks")
    await worker.send(("revoke", "hangs"))
    for operation in ("looks", "hangs"):
        entries = await worker.ended(operation)
        assert steps(entries) == [STARTED, CANCELLED], (operation, worker.log())
    found = await worker.meeting.get("celery-task-meta-task-looks")
    assert '"status": "REVOKED"' in found


async def test_a_task_that_never_looks_is_terminated_by_option() -> None:
    async with working("celery_app", *WORKER, TERMINATE="1") as worker:
        await worker.send(("hangs", "hangs"))
        await worker.reached("waiting:hangs")
        await worker.cancel("hangs")
        entries = await worker.ended("hangs")
        assert steps(entries) == [STARTED, CANCELLED], worker.log()


async def test_with_gevent() -> None:
    async with working("celery_app", *WORKER, "-P", "gevent") as worker:
        await worker.send(("looks", "looks"), ("count", "ok"), ("fail", "bad"))
        assert steps(await worker.ended("ok")) == [STARTED, COMPLETED], worker.log()
        assert steps(await worker.ended("bad")) == [STARTED, FAILED], worker.log()
        await worker.cancel("looks")
        assert steps(await worker.ended("looks")) == [STARTED, CANCELLED], worker.log()
