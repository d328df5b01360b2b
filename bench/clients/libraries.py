"""The clients: where their packages are, and one bundle of each for a page, made alike.

The packages come from npm and stay in a cache outside the checkout; ours is built from this tree.
"""

import gzip
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.child import REPOSITORY
from bench.errors import NotPossible

PACKAGES: Final = {
    "centrifuge": "5.8.0",
    "socket.io": "4.8.4",
    "socket.io-client": "4.8.4",
    "ioredis": "6.0.0",
    "esbuild": "0.28.2",
}
CACHE: Final = Path.home() / ".cache" / "tidegate" / "clients"
SOURCES: Final = Path(__file__).with_name("js")
OURS: Final = REPOSITORY / "clients" / "js"
INSTALL_S: Final = 300.0
BUNDLE: Final = (
    *("--bundle", "--minify", "--splitting", "--format=esm", "--target=es2022"),
    "--platform=browser",
)


@dataclass(frozen=True, slots=True)
class Library:
    """One client: its npm package, what an application imports of it, and its page's script."""

    name: str
    package: str
    imports: str
    script: str


TIDEGATE: Final = Library("tidegate", "@tidegate/client", "TidegateClient", "tidegate.js")
CENTRIFUGE: Final = Library("centrifuge-js", "centrifuge", "Centrifuge", "centrifuge.js")
SOCKET_IO: Final = Library("socket.io-client", "socket.io-client", "io", "socketio.js")


def installed() -> Path:
    """The folder with `node_modules`, filled when it was not. Raises `NotPossible`."""
    if shutil.which("npm") is None:
        raise NotPossible("the clients come from npm: install Node 20 or newer, with npm")
    wanted = json.dumps({"private": True, "dependencies": PACKAGES}, indent=2)
    manifest, done = CACHE / "package.json", CACHE / "installed"
    if not done.exists() or manifest.read_text() != wanted:
        done.unlink(missing_ok=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        manifest.write_text(wanted)
        _run("npm", "install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund", at=CACHE)
        done.touch()
    _run("make", "--no-print-directory", "js", at=REPOSITORY)
    return CACHE


def version(library: Library) -> str:
    folder = OURS if library is TIDEGATE else CACHE / "node_modules" / library.package
    return str(json.loads((folder / "package.json").read_text())["version"])


def bundle(library: Library, into: Path) -> None:
    """The page's script as `client.js`. Raises `NotPossible`."""
    _esbuild(SOURCES / library.script, into, "--entry-names=client")


def size(library: Library, scratch: Path) -> int:
    """What a page loads at first for the client alone, gzipped, in bytes. Raises `NotPossible`."""
    source = scratch / "only.js"
    source.write_text(f"export {{ {library.imports} }} from '{library.package}';")
    _esbuild(source, scratch / "size", "--entry-names=only")
    return len(gzip.compress((scratch / "size" / "only.js").read_bytes(), compresslevel=9))


def _esbuild(source: Path, into: Path, *more: str) -> None:
    _run(
        CACHE / "node_modules" / ".bin" / "esbuild",
        source,
        *BUNDLE,
        *more,
        f"--outdir={into}",
        f"--alias:{TIDEGATE.package}={OURS / 'dist' / 'index.js'}",
        at=CACHE,
    )


def _run(*command: str | Path, at: Path) -> None:
    # Sources outside the cache find its packages by this path.
    environment = os.environ | {"NODE_PATH": str(CACHE / "node_modules")}
    done = subprocess.run(
        command,
        cwd=at,
        env=environment,
        capture_output=True,
        text=True,
        timeout=INSTALL_S,
        check=False,
    )
    if done.returncode:
        raise NotPossible(f"{' '.join(map(str, command))} failed: {done.stderr[-500:]}")
