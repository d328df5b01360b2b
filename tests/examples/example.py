"""An example, started with its one command; what it says is kept, and it must end in order."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.cli.command import environment
from tests.servers import binaries

ROOT = Path(__file__).parents[2]
#: Of packages and programs that a test needs.
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "tidegate" / "examples"
TIMEOUT_S = 60.0


class Example:
    """The command and its lines so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""
        self._more = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def until(self, *patterns: str) -> tuple[str, ...]:
        """The first group of each pattern, when all of them are found in what it says."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                found = [re.search(pattern, self.said, re.MULTILINE) for pattern in patterns]
                if all(found):
                    return tuple(match.group(match.re.groups) for match in found if match)
                assert not self._reading.done(), f"it ended without {patterns}:\n{self.said}"
                self._more.clear()
                await self._more.wait()

    async def end(self) -> int:
        """SIGTERM, as Ctrl-C; the exit code when all of its processes have closed their output."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        await self._reading
        return await self.process.wait()

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.said += line.decode(errors="replace")
            self._more.set()
        self._more.set()


@asynccontextmanager
async def started(
    name: str, python: str | Path = sys.executable, **env: str
) -> AsyncIterator[Example]:
    """`python -m examples.<name>.start`, ended at the end, with exit code 0."""
    process = await asyncio.create_subprocess_exec(
        python, "-m", f"examples.{name}.start",
        cwd=ROOT, env=environment(**env), stdout=PIPE, stderr=STDOUT, start_new_session=True,
    )  # fmt: skip
    example = Example(process)
    try:
        yield example
    except AssertionError as error:
        error.add_note(example.said[-6_000:])
        raise
    finally:
        async with asyncio.timeout(TIMEOUT_S):
            code = await example.end()
    assert code == 0, example.said


async def run(*command: str | Path, cwd: Path, **env: str) -> tuple[int, str]:
    """The exit code of a command, and what it says."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=environment(**env), stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode(errors="replace")


def chromium() -> Path:
    program = binaries.browser()
    assert program is not None
    return program
