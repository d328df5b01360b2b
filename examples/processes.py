"""An embedded server and the processes of an example beside it, all ended together.

This is not what the examples show: on a real system each of these is a service of its own.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

from redis import Redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from tidegate.cli.embedded_server import find_server, server_command

READY_EVERY_S, READY_TRIES = 0.05, 400


def free_port() -> int:
    """A port of loopback on which nothing listens at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Processes:
    """Use as a context manager. `environment` is that of the processes which are started next."""

    def __init__(self) -> None:
        self.environment = os.environ | {
            "TIDEGATE_LOG__FORMAT": "pretty",
            "TIDEGATE_LOG__LEVEL": "warning",
            "TIDEGATE_REPLICA__MAX_CONNECTIONS": "500",  # shells allow 1,024 open files
        }
        self._folder = tempfile.TemporaryDirectory(prefix="tidegate-example-")
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._expendable: set[int] = set()

    def start(self, module: str, *, expendable: bool = False) -> int:
        """Run a Python module, with its arguments. An expendable one may end without the others.

        Returns:
            The process id.
        """
        pid = self._spawn([sys.executable, "-m", *module.split()])
        if expendable:
            self._expendable.add(pid)
        return pid

    def wait(self) -> int:
        """Until Ctrl-C or SIGTERM, which return 0, or until a process ends, which returns 1."""
        try:
            while True:
                pid, _ = os.waitpid(-1, 0)
                self._running.pop(pid, None)
                if pid not in self._expendable:
                    return 1
        except KeyboardInterrupt:
            return 0

    def _spawn(self, command: list[str], log: int | None = None) -> int:
        # Each in a group of its own: Ctrl-C comes to this process, which passes it on.
        process = subprocess.Popen(
            command, env=self.environment, stdout=log, start_new_session=True
        )
        self._running[process.pid] = process
        return process.pid

    def __enter__(self) -> Self:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        port = free_port()
        server = server_command(find_server(), port, Path(self._folder.name))
        self._spawn(server, log=subprocess.DEVNULL)
        retry = Retry(ConstantBackoff(READY_EVERY_S), READY_TRIES)
        with Redis(port=port, retry=retry) as client:
            client.ping()
        self.environment["TIDEGATE_REDIS__URL"] = f"redis://127.0.0.1:{port}/0"
        return self

    def __exit__(self, *_: object) -> None:
        processes = list(self._running.values())
        for together in (processes[1:], processes[:1]):  # the server last
            for process in together:
                process.terminate()
            for process in together:
                process.wait()
        self._folder.cleanup()
