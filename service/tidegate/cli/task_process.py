"""A program that runs as an operation: its output read and passed on, its end reported.

| what happens                     | the program gets           | the operation | exit code  |
|----------------------------------|----------------------------|---------------|------------|
| it ends with 0                   |                            | completed     | 0          |
| it ends with another code        |                            | failed        | that one   |
| a signal ends it                 |                            | failed        | 128 + it   |
| it cannot be started             |                            | failed        | 127        |
| a viewer asks to cancel          | SIGTERM, SIGKILL later     | cancelled     | 3          |
| SIGINT or SIGTERM comes to us    | the same                   | cancelled     | 130 or 143 |

Signals go to its process group, so that what a script has started ends with it. A process that left
the group and keeps the output open is not waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from asyncio import StreamReader
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import BinaryIO

from tidegate.cli.console import CANCELLED
from tidegate.integrations.line_rate import LineRate
from tidegate.integrations.log_handler import LOG
from tidegate.integrations.reported import TaskOperation
from tidegate.integrations.reporter import TaskReporter

NOT_STARTED = 127
LINE_MAX_BYTES = 2_000
READ_BYTES = 65_536
#: Behind the end of the program, for output that is still in the pipes.
REST_S = 1.0
_END_OF_LINE = re.compile(rb"\r\n|\n|\r")
_PERCENT = re.compile(r"(?<![\d.])(100(?:\.0+)?|\d{1,2}(?:\.\d+)?)\s?%")
#: Colours and moves of the cursor.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-_])")


class Lines:
    """Cuts output into lines; one that is too long is cut off, and its rest ignored.

    A line that ends with a carriage return is drawn over by the next one: it is no line of a log.
    """

    def __init__(self) -> None:
        self._held = b""
        self._after_cr = False

    def feed(self, data: bytes) -> list[tuple[str, bool]]:
        """The lines that are complete now, and whether each of them stays on the screen."""
        found = []
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]  # the other half of a line end that was read in two parts
        self._after_cr = data.endswith(b"\r")
        start = 0
        for end in _END_OF_LINE.finditer(data):
            found.append((self._line(data[start : end.start()]), end[0] != b"\r"))
            start = end.end()
        self._held = (self._held + data[start:])[:LINE_MAX_BYTES]
        return found

    def rest(self) -> list[tuple[str, bool]]:
        """What has no line end."""
        return [(self._line(b""), True)] if self._held else []

    def _line(self, data: bytes) -> str:
        whole, self._held = (self._held + data)[:LINE_MAX_BYTES], b""
        return _ESCAPES.sub("", whole.decode(errors="replace")).rstrip()


def percent_of(line: str) -> float | None:
    """The last percentage of a line, as a fraction."""
    found = _PERCENT.findall(line)
    return float(found[-1]) / 100 if found else None


class TaskProcess:
    """One run of a program."""

    def __init__(
        self,
        reporter: TaskReporter,
        operation: str,
        command: Sequence[str],
        *,
        title: str | None,
        log: bool,
        percent: bool,
        grace_s: float,
    ) -> None:
        self._reporter = reporter
        self._op = TaskOperation(reporter, operation)
        self._command = command
        self._title = title or PurePath(command[0]).name
        self._log = log
        self._percent = percent
        self._grace_s = grace_s
        self._rate = LineRate()
        self._stopped = asyncio.Event()
        self._stop_code = 0

    async def run(self) -> int:
        """Until it has ended; the exit code."""
        self._reporter.started(self._op.id, title=self._title)
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdout=PIPE,
                stderr=PIPE,
                start_new_session=True,
                env={**os.environ, "OPERATION_ID": self._op.id},
            )
        except OSError as error:
            text = f"cannot start {self._command[0]}: {error.strerror or error}"
            sys.stderr.write(f"tidegate: {text}\n")
            self._op.end("failed", text)
            return NOT_STARTED
        with self._listening():
            return await self._until_end(process)

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()

        def stop(code: int) -> None:
            self._stop_code = self._stop_code or code
            self._stopped.set()

        def asked() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(stop, CANCELLED)

        self._reporter.on_cancel(self._op.id, asked)
        for one in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(one, stop, 128 + one)
        try:
            yield
        finally:
            self._reporter.no_cancel(self._op.id)

    async def _until_end(self, process: Process) -> int:
        outputs = (
            (process.stdout, sys.stdout.buffer, "stdout"),
            (process.stderr, sys.stderr.buffer, "stderr"),
        )
        reading = asyncio.gather(*(self._read(*one) for one in outputs))
        ended = asyncio.create_task(process.wait(), name="wait for the program")
        stopped = asyncio.create_task(self._stopped.wait(), name="wait for a stop")
        await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            await self._end(process, ended)
        stopped.cancel()
        code = await ended
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REST_S):
                await reading
        return self._report(code)

    async def _end(self, process: Process, ended: asyncio.Task[int]) -> None:
        _signal_group(process, signal.SIGTERM)
        await asyncio.wait({ended}, timeout=self._grace_s)
        if not ended.done():
            _signal_group(process, signal.SIGKILL)

    def _report(self, code: int) -> int:
        if self._stop_code:
            self._op.end("cancelled")
            return self._stop_code
        if code == 0:
            self._op.end("completed", exit_code=0)
            return 0
        if code < 0:
            name = signal.Signals(-code).name
            self._op.end("failed", f"ended by {name}", signal=name)
            return 128 - code
        self._op.end("failed", f"exit code {code}", exit_code=code)
        return code

    async def _read(self, source: StreamReader | None, sink: BinaryIO, stream: str) -> None:
        lines = Lines()
        while source is not None and (data := await source.read(READ_BYTES)):
            _write(sink, data)
            for line, stays in lines.feed(data):
                self._line(line, stream, stays=stays)
        for line, stays in lines.rest():
            self._line(line, stream, stays=stays)

    def _line(self, line: str, stream: str, *, stays: bool) -> None:
        if not line:
            return
        if self._percent and (at := percent_of(line)) is not None:
            self._op.progress(at)
        if self._log and stays and self._rate.accept(time.monotonic()):
            data = {"line": self._reporter.redact(line), "stream": stream}
            self._op.publish(LOG, data | self._rate.left_out())


def _write(sink: BinaryIO, data: bytes) -> None:
    try:
        sink.write(data)
        sink.flush()
    except BrokenPipeError:
        return  # nobody reads it; viewers still do


def _signal_group(process: Process, one: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, one)
