"""tqdm, LangChain core and gevent, with the real libraries in a process of their own."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.harness import programs
from tests.harness.backend import Backend
from tests.integrations.environment import ROOT, path_of_tests, python
from tests.integrations.stream import Written, bar, steps, written
from tests.servers.standalone import Server

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

STARTED, COMPLETED = "operation_started", "operation_completed"
FAILED, CANCELLED = "operation_failed", "operation_cancelled"


async def run(program: str, server: Server) -> str:
    """Run a program with the libraries; what it said on stderr."""
    process = await asyncio.create_subprocess_exec(
        python(), "-m", f"tests.integrations.programs.{program}",
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path_of_tests(), "TIDEGATE_REDIS__URL": server.url},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    done = await programs.ended(process)
    assert done.code == 0, done.err
    return done.err


async def test_tqdm(redis_server: Server, backend: Backend) -> None:
    drawn = await run("bars", redis_server)
    assert "Import: 100%" in drawn
    for operation, end in (
        ("loop", COMPLETED),
        ("quiet", COMPLETED),
        ("left", CANCELLED),
        ("broken", FAILED),
        ("block", FAILED),
        ("counted", COMPLETED),
        ("whole", COMPLETED),
    ):
        entries = await written(backend, operation)
        assert steps(entries) == [STARTED, end], operation
    assert (await written(backend, "loop"))[0].data["title"] == "Import"
    assert bar(await written(backend, "quiet"))[-1] == 1.0
    assert (await written(backend, "left"))[-2].data["current"] == 100
    assert (await written(backend, "broken"))[-2].data["current"] == 3
    assert (await written(backend, "broken"))[-1].data["error"] == "ValueError: row 3"
    assert (await written(backend, "block"))[-1].data["error"] == "ValueError: row 5"
    assert (await written(backend, "counted"))[-2].data["unit"] == "B"


async def test_langchain(redis_server: Server, backend: Backend) -> None:
    await run("chains", redis_server)

    def text(entries: list[Written]) -> str:
        return "".join(one.data["text"] for one in entries if one.type == "append")

    def states(entries: list[Written]) -> list[tuple[str, str]]:
        return [(one.data["kind"], one.data["state"]) for one in entries if one.type == "step"]

    for operation in ("stream", "async"):
        entries = await written(backend, operation)
        assert text(entries) == "The answer, token by token: größer."
        assert states(entries) == [("model", "running"), ("model", "completed")]
        assert entries[-1].type == COMPLETED
    assert text(await written(backend, "chunks")) == "The answer, token by token: größer."
    tools = await written(backend, "tools")
    assert states(tools) == [("tool", "running"), ("tool", "completed")]
    assert [one.data["name"] for one in tools if one.type == "step"] == ["search", "search"]
    broken = await written(backend, "error")
    assert [one for one in states(broken) if one[1] == "failed"]
    assert "hunter2" not in str(broken)
    assert "no, password=[redacted]" in str(broken)


async def test_gevent(redis_server: Server, backend: Backend) -> None:
    await run("greenlets", redis_server)
    for number in range(20):
        entries = await written(backend, f"g{number}")
        assert [one.type for one in entries if one.type != "progress"] == [
            STARTED, "log", "log", "log", "log", COMPLETED,
        ]  # fmt: skip
        assert bar(entries)[-1] == 1.0
