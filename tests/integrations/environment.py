"""A Python with the libraries of the adapters, for tests of tier `full`.

They are heavy and nobody else needs them, so they are not in `.venv`: the first test that asks
installs the extra `adapters`, in the versions of constraints.txt, into a folder of the cache.
What `.venv` has already is taken from there. A change of either file makes a new folder.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import tomllib
from functools import cache
from pathlib import Path

from tests.harness.cached import cached, run

ROOT = Path(__file__).parents[2]
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
    constraints = ROOT / "constraints.txt"

    def install(folder: Path) -> None:
        program = folder / "bin" / "python"
        env = {"PYTHONPATH": path_of_tests()}
        run(sys.executable, "-m", "venv", folder, timeout_s=INSTALL_TIMEOUT_S, env=env)
        pip = (program, "-m", "pip", "install", "--progress-bar", "off")
        words: tuple[str | Path, ...] = ("--constraint", constraints, *wanted)
        run(*pip, *words, timeout_s=INSTALL_TIMEOUT_S, env=env)

    made = cached("adapters", install, sys.version, wanted, constraints.read_bytes())
    return made / "bin" / "python"
