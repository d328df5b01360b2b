"""Gateway replicas as real processes: started, hurt, and looked at through their admin port.

A replica keeps its ports over restarts, as a pod behind a service keeps its place. Its log is read
at the end: a traceback in it is a failure even if no viewer noticed.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx

from tests.faults.viewer import Address
from tests.harness import gateway
from tests.harness.plain_http import plain_client
from tests.harness.waiting import until
from tests.servers.ports import free_port
from tests.servers.process import Process, ProcessError

STOP_TIMEOUT_S = 30.0
_TRACEBACK = re.compile(r"Traceback \(most recent call last\)|never retrieved|never awaited")


class Ports(NamedTuple):
    """Of viewers, and of health and metrics."""

    public: int
    admin: int


class Replica:
    """One `tidegate serve`. Use as an async context manager, or `start` and `close`."""

    def __init__(
        self,
        index: int,
        redis_url: str,
        settings: Mapping[str, object] | None = None,
        *,
        auth: str = "none",
        descriptors: int | None = None,
        control_group: Path | None = None,
        host: str = "127.0.0.1",
        ports: Ports | None = None,
    ) -> None:
        """`ports`: free ones by default."""
        self.index = index
        self.pod = f"pod-{index}"
        self.host = host
        self.port, self.admin_port = ports or Ports(free_port(), free_port())
        self._directory = tempfile.TemporaryDirectory(prefix="tidegate-replica-")
        command: list[str | Path] = []
        if descriptors is not None:
            command += ["sh", "-c", f'ulimit -n {descriptors}; exec "$0" "$@"']
        if control_group is not None:
            enter = f'echo $$ > {control_group}/cgroup.procs && exec "$0" "$@"'
            command += ["sh", "-c", enter]
        command.append("env")
        # A replica refuses TIDEGATE_ variables it does not know, such as those of this run.
        for name in os.environ:
            if name.startswith("TIDEGATE_"):
                command += ["-u", name]
        settings = settings or {}
        command += [sys.executable, *gateway.arguments(settings), "serve", "--auth", auth]
        command += ["--host", self.host, "--port", str(self.port)]
        command += ["--set", f"server.admin_host={host}", "--admin-port", str(self.admin_port)]
        command += ["--redis", redis_url, "--pod", self.pod]
        command += gateway.flags(settings)
        self.process = Process(command, log_file=Path(self._directory.name) / f"{self.pod}.log")

    @property
    def address(self) -> Address:
        return Address(self.host, self.port)

    # --- life

    async def start(self, *, ready: bool = True) -> Self:
        """Spawn and wait until it serves; `ready`: and until it is connected to Redis."""
        self.process.spawn()
        await self.answers("/readyz" if ready else "/healthz")
        return self

    async def kill(self) -> None:
        await self.process.kill()

    async def stop(self) -> None:
        """SIGTERM; it must leave with status 0."""
        status = await self.process.stop(STOP_TIMEOUT_S)
        if status != 0:
            raise ProcessError(f"{self.pod} ended with {status} after SIGTERM", self.process)

    def pause(self) -> None:
        self.process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.signal(signal.SIGCONT)

    def close(self) -> None:
        self.process.close()
        self._directory.cleanup()

    async def __aenter__(self) -> Self:
        try:
            return await self.start()
        except BaseException:
            self.close()
            raise

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    # --- looking

    async def answers(self, path: str) -> None:
        """Wait until it answers 200. Raises ProcessError with its log."""
        async with self._admin() as admin:

            async def ok() -> bool:
                if not self.process.running:
                    raise ProcessError(f"{self.pod} ended by itself", self.process)
                try:
                    return (await admin.get(path)).status_code == 200
                except httpx.HTTPError:
                    return False

            try:
                await until(ok)
            except AssertionError as late:
                raise ProcessError(f"{self.pod}: {path} is not 200: {late}", self.process) from None

    async def state(self) -> dict[str, Any]:
        """`/debug/state`."""
        async with self._admin(timeout_s=30) as admin:
            found: dict[str, Any] = (await admin.get("/debug/state")).json()
            return found

    def _admin(self, *, timeout_s: float = 2) -> httpx.AsyncClient:
        return plain_client(
            f"http://{self.host}:{self.admin_port}", timeout=timeout_s, trust_env=False
        )

    def mishaps(self) -> list[str]:
        """Tracebacks and the like in its log, with what follows them."""
        text = self.process.log_file.read_text(errors="replace")
        return [
            f"{self.pod}: {text[found.start() : found.start() + 3000]}"
            for found in _TRACEBACK.finditer(text)
        ]
