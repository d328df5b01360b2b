"""The published packages of Durable Streams, installed once outside the checkout."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
#: What the tests are written for; vitest comes with the conformance tests.
PACKAGES = {
    "@durable-streams/client": "0.2.7",
    "@durable-streams/server-conformance-tests": "0.3.6",
}
INSTALL_TIMEOUT_S = 300


def installed() -> Path:
    """A folder with `node_modules` and our scripts beside it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidegate"
    name = "-".join(PACKAGES.values())
    folder = cache / "durable-streams" / name
    if not folder.is_dir():
        _install(folder)
    for script in HERE.glob("*.mjs"):
        copy = folder / script.name
        if not copy.exists() or copy.read_bytes() != script.read_bytes():
            shutil.copyfile(script, copy)
    return folder


def _install(folder: Path) -> None:
    """Another run may do the same: whole folders only, and the first one stays."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        new = Path(place) / "new"
        new.mkdir()
        package = {"private": True, "type": "module", "dependencies": PACKAGES}
        (new / "package.json").write_text(json.dumps(package))
        command = ("npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts")
        done = subprocess.run(
            command, cwd=new, check=False, capture_output=True, timeout=INSTALL_TIMEOUT_S
        )
        assert done.returncode == 0, done.stdout + done.stderr
        try:
            new.rename(folder)
        except OSError:
            assert folder.is_dir()


async def run(
    *command: str | Path, cwd: Path, timeout_s: float, **environment: str
) -> tuple[int, str]:
    """The exit status of a program and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), timeout_s)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode(errors="replace")
