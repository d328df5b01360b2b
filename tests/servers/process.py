"""A child process on a leash: started with a log file, signalled, awaited, never left behind.

Not bound to an event loop: a process may be started in one test's loop and ended in another's.
It leads its own session, so that Ctrl-C reaches the test run first and the run ends its servers in
its own order. Three things end it at the latest: `close`, `atexit`, and the kernel (see `leash`).
"""

import asyncio
import atexit
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

_LEASH = Path(__file__).with_name("leash.py")
_alive: set["Process"] = set()


@atexit.register
def _end_all() -> None:
    for process in list(_alive):
        process.close()


class ProcessError(Exception):
    """A process did not do what it was asked to; the text ends with its log."""

    def __init__(self, message: str, process: "Process") -> None:
        self.process = process
        super().__init__(f"{message}\n--- {process.log_file}\n{process.log_tail()}")


class Process:
    """One command, which may be started again after it ended. The log file is appended to."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log_file: Path,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.command = [str(part) for part in command]
        self.log_file = log_file
        self.directory = directory
        self.environment = environment
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._popen is None:
            raise ProcessError("not started", self)
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal; None while running or before the first start."""
        return None if self._popen is None else self._popen.poll()

    @property
    def running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def log_tail(self, lines: int = 40) -> str:
        try:
            text = self.log_file.read_text(errors="replace")
        except OSError as error:
            return f"(no log: {error})"
        return "\n".join(text.splitlines()[-lines:])

    def spawn(self) -> None:
        """Start the command. Returns at once: readiness is the caller's to find out."""
        if self.running:
            raise ProcessError("already running", self)
        leash = [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid())]
        with self.log_file.open("ab") as log:
            self._popen = subprocess.Popen(
                [*leash, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=None if self.environment is None else {**os.environ, **self.environment},
                start_new_session=True,
            )
        _alive.add(self)

    def signal(self, number: signal.Signals) -> None:
        if self._popen is not None:
            self._popen.send_signal(number)

    def pause(self) -> None:
        """SIGSTOP: the process keeps its sockets and answers nobody."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    async def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.signal(signal.SIGKILL)
        await self.wait()

    async def stop(self, timeout_s: float = 10) -> int:
        """SIGTERM, and wait for the end. Killed after `timeout_s`, and ProcessError raised."""
        self.resume()  # a stopped process would never see the SIGTERM
        self.signal(signal.SIGTERM)
        try:
            return await self.wait(timeout_s)
        except TimeoutError:
            await self.kill()
            raise ProcessError(f"did not stop within {timeout_s} s of SIGTERM", self) from None

    async def wait(self, timeout_s: float | None = None) -> int:
        """Wait for the end and return the exit status. TimeoutError leaves it running."""
        if self._popen is None:
            raise ProcessError("not started", self)
        popen = self._popen
        return await asyncio.to_thread(_wait, popen, timeout_s)

    def close(self) -> None:
        """Kill the whole process group and reap the process. Any number of times, from anywhere."""
        popen = self._popen
        _alive.discard(self)
        if popen is None or popen.returncode is not None:
            return
        try:
            os.killpg(popen.pid, signal.SIGKILL)
        except ProcessLookupError:  # not yet a group leader, or already reaped
            popen.kill()
        popen.wait()

    async def __aenter__(self) -> Self:
        self.spawn()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()


def _wait(popen: subprocess.Popen[bytes], timeout_s: float | None) -> int:
    try:
        return popen.wait(timeout_s)
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
