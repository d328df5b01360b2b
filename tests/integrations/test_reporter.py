"""A reporter on a real server: what is in the stream, and what a task notices, which is nothing."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any, cast

import pytest

from tests.harness.backend import PREFIX, Backend
from tests.harness.replica import Replica
from tests.harness.rights import documented_rights
from tests.harness.waiting import until
from tests.integrations.conftest import Make
from tests.integrations.stream import ask_to_cancel, bar, has_ended, steps, written
from tests.servers.cluster import Cluster
from tests.servers.proxy import Proxy
from tests.servers.standalone import Server
from tidegate.client.stopping import OperationCancelled
from tidegate.integrations import TaskReporter
from tidegate.integrations.backlog import TaskPart
from tidegate.integrations.line_rate import RATE_MAX
from tidegate.integrations.log_handler import OperationHandler
from tidegate.model.errors import InvalidInput, SettingsError
from tidegate.model.settings import RedisSettings, RedisUrl


async def written_all(reporter: TaskReporter) -> None:
    """Wait until nothing is held back any more."""
    await until(lambda: asyncio.to_thread(reporter.flush, 5.0), "the reporter still has something")


async def test_a_loop_is_started_once_throttled_and_ends_full(
    any_server: Server, reporters: Make
) -> None:
    reporter = reporters(any_server.url, progress_interval_s=30)
    with reporter.operation("42", title="Import") as op:
        for _ in op.track(range(5_000)):
            pass
    await written_all(reporter)
    async with any_server.client() as client:
        entries = await written(Backend(client))
    assert steps(entries) == ["operation_started", "operation_completed"]
    assert entries[0].data == {"status": "running", "title": "Import"}
    assert entries[-2].data == {"progress": 1.0, "current": 5_000, "total": 5_000}
    # The first one, unless the last one has come before it was written, and the last one.
    assert len(bar(entries)) <= 2


async def test_the_last_update_is_sent_without_an_end(
    redis_server: Server, backend: Backend, reporters: Make
) -> None:
    reporter = reporters(redis_server.url, progress_interval_s=0.05)
    for n in range(1, 101):
        reporter.progress("42", n / 100)

    async def is_full() -> bool:
        return bar(await written(backend))[-1:] == [1.0]

    await until(is_full)


async def test_a_failure_has_its_text_without_secrets(
    redis_server: Server, backend: Backend, reporters: Make
) -> None:
    reporter = reporters(redis_server.url)
    with pytest.raises(ValueError, match="hunter2"), reporter.operation("42"):
        raise ValueError("cannot open postgres://app:hunter2@db/x, password=hunter2")
    await written_all(reporter)
    entries = await written(backend)
    assert steps(entries) == ["operation_started", "operation_failed"]
    assert entries[-1].data == {
        "status": "failed",
        "error": "ValueError: cannot open postgres://[redacted]@db/x, password=[redacted]",
    }

    own = reporters(redis_server.url, redact=lambda text: text.replace("Smith", "..."))
    own.failed("43", ValueError("no account of Smith"))
    await written_all(own)
    assert (await written(backend, "43"))[-1].data["error"] == "ValueError: no account of ..."


async def test_a_retry_is_no_end_and_each_run_starts_once(
    redis_server: Server, backend: Backend, reporters: Make
) -> None:
    reporter, other = reporters(redis_server.url), reporters(redis_server.url)
    reporter.started("42", run="job/0")
    reporter.retrying("42", ConnectionError("reset"), attempt=1)
    await written_all(reporter)
    other.started("42", run="job/0")  # delivered twice
    other.started("42", run="job/1")
    other.completed("42", result={"rows": 3})
    await written_all(other)
    entries = await written(backend)
    assert steps(entries) == [
        "operation_started",
        "operation_retrying",
        "operation_started",
        "operation_completed",
    ]
    assert entries[1].data == {
        "status": "retrying", "reason": "ConnectionError: reset", "attempt": 1,
    }  # fmt: skip
    assert entries[-1].data["result"] == {"rows": 3}
    async with Replica(redis_server.url) as replica, replica.watch("42") as viewer:
        await viewer.state()
        frames, close = await viewer.rest()
    assert (len(frames), close.code) == (4, 1000)


async def test_what_was_ended_by_another_is_not_ended_again(
    redis_server: Server, backend: Backend, reporters: Make
) -> None:
    """By a plain XADD, too; late updates behind an end do not hide it."""
    reporter = reporters(redis_server.url)
    reporter.started("42", run="1")
    await written_all(reporter)
    await backend.add("42", {"status": "cancelled"})
    for n in range(20):
        await backend.publish("42", progress=n / 20)
    await backend.add("42", {"log": b"\xff not UTF-8"})
    reporter.completed("42")
    reporter.failed("42", "late")
    reporter.retrying("42", "late")
    await written_all(reporter)
    assert await backend.client.xlen(PREFIX + "42") == 23

    reporter.started("42", run="2")  # run again, by who asks for it
    reporter.completed("42")
    await written_all(reporter)
    newest: Any = await backend.client.xrevrange(PREFIX + "42", count=1)
    assert b"operation_completed" in newest[0][1][b"message"]


async def test_of_two_who_end_it_at_once_one_does(
    redis_server: Server, backend: Backend, reporters: Make
) -> None:
    both = [reporters(redis_server.url) for _ in range(2)]
    for n in range(20):
        both[0].failed(f"n{n}", "lost")
        both[1].completed(f"n{n}")
    for one in both:
        await written_all(one)
    for n in range(20):
        assert len(await written(backend, f"n{n}")) == 1


async def test_a_task_notices_nothing_of_a_redis_that_is_away(
    redis_server: Server, backend: Backend, reporters: Make, caplog: pytest.LogCaptureFixture
) -> None:
    reporter = reporters(redis_server.url, progress_interval_s=30)
    reporter.progress("42", 0.1)
    await written_all(reporter)
    await redis_server.kill()
    with caplog.at_level(logging.WARNING):
        with reporter.operation("42", title="Import") as op:
            for n in op.track(range(1_000)):
                if n % 100 == 0:
                    assert op.publish("log", {"line": str(n)})
                assert not op.cancel_requested()
        assert not reporter.flush(0)
        assert not reporter.close(0)
    await redis_server.restart()
    reporter.flush(0)  # wakes it
    await written_all(reporter)
    entries = await written(backend)
    assert [one.data["line"] for one in entries if one.type == "log"] == [
        str(n) for n in range(0, 1_000, 100)
    ]
    assert bar(entries)[-1] == 1.0
    assert has_ended(entries)
    assert len([r for r in caplog.records if "waits for Redis" in r.message]) <= 1


async def test_entries_whose_answer_was_lost_are_not_written_twice(
    redis_server: Server, backend: Backend, reporters: Make
) -> None:
    async with Proxy((redis_server.host, redis_server.port)) as proxy:
        url = f"redis://{proxy.address}/0"
        reporter = reporters(RedisSettings(url=RedisUrl(url), reply_timeout_s=0.5))
        reporter.publish("42", "log", {"line": "0"})
        await written_all(reporter)
        proxy.down.swallow()
        reporter.publish("42", "log", {"line": "1"})
        reporter.completed("43")

        async def is_written() -> bool:
            return len(await written(backend)) == 2

        await until(is_written)
        assert not await asyncio.to_thread(reporter.flush, 0.1)  # it does not know
        proxy.cut()
        proxy.down.flow()
        await written_all(reporter)
    assert [one.data["line"] for one in await written(backend)] == ["0", "1"]
    assert steps(await written(backend, "43")) == ["operation_completed"]


async def test_viewers_are_told_of_what_did_not_fit(
    redis_server: Server, backend: Backend, reporters: Make
) -> None:
    reporter = reporters(redis_server.url, buffer_bytes=2_000)
    redis_server.pause()
    taken = [reporter.publish("42", "log", {"line": "x" * 100}) for _ in range(100)]
    reporter.completed("42")
    redis_server.resume()
    await written_all(reporter)
    entries = await written(backend)
    assert 0 < sum(taken) < 100
    assert sum(one.type == "log" for one in entries) == sum(taken)
    (said,) = [one for one in entries if one.type == "entries_lost"]
    assert said.data == {"count": 100 - sum(taken)}
    assert reporter.dropped == 100 - sum(taken)
    assert entries[-1].type == "operation_completed"


async def test_a_stream_that_cannot_be_written_costs_only_its_own(
    redis_server: Server, backend: Backend, reporters: Make, caplog: pytest.LogCaptureFixture
) -> None:
    await backend.client.set(PREFIX + "text", "no stream")
    reporter = reporters(redis_server.url)
    reporter.publish("text", "log", {})
    reporter.completed("text")
    reporter.completed("42")
    await written_all(reporter)
    assert steps(await written(backend)) == ["operation_completed"]
    assert "holds no stream" in caplog.text


async def test_the_parts_of_one_operation(
    redis_server: Server, backend: Backend, reporters: Make
) -> None:
    """Each in a worker of its own; the bar never goes back, and the last one ends it."""
    workers = [reporters(redis_server.url, progress_interval_s=0) for _ in range(3)]
    parts = [TaskPart(f"t{n}", 0.0, 3) for n in range(3)]
    for worker, part in zip(workers, parts, strict=True):
        worker.started("42", run="group", title="Group")
        await written_all(worker)
        worker.progress("42", 0.5, part=part._replace(fraction=0.5), message=part.name)
        await written_all(worker)
    workers[0].progress("42", 1.0, part=parts[0]._replace(fraction=1.0))  # may still fail
    await written_all(workers[0])
    for _ in range(2):  # one is delivered twice
        workers[0].completed("42", part=parts[0])
        await written_all(workers[0])
    workers[1].completed("42", part=parts[1])
    await written_all(workers[1])
    assert not has_ended(await written(backend))
    workers[2].completed("42", part=parts[2])
    workers[2].completed("42", part=parts[2])
    await written_all(workers[2])
    entries = await written(backend)
    assert steps(entries) == ["operation_started", "operation_completed"]
    figures = [round(at, 3) for at in bar(entries)]
    assert figures == [0.167, 0.333, 0.5, 0.666, 0.667, 0.667, 0.833]
    assert [one.data["parts"]["complete"] for one in entries if one.type == "progress"] == [
        0, 0, 0, 0, 1, 1, 2,
    ]  # fmt: skip
    assert 0 < await backend.client.ttl(f"{{{PREFIX}42}}:parts") <= 86_400


async def test_a_part_that_fails_fails_the_operation(
    redis_server: Server, backend: Backend, reporters: Make
) -> None:
    reporter = reporters(redis_server.url)
    reporter.failed("42", ValueError("row 7"))
    reporter.completed("42", part=TaskPart("a", 1.0, 2))
    reporter.completed("42", part=TaskPart("b", 1.0, 2))
    await written_all(reporter)
    assert [one.type for one in await written(backend)] == ["operation_failed"]


async def test_stop_is_learnt_in_the_background(
    redis_server: Server, backend: Backend, reporters: Make
) -> None:
    reporter = reporters(redis_server.url)
    called = threading.Event()

    async def work() -> None:
        with reporter.operation("42") as op:
            await written_all(reporter)
            reporter.on_cancel("42", called.set)
            op.raise_if_cancelled()
            await ask_to_cancel(backend, "42")
            await until(op.cancel_requested)
            await until(called.is_set)
            op.raise_if_cancelled()

    with pytest.raises(OperationCancelled, match="42"):
        await work()
    await written_all(reporter)
    assert steps(await written(backend)) == ["operation_started", "operation_cancelled"]


async def test_wrong_arguments_are_refused_before_they_are_in_the_buffer(
    redis_server: Server, backend: Backend, reporters: Make
) -> None:
    with pytest.raises(SettingsError):
        reporters("http://127.0.0.1")
    reporter = reporters(redis_server.url)
    for operation, fraction in (("4*2", 0.5), ("42", float("nan")), ("42", None)):
        with pytest.raises(InvalidInput):
            reporter.progress(operation, fraction)
    with pytest.raises(InvalidInput):
        reporter.publish("42", "log", {"object": object()})
    reporter.completed("42", result=object())  # the end counts, the result is left out
    reporter.completed("43", result="x" * 100_000)
    await written_all(reporter)
    assert (await written(backend))[-1].data == {"status": "completed"}
    assert (await written(backend, "43"))[-1].data == {"status": "completed"}


async def test_log_records(redis_server: Server, backend: Backend, reporters: Make) -> None:
    reporter = reporters(redis_server.url)
    logger = logging.Logger("app")  # noqa: LOG001 - of this test alone
    with reporter.operation("42") as op:
        logger.addHandler(OperationHandler(op))
        logger.debug("not for viewers")
        logger.warning("login of %s with password=%s", "ann", "hunter2")
        logging.Logger("tidegate.client").handle(  # noqa: LOG001
            logging.LogRecord("tidegate.client", logging.ERROR, "", 0, "own", None, None)
        )
    await written_all(reporter)
    logs = [one.data for one in await written(backend) if one.type == "log"]
    assert logs == [
        {"line": "login of ann with password=[redacted]", "level": "warning", "logger": "app"}
    ]


async def test_log_records_are_bounded_in_rate(
    redis_server: Server, backend: Backend, reporters: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("tidegate.integrations.log_handler.monotonic", lambda: now)
    reporter = reporters(redis_server.url)
    logger = logging.Logger("app")  # noqa: LOG001
    with reporter.operation("42") as op:
        logger.addHandler(OperationHandler(op))
        for n in range(RATE_MAX + 7):
            logger.info("%d", n)
        now = 101.0
        logger.info("later")
    await written_all(reporter)
    logs = [one.data for one in await written(backend) if one.type == "log"]
    assert len(logs) == RATE_MAX + 1
    assert (logs[-1]["line"], logs[-1]["left_out"]) == ("later", 7)


async def test_threads_keep_the_order_of_each(
    redis_server: Server, backend: Backend, reporters: Make
) -> None:
    reporter = reporters(redis_server.url, cap=0)

    def work(name: str) -> None:
        for n in range(300):
            reporter.progress("42", n / 300)
            assert reporter.publish("42", "log", {"line": f"{name} {n}"})

    await asyncio.gather(*(asyncio.to_thread(work, name) for name in "abcd"))
    await written_all(reporter)
    lines = [one.data["line"] for one in await written(backend) if one.type == "log"]
    for name in "abcd":
        assert [x for x in lines if x[0] == name] == [f"{name} {n}" for n in range(300)]


def test_forks_signals_and_the_end_of_the_process(redis_server: Server, tmp_path: Path) -> None:
    """As a pre-forking worker uses it: made before the fork, never closed."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import os, signal, sys
            from tidegate.integrations import TaskReporter

            reporter = TaskReporter(sys.argv[1], progress_interval_s=30)
            reporter.progress("parent", 0.1)
            reporter.flush(60)
            reporter.progress("parent", 0.2)   # held: a thread waits for it
            signal.signal(signal.SIGALRM, lambda *_: reporter.progress("parent", 0.25))
            child = os.fork()
            if child == 0:
                reporter.progress("child", 0.3)
                reporter.completed("child")
                os._exit(0 if reporter.flush(60) else 1)
            assert os.waitpid(child, 0)[1] == 0
            with reporter._wake:               # a signal handler may report while it is held
                os.kill(os.getpid(), signal.SIGALRM)
            reporter.completed("parent")       # the end of the process writes it
            """
        )
    )
    subprocess.run([sys.executable, program, redis_server.url], check=True, timeout=90)

    async def check() -> None:
        async with redis_server.client() as client:
            backend = Backend(client)
            assert bar(await written(backend, "child")) == [0.3]
            assert has_ended(await written(backend, "child"))
            assert bar(await written(backend, "parent")) == [0.1, 0.25]
            assert has_ended(await written(backend, "parent"))

    asyncio.run(check())


async def test_the_documented_rights_are_enough(redis_server: Server, backend: Backend) -> None:
    rights = documented_rights("publisher")
    await backend.client.execute_command("ACL", "SETUSER", "publisher", "on", ">pw", *rights)
    url = redis_server.url.replace("://", "://publisher:pw@")
    try:
        reporter = TaskReporter(url)
        with reporter.operation("42") as op:
            op.publish("log", {"line": "a"})
            assert not op.cancel_requested()
        reporter.completed("43", part=TaskPart("a", 1.0, 1))
        await written_all(reporter)
        reporter.close()
    finally:
        await backend.client.execute_command("ACL", "DELUSER", "publisher")
    assert has_ended(await written(backend))
    assert has_ended(await written(backend, "43"))


@pytest.mark.full
async def test_on_a_cluster(cluster: Cluster, reporters: Make) -> None:
    """What stands beside a stream is in its slot; each operation is on a primary of its own."""
    reporter = reporters(cluster.url)
    async with cluster.client() as client:
        backend = Backend(cast("Any", client))
        for n in range(20):
            operation = f"n{n}"
            with reporter.operation(operation) as op:
                op.publish("log", {"line": "a"})
                for _ in op.track(range(100)):
                    assert not op.cancel_requested()
            reporter.completed(f"p{n}", part=TaskPart("a", 1.0, 1))
        await written_all(reporter)
        for n in range(20):
            entries = await written(backend, f"n{n}")
            assert steps(entries) == ["operation_started", "operation_completed"]
            assert bar(entries)[-1] == 1.0
            assert has_ended(await written(backend, f"p{n}"))
