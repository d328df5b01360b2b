"""Programs of the Python world that a release uses, each group in an environment of its own.

They are in the cache outside the checkout, so that a fresh clone has them too: installed with the
hashes of requirements/, an environment for each Python and content of that file. actionlint is
built from its Go module, beside them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
from pathlib import Path

from release.command import ROOT, cache, clean_environment, find, run

ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"
BUILD_TIMEOUT_S = 900


def python(group: str) -> Path:
    """The Python of an environment with `requirements/<group>.txt`."""
    source = ROOT / "requirements" / f"{group}.txt"
    of = sys.version.encode() + sys.base_prefix.encode() + source.read_bytes()
    venv = cache() / "tools" / f"{group}-{hashlib.sha256(of).hexdigest()[:16]}"
    stamp = venv / "complete"
    program = venv / "bin" / "python"
    venv.parent.mkdir(parents=True, exist_ok=True)
    with (venv.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists():
            shutil.rmtree(venv, ignore_errors=True)
            run(sys.executable, "-m", "venv", venv, env=clean_environment())
            pip = (program, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
            run(*pip, "--require-hashes", "--requirement", source, env=clean_environment())
            stamp.touch()
    return program


def actionlint() -> Path | None:
    """Built if it is not there yet; None where there is no Go."""
    version = ACTIONLINT.rpartition("@")[2]
    folder = cache() / "actionlint" / version
    program = folder / "actionlint"
    if os.access(program, os.X_OK):
        return program
    go = find("go")
    if go is None:
        return find("actionlint")
    env = {**os.environ, "GOBIN": str(folder), "CGO_ENABLED": "0"}
    run(go, "install", "-trimpath", ACTIONLINT, env=env, timeout_s=BUILD_TIMEOUT_S)
    return program
