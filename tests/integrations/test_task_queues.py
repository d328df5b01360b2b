"""One contract over all task queues, with the real libraries on a real broker.

Each library has one worker that runs one task at a time, so a task is done when the next one is.
"""

from __future__ import annotations

import pytest

from tests.harness.backend import PREFIX
from tests.harness.waiting import until
from tests.integrations.stream import bar, steps, written
from tests.integrations.worker import PROGRAMS, Worker, working

pytestmark = [pytest.mark.full, pytest.mark.real("valkey9"), pytest.mark.timeout(900)]

STARTED, COMPLETED = "operation_started", "operation_completed"
FAILED, CANCELLED, RETRYING = "operation_failed", "operation_cancelled", "operation_retrying"

LIBRARIES = {
    "celery_app": (
        "-m",
        "celery",
        "-A",
        f"{PROGRAMS}.celery_app",
        "worker",
        "-c",
        "1",
        "-l",
        "INFO",
    ),
    "dramatiq_app": ("-m", "dramatiq", f"{PROGRAMS}.dramatiq_app", "-p", "1", "-t", "1"),
    "rq_app": (
        *("-m", "rq.cli", "worker", "--url", "BROKER"),
        *("--job-class", "tidegate.integrations.rq.ReportedJob"),
    ),
    "huey_app": (
        "-m",
        "huey.bin.huey_consumer",
        f"{PROGRAMS}.huey_app.huey",
        "-w",
        "1",
        "-d",
        "0.05",
    ),
    "arq_app": ("-m", "arq", f"{PROGRAMS}.arq_app.WorkerSettings"),
    "taskiq_app": ("-m", "taskiq", "worker", f"{PROGRAMS}.taskiq_app:broker", "-w", "1"),
}


async def _success(worker: Worker) -> None:
    """Started once, throttled, the last update never lost."""
    await worker.send(("count", "ok"))
    entries = await worker.ended("ok")
    assert steps(entries) == [STARTED, COMPLETED], worker.log()
    assert entries[0].data["title"]
    assert bar(entries)[-1] == 1.0
    assert len(bar(entries)) < 200  # of 2,000
    assert "result" not in entries[-1].data


async def _failure(worker: Worker) -> None:
    await worker.send(("fail", "bad"))
    entries = await worker.ended("bad")
    assert steps(entries) == [STARTED, FAILED], worker.log()
    assert entries[-1].data == {
        "status": "failed",
        "error": "ValueError: cannot open postgres://[redacted]@db/x",
    }


async def _retry(worker: Worker) -> None:
    """It runs again, and that is no end. What is said behind the next start is dropped: Taskiq
    sends the task again before it says so.
    """
    await worker.send(("flaky", "again"))
    entries = await worker.ended("again")
    if worker.program == "taskiq_app" and steps(entries) == [STARTED, STARTED, COMPLETED]:
        return
    assert steps(entries) == [STARTED, RETRYING, STARTED, COMPLETED], worker.log()
    assert entries[1].data == {
        "status": "retrying",
        "reason": "ConnectionError: reset, password=[redacted]",
        "attempt": 1,
    }
    assert entries[2].data["attempt"] == 2


async def _cancel(worker: Worker) -> None:
    await worker.send(("wait", "stop"))
    await worker.reached("waiting:stop")
    await worker.cancel("stop")
    entries = await worker.ended("stop")
    assert steps(entries) == [STARTED, CANCELLED], worker.log()


async def _late_end(worker: Worker) -> None:
    """Somebody else has ended it by a plain XADD; the worker does not end it again."""
    await worker.send(("outlive", "late"))
    await worker.reached("waiting:late")

    async def is_started() -> bool:
        return bool(await written(worker.backend, "late"))

    await until(is_started)
    await worker.backend.client.xadd(PREFIX + "late", {"message": '{"data":{"status":"failed"}}'})
    await worker.meeting.lpush("go:late", 1)
    await worker.send(("count", "next"))
    await worker.ended("next")
    assert await worker.backend.client.xlen(PREFIX + "late") == 2, worker.log()


async def _redis_away(worker: Worker) -> None:
    """The task neither fails nor waits; viewers get it all when Redis is there again."""
    await worker.progress.kill()
    await worker.send(("count", "away"))
    await worker.reached("done:away")
    await worker.progress.restart()
    await worker.backend.client.connection_pool.disconnect()
    if worker.program == "rq_app":  # a job's process ends, and with it what it could not send
        await worker.send(("count", "after"))
        await worker.ended("after")
        return
    entries = await worker.ended("away")
    assert steps(entries) == [STARTED, COMPLETED], worker.log()
    assert bar(entries)[-1] == 1.0


async def _stopped_or_lost(worker: Worker) -> None:
    """RQ jobs that somebody stops, and whose process dies."""
    await worker.send(("die", "lost"), ("outlive", "stopped"))
    entries = await worker.ended("lost")
    assert steps(entries) == [STARTED, FAILED], worker.log()
    assert "process" in entries[-1].data["error"]
    await worker.reached("waiting:stopped")
    await worker.send(("stop", "stopped"))
    assert steps(await worker.ended("stopped")) == [STARTED, CANCELLED], worker.log()

    await worker.send(("meta", "told"))
    entries = await worker.ended("told")
    assert steps(entries) == [STARTED, COMPLETED], worker.log()
    assert bar(entries) == [0.25], "50 is no fraction, and fails no job"
    assert entries[1].data["message"] == "half of the half"


async def _aborted(worker: Worker) -> None:
    """An arq job that somebody aborts."""
    await worker.send(("sleeps", "aborted"))
    await worker.reached("waiting:aborted")
    await worker.send(("abort", "aborted"))
    assert steps(await worker.ended("aborted")) == [STARTED, CANCELLED], worker.log()


#: What only one library has, in the same worker: starting another takes longer.
OWN = {"rq_app": _stopped_or_lost, "arq_app": _aborted}


@pytest.mark.parametrize("library", LIBRARIES)
async def test_the_contract(library: str) -> None:
    async with working(library, *LIBRARIES[library]) as worker:
        await _success(worker)
        await _failure(worker)
        await _retry(worker)
        await _cancel(worker)
        await _late_end(worker)
        if library in OWN:
            await OWN[library](worker)
        await _redis_away(worker)


async def test_rq_callbacks_report_how_a_job_ends() -> None:
    """In a worker without the job class, whose jobs say nothing before."""
    async with working("rq_app", "-m", "rq.cli", "worker", "--url", "BROKER") as worker:
        await worker.send(("returns", "good"), ("fails", "bad"), ("fails once", "again"))
        assert steps(await worker.ended("good")) == [COMPLETED], worker.log()
        entries = await worker.ended("bad")
        assert steps(entries) == [FAILED], worker.log()
        assert entries[0].data["error"] == "ValueError: password=[redacted]"
        assert steps(await worker.ended("again")) == [RETRYING, COMPLETED], worker.log()
        await worker.send(("stopped", "stopped"))
        await worker.reached("waiting:unreported")
        await worker.send(("stop", "job-stopped"))
        assert steps(await worker.ended("stopped")) == [CANCELLED], worker.log()
