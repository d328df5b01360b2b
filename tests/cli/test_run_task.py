"""`tidegate run-task` with real programs and a real server."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.cli.command import Done, finish, invoke, run, start
from tests.harness.backend import Backend
from tests.harness.waiting import until
from tests.integrations.stream import ask_to_cancel, bar, steps, written
from tests.servers.ports import free_port
from tests.servers.standalone import Server


async def run_task(server: Server, *arguments: str) -> Done:
    return await run("run-task", "--redis", server.url, "--operation", "42", *arguments)


async def test_output_progress_and_exit_code(redis_server: Server) -> None:
    script = (
        'echo "begin $OPERATION_ID"; printf "10%%\\r50%%\\r"; echo "password=hunter2" >&2; '
        "echo 100%; exit 7"
    )
    done = await run_task(redis_server, "--title", "Export", "--", "sh", "-c", script)
    assert done.code == 7, done
    assert done.out == "begin 42\n10%\r50%\r100%\n"
    assert done.err == "password=hunter2\n"
    async with redis_server.client() as client:
        entries = await written(Backend(client))
    assert steps(entries) == ["operation_started", "operation_failed"]
    assert entries[0].data == {"status": "running", "title": "Export"}
    logs = [(one.data["line"], one.data["stream"]) for one in entries if one.type == "log"]
    assert sorted(logs) == [
        ("100%", "stdout"),
        ("begin 42", "stdout"),
        ("password=[redacted]", "stderr"),
    ]
    assert bar(entries)[-1] == 1.0
    assert entries[-1].data == {"status": "failed", "error": "exit code 7", "exit_code": 7}


@pytest.mark.full
async def test_ends_of_every_kind(redis_server: Server) -> None:
    async def end_of(*command: str) -> tuple[int, dict[str, object]]:
        done = await run_task(redis_server, "--no-log", "--", *command)
        async with redis_server.client() as client:
            entries = await written(Backend(client))
        return done.code, entries[-1].data

    assert await end_of("true") == (0, {"status": "completed", "exit_code": 0})
    code, data = await end_of("sh", "-c", "kill -KILL $$")
    assert (code, data["error"]) == (137, "ended by SIGKILL")
    code, data = await end_of("/no/such/program")
    assert (code, data["status"]) == (127, "failed")
    assert "No such file" in str(data["error"])


@pytest.mark.parametrize(
    "how",
    [
        "cancel",
        pytest.param("SIGINT", marks=pytest.mark.full),
        pytest.param("SIGTERM", marks=pytest.mark.full),
    ],
)
async def test_stopped_with_all_that_it_started(
    redis_server: Server, tmp_path: Path, how: str
) -> None:
    """The script's child ignores SIGTERM: it is killed when the time is over."""
    (tmp_path / "child.py").write_text(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('child is there', flush=True)\n"
        "time.sleep(3600)\n"
    )
    script = f"{sys.executable} {tmp_path}/child.py & echo $!; wait"
    process = await start(
        "run-task", "--redis", redis_server.url, "--operation", "42", "--grace", "0.2",
        "--", "sh", "-c", script,
    )  # fmt: skip
    assert process.stdout is not None
    said = [(await process.stdout.readline()).decode().strip() for _ in range(2)]
    child = next(int(line) for line in said if line.isdigit())
    assert "child is there" in said
    async with redis_server.client() as client:
        if how == "cancel":
            await ask_to_cancel(Backend(client), "42")
        else:
            process.send_signal(signal.Signals[how])
        done = await finish(process)
        entries = await written(Backend(client))
    assert done.code == {"cancel": 3, "SIGINT": 130, "SIGTERM": 143}[how], done
    assert steps(entries) == ["operation_started", "operation_cancelled"]
    await until(lambda: not is_alive(child))


@pytest.mark.full
async def test_without_redis_the_program_runs_all_the_same() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    done = await run("run-task", "--redis", url, "--operation", "42", "--", "sh", "-c", "echo a")
    assert (done.code, done.out) == (0, "a\n")
    assert "did not take the last updates in time" in done.err


async def test_wrong_use(redis_server: Server) -> None:
    done = await invoke("run-task", "--redis", redis_server.url, "--operation", "4*2", "--", "true")
    assert done.code == 2
    assert "operation" in done.err


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
