"""Centrifugo 6 as a subject: the Go server that most people would take for this job.

It is run as its documentation has it for delivery with recovery: Redis engine, history of 1,000
publications per channel, positioning and recovery on. Backends reach it over its HTTP API, in
batches of all that is due, and that is counted in: it does not read what they write to Redis.
Its history in Redis is a stream too, written by its own script.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from bench.errors import NotPossible
from bench.mark import MAX_STREAM_ENTRIES
from bench.scenarios import Kind
from bench.subjects import Subject
from bench.ways import Way

#: What is built where no binary is named: the version that the targets are ratios to.
VERSION: Final = "6.9.1"
MAJOR: Final = "6"
MODULE: Final = f"github.com/centrifugal/centrifugo/v{MAJOR}"
#: What its modules ask for.
GO: Final = "1.26"
CACHE: Final = Path.home() / ".cache" / "tidegate" / "centrifugo" / VERSION
BUILD_S: Final = 3_600
ANSWER_S: Final = 10.0

CHANNELS: Final = "CHANNEL_WITHOUT_NAMESPACE"
SETTINGS: Final = {
    "LOG_LEVEL": "error",
    "CLIENT_INSECURE": "true",
    "CLIENT_ALLOWED_ORIGINS": "*",
    "HTTP_API_INSECURE": "true",
    "HTTP_SERVER_ADDRESS": "127.0.0.1",
    "HTTP_SERVER_PORT": "{port}",
    "HEALTH_ENABLED": "true",
    "USAGE_STATS_DISABLED": "true",
    "ENGINE_TYPE": "redis",
    "ENGINE_REDIS_ADDRESS": "{redis}",
    f"{CHANNELS}_HISTORY_SIZE": str(MAX_STREAM_ENTRIES),
    f"{CHANNELS}_HISTORY_TTL": "600s",
    f"{CHANNELS}_FORCE_POSITIONING": "true",
    f"{CHANNELS}_FORCE_RECOVERY": "true",
    f"{CHANNELS}_ALLOW_SUBSCRIBE_FOR_CLIENT": "true",
    f"{CHANNELS}_ALLOW_SUBSCRIBE_FOR_ANONYMOUS": "true",
}


def binary(named: Path | None = None) -> Path:
    """The server: `named`, or built from its published Go modules when it is not in the cache.

    Raises `NotPossible` when there is no such file, Go is missing, or the build fails."""
    if named is not None:
        if not os.access(named, os.X_OK) or named.is_dir():
            raise NotPossible(
                f"--centrifugo-binary: {named} is no executable file; name the binary of a release "
                f"of Centrifugo {MAJOR}, or leave the option out: {VERSION} is built from source"
            )
        return named.absolute()
    found = CACHE / "centrifugo"
    if found.exists():
        return found
    go = shutil.which("go")
    if go is None:
        raise NotPossible(
            f"--centrifugo builds Centrifugo {VERSION} from source: install Go {GO} or newer, or "
            f"name a binary of version {MAJOR} with --centrifugo-binary"
        )
    CACHE.mkdir(parents=True, exist_ok=True)
    # A main module that requires it: `go install` would ask for more than it needs.
    (CACHE / "go.mod").write_text(
        f"module example.org/peer\n\ngo {GO}\n\nrequire {MODULE} v{VERSION}\n"
    )
    flags = f"-ldflags=-s -w -X {MODULE}/internal/build.Version={VERSION}"
    command = (go, "build", "-mod=mod", "-trimpath", flags, "-o", str(found), MODULE)
    try:
        built = subprocess.run(
            command,
            cwd=CACHE,
            env=os.environ | {"CGO_ENABLED": "0"},
            capture_output=True,
            text=True,
            timeout=BUILD_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NotPossible(f"{' '.join(command)} took more than {BUILD_S} s") from error
    if built.returncode:
        raise NotPossible(
            f"{' '.join(command)} failed; a binary of version {MAJOR} can be named with "
            f"--centrifugo-binary: {built.stderr[-500:]}"
        )
    return found


def version_of(server: Path) -> str:
    """What this binary says of itself, such as "6.9.1"; "0.0.0" if it was built without a version.

    Raises `NotPossible` where it is no Centrifugo, or one that other settings are for."""
    try:
        done = subprocess.run(
            (str(server), "version"),
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NotPossible(f"{server} does not tell its version: {error}") from error
    found = re.match(r"Centrifugo v(\d+)(\.\S+)", done.stdout)
    if found is None:
        raise NotPossible(f"{server} is no Centrifugo: its version is {done.stdout[:100]!r}")
    if found[1] not in {MAJOR, "0"}:
        raise NotPossible(
            f"{server} is Centrifugo {found[1]}{found[2]}, and the settings of the bench are those "
            f"of version {MAJOR}; take a release of that"
        )
    return found[1] + found[2]


def centrifugo(named: Path | None = None) -> Subject:
    """The server as a subject. Raises `NotPossible`."""
    server = binary(named)
    settings = [f"CENTRIFUGO_{name}={value}" for name, value in SETTINGS.items()]
    return Subject(
        name="centrifugo",
        argv=("env", *settings, str(server).replace("{", "{{").replace("}", "}}")),
        ready="http://127.0.0.1:{port}/health",
        speaks=Way.CENTRIFUGO,
        api="http://127.0.0.1:{port}/api/batch",
        kinds=frozenset({Kind.LIVE, Kind.IDLE, Kind.CONNECTS}),
        version=version_of(server),
    )
