"""Deno: the one on PATH, or that of its npm package, in a cache outside the checkout."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

VERSION = "2.9.6"
CACHE = Path.home() / ".cache" / "tidegate" / "deno" / VERSION
INSTALL_TIMEOUT_S = 100


def program() -> Path:
    """Raises LookupError with the reason where it cannot be had."""
    found = shutil.which("deno")
    if found is not None:
        return Path(found)
    there = CACHE / "node_modules" / ".bin" / "deno"
    if not there.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--silent", "--no-save", "--ignore-scripts"]
        try:
            done = subprocess.run(
                [*command, "--prefix", CACHE, f"deno@{VERSION}"],
                cwd=CACHE,
                check=False,
                capture_output=True,
                text=True,
                timeout=INSTALL_TIMEOUT_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LookupError(f"deno {VERSION} cannot be installed: {error}") from None
        if done.returncode:
            raise LookupError(f"deno {VERSION} cannot be installed: {done.stderr[-500:]}")
    try:
        subprocess.run([there, "--version"], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise LookupError(f"deno {VERSION} does not run here: {error}") from None
    return there
