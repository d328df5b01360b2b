"""Programs that a release runs: their output is kept, and shown only when they fail.

`run` raises `ReleaseError` with the command and the end of what it said; `find` looks for a program
on PATH and where the lab of `tests/cluster` keeps what it built.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: How the names of variables begin that a fresh environment does not have.
_LEFT_OUT = (
    *("TIDEGATE_", "PYTHON", "VIRTUAL_ENV", "NODE_PATH", "MAKE", "MFLAGS"),
    *("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"),
)
#: Of what a failed command said.
SHOWN_CHARS = 3_000


class ReleaseError(Exception):
    """A release cannot be made of this; the text says why."""


def cache() -> Path:
    """Where what was built once is kept, outside the checkout."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TIDEGATE_LAB_CACHE") or Path(home) / "tidegate")


def find(program: str) -> Path | None:
    """The program, or None."""
    built = cache() / "kube" / program
    if os.access(built, os.X_OK):
        return built
    found = shutil.which(program)
    return None if found is None else Path(found)


def run(
    *words: str | Path,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 600,
) -> str:
    """Its standard output. Raises `ReleaseError` if it fails or takes longer than `timeout_s`."""
    command = [str(word) for word in words]
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=None if env is None else dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ReleaseError(f"{shlex.join(command)}: {error}") from error
    if done.returncode:
        said = (done.stdout + done.stderr)[-SHOWN_CHARS:]
        raise ReleaseError(f"{shlex.join(command)} ended with {done.returncode}:\n{said}")
    return done.stdout


def clean_environment(**more: str) -> dict[str, str]:
    """This one without what points at the checkout, its environment, settings or a desktop."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_LEFT_OUT)}
    return kept | more
