"""The real command, with nothing of this machine's settings.

`run` and `start` have a process of their own: for signals, pipes, and once for each command.
`invoke` is for what a command says and does otherwise: the same, without starting a Python.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio import StreamReader
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import typer
from typer.testing import CliRunner

from tests.harness.logs import logging_as_before
from tests.harness.programs import Done, end, ended
from tidegate.cli import console
from tidegate.cli.main import app

__all__ = [
    "COMMAND",
    "Done",
    "end",
    "end_all",
    "environment",
    "finish",
    "invoke",
    "invoke_app",
    "launch",
    "run",
    "start",
    "started",
]
COMMAND = (sys.executable, "-m", "tidegate.cli.main")
TIMEOUT_S = 30
#: A `make` of a test must not take over the variables of the `make test` around it.
OF_MAKE = ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS")
_started: list[Process] = []


def environment(**more: str) -> dict[str, str]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith("TIDEGATE_") and name not in OF_MAKE
    }
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
        await end(_started.pop())


async def finish(process: Process, stdin: str = "") -> Done:
    # Also without input: it closes stdin.
    return await ended(process, TIMEOUT_S, stdin.encode())


@asynccontextmanager
async def started(*arguments: str, **env: str) -> AsyncIterator[tuple[Process, StreamReader]]:
    """The command and its stdout, for as long as it is of interest."""
    process = await start(*arguments, **env)
    assert process.stdout is not None
    try:
        yield process, process.stdout
    finally:
        await end(process)


async def run(*arguments: str, stdin: str = "", **env: str) -> Done:
    return await finish(await start(*arguments, **env), stdin)


async def invoke(*arguments: str, stdin: str | bytes = "", **env: str) -> Done:
    """As `run`, in a thread of this process; not where others of it write to stdout meanwhile."""
    return await invoke_app(app, *arguments, stdin=stdin, **env)


async def invoke_app(
    app: typer.Typer, *arguments: str, stdin: str | bytes = "", **env: str
) -> Done:
    """As `invoke`, of another program."""
    wanted = environment(**env)
    changes: dict[str, Any] = {name: wanted.get(name) for name in os.environ.keys() | wanted.keys()}

    def work() -> Done:
        result = CliRunner().invoke(
            app, arguments, input=stdin, env=changes, prog_name=app.info.name or None
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    _forget_consoles()
    try:
        with logging_as_before():
            return await asyncio.to_thread(work)
    finally:
        _forget_consoles()


def _forget_consoles() -> None:
    """They have the width of the terminal that was there when they were made."""
    console.stdout.cache_clear()
    console.stderr.cache_clear()
