"""Replicas that are restarted one after the other, each in its own place, as a deploy does it.

A replica keeps its ports and its pod name over restarts. A restart is SIGTERM, the wait for exit
status 0, and a new process; that it is ready again is for the balancer to find out.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from bench.balancer import Backend
from bench.child import Child, running
from bench.errors import BenchError
from bench.stage import free_port
from bench.subjects import gateway

#: What a pod has until it is killed; Kubernetes gives 30 s by default.
GRACE_S: Final = 30.0
#: How often it is checked that a replica which is to become ready still runs.
LOOK_S: Final = 0.25


class Replica:
    """One place in the fleet. Use as an async context manager; nothing runs after it."""

    def __init__(
        self,
        index: int,
        *,
        redis_url: str,
        settings: Mapping[str, object],
        folder: Path,
        ports: tuple[int, int] | None = None,
    ) -> None:
        """`ports`: the viewers' and the admin's, where it matters which."""
        self.name = f"replica-{index}"
        self.backend = Backend(*(ports or (free_port(), free_port())))
        self._redis_url = redis_url
        self._settings = settings
        self._folder = folder
        self._starts = 0
        self._stack = AsyncExitStack()
        self._child: Child | None = None

    async def __aenter__(self) -> "Replica":
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def check(self) -> None:
        """Raise `ProcessFailed` when it has ended by itself."""
        if self._child is not None:
            self._child.check()

    @property
    def is_running(self) -> bool:
        """Neither stopped nor killed."""
        return self._child is not None

    @property
    def pid(self) -> int:
        """Raises `BenchError` when it was stopped."""
        if self._child is None:
            raise BenchError(f"{self.name} is not running")
        return self._child.pid

    async def kill(self) -> None:
        """SIGKILL: it says nothing to anyone."""
        if self._child is not None:
            child, self._child = self._child, None
            await child.end()

    async def stop(self, within_s: float) -> None:
        """SIGTERM, and wait. Raises `ProcessFailed` when it does not end with 0 in time."""
        if self._child is None:
            raise BenchError(f"{self.name} is not running")
        child, self._child = self._child, None
        child.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(within_s + GRACE_S):
                status = await child.process.wait()
        except TimeoutError:
            raise child.failed(
                f"was still there {within_s + GRACE_S:.0f} s after SIGTERM"
            ) from None
        if status != 0:
            raise child.failed(f"ended with status {status} after SIGTERM")

    async def rotation(self, *, in_rotation: bool, within_s: float) -> None:
        """Wait until the balancer has it in rotation, or out of rotation.

        Raises:
            BenchError: that takes longer than `within_s`.
            ProcessFailed: it has exited, instead of becoming ready.
        """
        backend = self.backend
        try:
            async with asyncio.timeout(within_s):
                while backend.in_rotation is not in_rotation:
                    if in_rotation:
                        self.check()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_S):
                            await backend.until(in_rotation=in_rotation)
        except TimeoutError:
            self.check()
            word = "ready" if in_rotation else "out of rotation"
            raise BenchError(f"{self.name} was not {word} within {within_s:.0f} s") from None

    async def start_again(self) -> None:
        """A new process in the same place."""
        await self._stack.aclose()
        await self._start()

    async def _start(self) -> None:
        command = gateway().command(
            port=self.backend.port,
            admin_port=self.backend.admin_port,
            redis=self._redis_url,
            pod=self.name,
        )
        for name, value in self._settings.items():
            command += ["--set", f"{name}={value}"]
        self._starts += 1
        self._child = await self._stack.enter_async_context(
            running(
                f"{self.name}-{self._starts}",
                command,
                folder=self._folder,
                cores=frozenset(os.sched_getaffinity(0)),
            )
        )
