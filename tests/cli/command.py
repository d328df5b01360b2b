"""The real command in a process of its own, with nothing of this machine's settings."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio import StreamReader
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

COMMAND = (sys.executable, "-m", "tidegate.cli.main")
TIMEOUT_S = 30
_started: list[Process] = []


class Done(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


def environment(**more: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.upper().startswith("TIDEGATE_")}
    # A fixed width and no colours, whatever terminal the tests run in.
    return clean | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"} | more


async def start(*arguments: str, **env: str) -> Process:
    return await launch(COMMAND, *arguments, **env)


async def launch(program: tuple[str, ...], *arguments: str, **env: str) -> Process:
    """As `start`, by another way to the command."""
    process = await asyncio.create_subprocess_exec(
        *program, *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment(**env)
    )
    _started.append(process)
    return process


async def end_all() -> None:
    """What a test left running, most likely because it failed; see `conftest`."""
    while _started:
        await kill(_started.pop())


async def finish(process: Process, stdin: str = "") -> Done:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            # Also without input: it closes stdin.
            out, err = await process.communicate(stdin.encode())
    except TimeoutError:
        await kill(process)
        raise
    return Done(process.returncode or 0, out.decode(), err.decode())


async def kill(process: Process) -> None:
    """End it and take what it still says, so that its pipes are closed too."""
    if process.returncode is None:
        process.kill()
    await process.communicate()


@asynccontextmanager
async def started(*arguments: str, **env: str) -> AsyncIterator[tuple[Process, StreamReader]]:
    """The command and its stdout, for as long as it is of interest."""
    process = await start(*arguments, **env)
    assert process.stdout is not None
    try:
        yield process, process.stdout
    finally:
        await kill(process)


async def run(*arguments: str, stdin: str = "", **env: str) -> Done:
    return await finish(await start(*arguments, **env), stdin)
