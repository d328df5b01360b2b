"""The wheels of `tidegate[embedded]` and of building it, in the versions of constraints.txt.

A test that installs them from nothing takes them from here: a registry that is slow for a minute
then fails no test, and the same packages are not fetched by each. They are fetched once, and that
they are to be had as wheels is proven by it.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from tests.harness.cached import cached, run

ROOT = Path(__file__).parents[2]
FETCH_TIMEOUT_S = 400
#: What hatchling asks for beside itself, to build what `pip install --editable` installs.
EDITABLE = "editables~=0.3"


def wheelhouse() -> Path:
    """The folder, filled when first asked for. AssertionError: a wheel cannot be had."""
    about = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    project = about["project"]
    wanted = (
        *about["build-system"]["requires"],
        EDITABLE,
        *project["dependencies"],
        *project["optional-dependencies"]["embedded"],
    )
    constraints = ROOT / "constraints.txt"

    def fetch(folder: Path) -> None:
        words = ("download", "--only-binary", ":all:", "--progress-bar", "off")
        run(
            *(sys.executable, "-m", "pip", *words),
            *("--constraint", constraints, "--dest", folder, *wanted),
            timeout_s=FETCH_TIMEOUT_S,
        )

    return cached("wheels", fetch, sys.version, wanted, constraints.read_bytes())


def pip_environment(folder: Path) -> dict[str, str]:
    """For pip: it installs from this folder and asks no registry."""
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}
