"""The wheel whose engine is compiled (`hatch_build.py`), for this machine's Python and processor.

A release makes one for each Python and two processors with cibuildwheel, from the same sdist; the
wheel of `distributions` is for all others. It is tried here and goes into no release.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
import tomllib
import zipfile
from pathlib import Path

from release.command import ROOT, ReleaseError, run

TIMEOUT_S = 1_200


def missing() -> str | None:
    """Why it cannot be made here; None if it can."""
    if shutil.which(os.environ.get("CC", "cc")) is None:
        return "no C compiler here"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "no headers of this Python here"
    return None


def build(python: Path, source: Path, into: Path) -> Path:
    """From an unpacked sdist. Raises `ReleaseError` if a module in it is not compiled."""
    constraints = str(ROOT / "constraints.txt")
    env = {
        **os.environ,
        "HATCH_BUILD_HOOK_ENABLE_CUSTOM": "1",
        # pip builds in an environment of its own; newer ones read the second name.
        "PIP_CONSTRAINT": constraints,
        "PIP_BUILD_CONSTRAINT": constraints,
    }
    words = ("-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps")
    run(python, *words, "--wheel-dir", into, source, env=env, timeout_s=TIMEOUT_S)
    (made,) = into.glob("*.whl")
    with zipfile.ZipFile(made) as wheel:
        names = wheel.namelist()
    for module in modules():
        stem = module.removesuffix(".py")
        if not any(name.startswith(f"{stem}.") and name.endswith(".so") for name in names):
            raise ReleaseError(f"{made.name}: {module} is not compiled")
    return made


def modules() -> list[str]:
    """What is to be compiled, as a wheel names it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    hooks = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]
    found: list[str] = hooks["custom"]["modules"]
    return found
