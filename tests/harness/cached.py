"""What tests fetch or build once on a machine: folders below ~/.cache/tidegate, outside a checkout.

A folder is for exactly what it was made of; anything else gets another one. Only one process makes
it, others wait for that, and one whose making failed or was interrupted is made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidegate"
#: For pip. A registry that says nothing for so long is asked again, instead of after its own 180 s.
PATIENT = {"PIP_DEFAULT_TIMEOUT": "20", "PIP_RETRIES": "5", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def cached(name: str, make: Callable[[Path], None], *of: object) -> Path:
    """The folder that `make` has filled for `of`, which needs a `repr` that says it all."""
    digest = hashlib.sha256(repr(of).encode()).hexdigest()[:16]
    folder = CACHE / name / digest
    complete = folder / "complete"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            complete.touch()
    return folder


def run(
    *command: str | Path,
    timeout_s: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """A command that makes something. AssertionError with what it said if it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **PATIENT, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=False,
        )
        code, said = str(done.returncode), done.stdout
    except subprocess.TimeoutExpired as error:
        code, said = f"not ended within {timeout_s:g} s", error.output or b""
    if code != "0":
        raise AssertionError(f"{command}: {code}\n{said.decode(errors='replace')}")
