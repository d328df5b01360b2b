"""What a program said is told, and no pipe survives a test."""

from __future__ import annotations

import asyncio
import gc
import os
import shlex
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

import pytest

from tests.harness import programs
from tests.harness.waiting import until

#: In no group of whoever starts it, it keeps the pipes open and writes its id into a file.
ESCAPED = """
import os, pathlib, sys, time
os.setsid()
new = pathlib.Path(sys.argv[1] + ".new")
new.write_text(str(os.getpid()))
new.rename(sys.argv[1])
time.sleep(600)
"""


async def shell(script: str) -> Process:
    return await asyncio.create_subprocess_exec(
        "sh", "-c", script, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, start_new_session=True
    )


async def test_how_it_ended_and_what_it_said() -> None:
    done = await programs.ended(await shell("echo out; echo err >&2; exit 3"), 60)
    assert done == programs.Done(3, "out\n", "err\n")


async def test_what_it_said_is_told_when_it_does_not_end() -> None:
    process = await shell("echo before; exec sleep 99")
    assert process.stdout is not None
    buffered = process.stdout._buffer  # type: ignore[attr-defined]
    await until(lambda: buffered)
    with pytest.raises(AssertionError, match=r"within 0\.1 s; it said:\nbefore"):
        await programs.ended(process, 0.1)
    assert process.returncode == -signal.SIGKILL


async def test_its_pipes_are_closed_although_somebody_holds_their_other_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "pid"
    starts = shlex.join([sys.executable, "-c", ESCAPED, str(file)])
    process = await shell(f"echo before; {starts} & wait")
    assert process.stdout is not None
    buffered = process.stdout._buffer  # type: ignore[attr-defined]
    await until(lambda: buffered)
    waiting = asyncio.create_task(programs.ended(process, 60))
    await until(lambda: not buffered and file.exists())
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    os.kill(int(file.read_text()), signal.SIGKILL)
    assert "it said:\nbefore" in capfd.readouterr().err
    del process, waiting
    gc.collect()  # an open pipe would warn, and warnings are errors
