"""An environment as a user has it: the wheel, nothing of the checkout, and no compiler.

The programs of the machine are not on its PATH, so what would be compiled fails, and so does what
the wheel forgot. `Demo` is `tidegate run` in it: ports of its own, ended by Ctrl-C, killed by a
watchdog if it does not answer in time.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from release.command import ROOT, ReleaseError, clean_environment, run

DEMO_TIMEOUT_S = 180
STARTED = "Ctrl-C ends everything."
_PORTS_EACH = 4


class Fresh:
    """A virtual environment below `folder`, which must be outside the checkout."""

    def __init__(self, folder: Path) -> None:
        self.venv = folder / "venv"
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        bin_ = self.venv / "bin"
        self.env = clean_environment(PATH=str(bin_), HOME=str(self.home), NO_COLOR="1")
        self.env |= {"CC": "/nonexistent/cc", "COLUMNS": "200", "TERM": "dumb"}
        run(sys.executable, "-m", "venv", self.venv, env=clean_environment())

    def install(self, wheel: Path, *, extras: str = "embedded", newest: bool = False) -> None:
        """The wheel at the versions of constraints.txt, or the newest that it allows."""
        constraint = () if newest else ("--constraint", ROOT / "constraints.txt")
        words = ("install", "--quiet", "--only-binary", ":all:", *constraint)
        self.python("-m", "pip", *words, f"tidegate[{extras}] @ {wheel.resolve().as_uri()}")
        self.python("-m", "pip", "check")
        place = self.python("-c", "import tidegate; print(tidegate.__file__)").strip()
        if not Path(place).resolve().is_relative_to(self.venv.resolve()):
            raise ReleaseError(f"tidegate is imported from {place}, not from the wheel")

    def python(self, *words: str | Path) -> str:
        """What it prints. Raises `ReleaseError`."""
        return run(self.venv / "bin" / "python", *words, cwd=self.home, env=self.env)

    def tidegate(self, *words: str) -> str:
        """As `python`, of the command."""
        return run(self.venv / "bin" / "tidegate", *words, cwd=self.home, env=self.env)


class Demo:
    """`tidegate run`, started. Use as a context manager; leaving it is Ctrl-C.

    Attributes:
        urls: of each replica.
        redis_url: of the embedded server.
    """

    def __init__(self, fresh: Fresh) -> None:
        self._fresh = fresh
        self._lines: list[str] = []

    def __enter__(self) -> Self:
        port, admin, redis = (str(_free_port()) for _ in range(3))
        ports = ("--port", port, "--admin-port", admin, "--redis-port", redis)
        self._process = subprocess.Popen(
            [str(self._fresh.venv / "bin" / "tidegate"), "run", *ports],
            cwd=self._fresh.home,
            env=self._fresh.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._watchdog = threading.Timer(DEMO_TIMEOUT_S, self._process.kill)
        self._watchdog.start()
        try:
            self._until_started()
            self.urls = self._said(r"^replica-\d+ +(\S+) ")
            (self.redis_url,) = self._said(r"^redis +(\S+)")
        except BaseException:
            self._end(signal.SIGKILL)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        code = self._end(signal.SIGINT)
        if error is None and code != 0:
            raise ReleaseError(f"tidegate run ended with {code}:\n{self._text()}")

    def _until_started(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line.rstrip())
            if STARTED in line:
                return
        raise ReleaseError(f"tidegate run did not start:\n{self._text()}")

    def _said(self, pattern: str) -> list[str]:
        found = (re.search(pattern, line) for line in self._lines)
        return [match[1] for match in found if match is not None]

    def _text(self) -> str:
        return "\n".join(self._lines[-40:])

    def _end(self, number: signal.Signals) -> int:
        self._process.send_signal(number)
        assert self._process.stdout is not None
        self._lines += self._process.stdout.read().splitlines()
        code = self._process.wait()
        self._process.stdout.close()
        self._watchdog.cancel()
        return code


def _free_port() -> int:
    """The first of a few that are free now; `tidegate run` takes the next one if it has gone."""
    while True:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
        if port + _PORTS_EACH < 65_000:
            return port
