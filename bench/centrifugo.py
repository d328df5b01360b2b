"""Centrifugo as a subject: the Go server that most people would take for this job.

It is run as its documentation has it for delivery with recovery: Redis engine, history of 1,000
publications per channel, positioning and recovery on. Backends reach it over its HTTP API, in
batches of all that is due, and that is counted in: it does not read what they write to Redis.
Its history in Redis is a stream too, written by its own script.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from bench.errors import NotPossible
from bench.mark import MAX_STREAM_ENTRIES
from bench.scenarios import Kind
from bench.subjects import Subject
from bench.ways import Way

#: The newest whose modules, and those it is made of, could be had when this was written.
VERSION: Final = "5.4.9"
MODULE: Final = "github.com/centrifugal/centrifugo/v5"
CACHE: Final = Path.home() / ".cache" / "tidegate" / "centrifugo" / VERSION
BUILD_S: Final = 1_800

SETTINGS: Final = {
    "LOG_LEVEL": "error",
    "CLIENT_INSECURE": "true",
    "ALLOWED_ORIGINS": "*",
    "API_INSECURE": "true",
    "HEALTH": "true",
    "ENGINE": "redis",
    "REDIS_ADDRESS": "{redis}",
    "ADDRESS": "127.0.0.1",
    "PORT": "{port}",
    "HISTORY_SIZE": str(MAX_STREAM_ENTRIES),
    "HISTORY_TTL": "600s",
    "FORCE_POSITIONING": "true",
    "FORCE_RECOVERY": "true",
    "ALLOW_SUBSCRIBE_FOR_CLIENT": "true",
    "ALLOW_SUBSCRIBE_FOR_ANONYMOUS": "true",
}


def binary() -> Path:
    """The server, built from its published Go modules when it is not in the cache.

    Raises `NotPossible` when Go is missing or the build fails."""
    found = CACHE / "centrifugo"
    if found.exists():
        return found
    go = shutil.which("go")
    if go is None:
        raise NotPossible("--centrifugo builds the server from source: install Go 1.23 or newer")
    CACHE.mkdir(parents=True, exist_ok=True)
    # A main module that requires it: `go install` would ask for more than it needs.
    (CACHE / "go.mod").write_text(
        f"module example.org/peer\n\ngo 1.23.0\n\nrequire {MODULE} v{VERSION}\n"
    )
    command = (go, "build", "-mod=mod", "-trimpath", "-ldflags=-s -w", "-o", str(found), MODULE)
    built = subprocess.run(
        command,
        cwd=CACHE,
        env=os.environ | {"CGO_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
    )
    if built.returncode:
        raise NotPossible(f"{' '.join(command)} failed: {built.stderr[-500:]}")
    return found


def centrifugo() -> Subject:
    """The server as a subject. Raises `NotPossible`."""
    settings = [f"CENTRIFUGO_{name}={value}" for name, value in SETTINGS.items()]
    return Subject(
        name="centrifugo",
        argv=("env", *settings, str(binary())),
        ready="http://127.0.0.1:{port}/health",
        speaks=Way.CENTRIFUGO,
        api="http://127.0.0.1:{port}/api/batch",
        kinds=frozenset({Kind.LIVE, Kind.IDLE, Kind.CONNECTS}),
    )
