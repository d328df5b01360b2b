"""Child processes of ``tidegate run``: started on a leash, heard, and ended for certain.

A child leads its own session, so that Ctrl-C reaches only the parent, which ends its children in
its own order. Three things end a child at the latest: ``Child.stop``, the leash when the parent
dies, and the janitor.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tidegate.cli import janitor, leash

#: What is kept of a child's output, for the message when it does not come up.
TAIL_LINES = 20
MAX_LINE_BYTES = 65_536


class ProcessReaper:
    """The parent's end of ``janitor``: it has the temporary folder and knows who is alive."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self._process = process
        self.folder = folder

    @classmethod
    async def start(cls) -> ProcessReaper:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", janitor.__file__),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        if process.stdout is None:  # pragma: no cover - a pipe was asked for
            raise OSError("the janitor has no stdout")
        folder = (await process.stdout.readline()).decode().strip()
        if not folder:
            raise OSError("the janitor did not start")
        return cls(process, Path(folder))

    def born(self, pid: int) -> None:
        self._tell(f"+{pid}\n")

    def gone(self, pid: int) -> None:
        self._tell(f"-{pid}\n")

    def _tell(self, line: str) -> None:
        if self._process.stdin is not None and self._process.returncode is None:
            self._process.stdin.write(line.encode())

    async def close(self) -> None:
        """Have it clean up, and wait until it has."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._process.wait()


class Child:
    """One command, which may be started again after it ended. ``hear`` gets its output by lines."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        caretaker: ProcessReaper,
        hear: Callable[[str, str], None],
        environment: Mapping[str, str] | None = None,
        orphan_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        self.name = name
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._command = list(command)
        self._caretaker = caretaker
        self._hear = hear
        self._environment = environment
        self._orphan_signal = orphan_signal
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        return 0 if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", leash.__file__),
            *(str(os.getpid()), str(int(self._orphan_signal))),
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=None if self._environment is None else dict(self._environment),
            limit=MAX_LINE_BYTES,
            start_new_session=True,
        )
        self._caretaker.born(self._process.pid)

    async def run(self) -> int:
        """Hear it until it ends; the exit status, negative for a signal."""
        process = self._process
        if process is None or process.stdout is None:
            raise RuntimeError(f"{self.name} was not started")
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # longer than MAX_LINE_BYTES; the reader has dropped it
                continue
            if not line:
                break
            text = line.decode(errors="replace").rstrip()
            self.tail.append(text)
            self._hear(self.name, text)
        status = await process.wait()
        self._caretaker.gone(process.pid)
        return status

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, then SIGKILL after ``grace_s``. Someone must be in ``run``."""
        if self._process is None:
            return
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                await self._process.wait()
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self._process.wait()
