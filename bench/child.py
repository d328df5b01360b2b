"""One process of a run: started on its core, asked in JSON lines, and never left behind.

Invariant: a child ends when the block that started it is left, and is killed by the kernel when
the bench itself is killed. Its output goes to a log file, of which an error shows the end.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.errors import ProcessFailed
from bench.procfs import die_with_parent, step_back

REPOSITORY: Final = Path(__file__).resolve().parents[1]
LOG_TAIL_LINES: Final = 20


@dataclass(frozen=True, slots=True)
class Child:
    """A running process; `ask` needs one that speaks JSON lines."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    async def ask(self, do: str, *, timeout_s: float, **arguments: Any) -> dict[str, Any]:
        """Send one command, return its answer.

        Raises `ProcessFailed` on an error answer, no response in time, or death."""
        if self.process.stdin is None or self.process.stdout is None:
            raise ProcessFailed(self.name, "was started without pipes", "")
        line = json.dumps({"do": do, **arguments}) + "\n"
        try:
            self.process.stdin.write(line.encode())
            await self.process.stdin.drain()
            async with asyncio.timeout(timeout_s):
                reply = await self.process.stdout.readline()
        except TimeoutError:
            raise self.failed(f"gave no answer to {do!r} in {timeout_s:.0f} s") from None
        except OSError:
            reply = b""
        if not reply:
            raise self.failed(f"ended during {do!r}")
        answer: dict[str, Any] = json.loads(reply)
        if "error" in answer:
            raise self.failed(f"could not {do}: {answer['error']}")
        return answer

    def check(self) -> None:
        """Raise `ProcessFailed` when it has ended."""
        if self.process.returncode is not None:
            raise self.failed(f"ended with status {self.process.returncode}")

    def failed(self, what: str) -> ProcessFailed:
        lines = self.log.read_text(errors="replace").splitlines()
        return ProcessFailed(self.name, what, "\n".join(lines[-LOG_TAIL_LINES:]))

    async def end(self) -> None:
        """Kill it: a server that drains thousands of viewers would disturb the next round."""
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


@asynccontextmanager
async def running(
    name: str,
    argv: Sequence[str],
    *,
    folder: Path,
    cores: frozenset[int],
    niceness: int = 0,
    talks: bool = False,
) -> AsyncIterator[Child]:
    """A child for the time of the block.

    `cores` are those it may use; `talks` gives it pipes for `ask`.
    Raises `ProcessFailed` when it cannot be executed."""
    log = folder / f"{name}.log"

    def prepare() -> None:
        die_with_parent()
        os.sched_setaffinity(0, cores)
        step_back(niceness)

    with log.open("wb") as output:
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE if talks else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if talks else output,
                stderr=output,
                cwd=REPOSITORY,
                # Ctrl-C is for the bench, which ends its children in order.
                start_new_session=True,
                preexec_fn=prepare,
            )
        except OSError as error:
            what = f"cannot be started: {argv[0]}: {error.strerror}"
            raise ProcessFailed(name, what, "") from error
    child = Child(name, process, log)
    try:
        yield child
    finally:
        # Shielded: a second Ctrl-C must not leave it behind.
        await asyncio.shield(child.end())
