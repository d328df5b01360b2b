"""A worker of a real library on a real broker, and a Redis of its own for progress."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.harness import programs
from tests.harness.backend import Backend
from tests.harness.waiting import until
from tests.integrations.environment import ROOT, path_of_tests, python
from tests.integrations.stream import Written, ask_to_cancel, has_ended, written
from tests.servers import binaries
from tests.servers.standalone import Options, Server

PROGRAMS = "tests.integrations.programs"
STOP_S = 20


class Worker:
    """A process of workers, and one of `send`, which gives it tasks. Use `working`."""

    def __init__(self, program: str, broker: Server, progress: Server, backend: Backend) -> None:
        self.program = program
        self.broker = broker
        self.progress = progress
        self.backend = backend
        self.meeting: Any = broker.client(decode_responses=True)
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("TIDEGATE_")},
            "PYTHONPATH": path_of_tests(),
            "PYTHONWARNINGS": "default",
            "BROKER": broker.url,
            "TIDEGATE_REDIS__URL": progress.url,
        }
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        self._process: subprocess.Popen[bytes] | None = None
        self._sender: asyncio.subprocess.Process | None = None

    def start(self, *command: str, **env: str) -> None:
        """Run a command with the library's Python, in a process group of its own."""
        self._environment.update(env)
        self._process = subprocess.Popen(
            [python(), *(self.broker.url if one == "BROKER" else one for one in command)],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    async def send(self, *tasks: tuple[str, str]) -> None:
        """Enqueue, from another process: task and operation."""
        if self._sender is None:
            self._sender = await asyncio.create_subprocess_exec(
                python(), "-m", f"{PROGRAMS}.send", self.program,
                cwd=ROOT, env=self._environment, start_new_session=True,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=self._log,
            )  # fmt: skip
        assert self._sender.stdin is not None
        assert self._sender.stdout is not None
        self._sender.stdin.write(json.dumps(tasks).encode() + b"\n")
        assert await self._sender.stdout.readline() == b"sent\n", self.log()

    async def ended(self, operation: str) -> list[Written]:
        """What its viewers got, once it has ended."""

        async def has() -> bool:
            assert self._process is None or self._process.poll() is None, self.log()
            return has_ended(await written(self.backend, operation))

        await until(has, lambda: f"{operation} has not ended: {self.log()}")
        return await written(self.backend, operation)

    async def reached(self, key: str) -> None:
        """A task has got to a point."""

        async def is_there() -> bool:
            return bool(await self.meeting.exists(key))

        await until(is_there, lambda: f"no {key}: {self.log()}")

    async def cancel(self, operation: str) -> None:
        """What a viewer's Stop leaves in Redis."""
        await ask_to_cancel(self.backend, operation)

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-4_000:]

    async def close(self) -> None:
        await self.meeting.aclose()
        if self._sender is not None:
            await programs.end(self._sender)
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGTERM)
                try:
                    await asyncio.to_thread(self._process.wait, STOP_S)
                except subprocess.TimeoutExpired:
                    pass
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self._process.wait()
        self._log.close()


@asynccontextmanager
async def working(program: str, *command: str, **env: str) -> AsyncIterator[Worker]:
    """A worker that has begun to start."""
    options = Options(durable=True)
    async with (
        Server(binaries.embedded()) as broker,
        Server(binaries.embedded(), options) as progress,
        progress.client() as client,
    ):
        worker = Worker(program, broker, progress, Backend(client))
        try:
            worker.start(*command, **env)
            yield worker
        finally:
            await worker.close()
