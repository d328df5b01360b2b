"""The published packages of Durable Streams, installed once outside the checkout."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from tests.harness.cached import cached, run

HERE = Path(__file__).parent
#: What the tests are written for; vitest comes with the conformance tests.
PACKAGES = {
    "@durable-streams/client": "0.2.7",
    "@durable-streams/server-conformance-tests": "0.3.6",
}
INSTALL_TIMEOUT_S = 300


def installed() -> Path:
    """A folder with `node_modules` and our scripts beside it."""
    folder = cached("durable-streams", _install, PACKAGES)
    for script in HERE.glob("*.mjs"):
        copy = folder / script.name
        if not copy.exists() or copy.read_bytes() != script.read_bytes():
            new = folder / f"{script.name}.{os.getpid()}"
            shutil.copyfile(script, new)
            new.replace(copy)  # whole: another worker may be running it
    return folder


def _install(folder: Path) -> None:
    package = {"private": True, "type": "module", "dependencies": PACKAGES}
    (folder / "package.json").write_text(json.dumps(package))
    words = ("install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts")
    run("npm", *words, cwd=folder, timeout_s=INSTALL_TIMEOUT_S)
