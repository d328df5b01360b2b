"""A Python with the libraries of the adapters, for tests of tier `full`.

They are heavy and nobody else needs them, so they are not in `.venv`: the first test that asks
installs the extra `adapters`, in the versions of constraints.txt, into a folder of the cache.
What `.venv` has already is taken from there. A change of either file makes a new folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import sysconfig
import tomllib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "tidegate" / "adapters"
INSTALL_TIMEOUT_S = 500


def _wanted() -> list[str]:
    """Requirements of the extra, with those of the extras that it names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    found: list[str] = []
    for one in extras["adapters"]:
        if one.startswith("tidegate["):
            for name in one.partition("[")[2].partition("]")[0].split(","):
                found += extras[name]
        else:
            found.append(one)
    return found


def path_of_tests() -> str:
    """PYTHONPATH with Tidegate itself and what `.venv` has."""
    parts = [ROOT / "service", ROOT, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    return os.pathsep.join(dict.fromkeys(map(str, parts)))


@cache
def python() -> Path:
    """Its interpreter, installed when first asked for; by one process at a time."""
    wanted = _wanted()
    constraints = (ROOT / "constraints.txt").read_bytes()
    digest = hashlib.sha256(repr((sys.version, wanted)).encode() + constraints).hexdigest()[:16]
    folder = CACHE / digest
    program = folder / "bin" / "python"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            _run(sys.executable, "-m", "venv", "--clear", str(folder))
            _run(
                str(program), "-m", "pip", "--disable-pip-version-check", "install", "--quiet",
                "--constraint", str(ROOT / "constraints.txt"), *wanted,
            )  # fmt: skip
            (folder / "complete").touch()
    return program


def _run(*command: str) -> None:
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": path_of_tests()},
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"{command}: {done.stdout}\n{done.stderr}")
