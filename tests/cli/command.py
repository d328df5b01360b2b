"""The real command in a process of its own, with nothing of this machine's settings."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from typing import NamedTuple

COMMAND = (sys.executable, "-m", "tidegate.cli.main")
TIMEOUT_S = 30


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
    return await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment(**env)
    )


async def finish(process: Process, stdin: str | None = None) -> Done:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            out, err = await process.communicate(None if stdin is None else stdin.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Done(process.returncode or 0, out.decode(), err.decode())


async def run(*arguments: str, stdin: str | None = None, **env: str) -> Done:
    return await finish(await start(*arguments, **env), stdin)
