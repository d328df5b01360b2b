"""The npm package: built, packed, installed in an application of its own, and used by it.

The application is a module of Node that watches one operation to its end at a running gateway. It
is type-checked by nothing here; `make js-test` does that with the sources.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

from release.command import ROOT, ReleaseError, clean_environment, find, run

FOLDER = ROOT / "clients" / "js"
NODE_MIN = 20
_APPLICATION = """\
import { TidegateClient } from "@tidegate/client";
const client = new TidegateClient({ url: process.argv[2] });
const watch = client.watch(process.argv[3], { history: "all" });
const types = [];
for await (const { type } of watch) types.push(type);
const { status, result } = await watch.done;
client.close();
console.log(JSON.stringify({ types, status, result }));
"""


def node() -> bool:
    """Whether Node and npm are here, and new enough."""
    if find("node") is None or find("npm") is None:
        return False
    return int(run("node", "--version").strip().lstrip("v").partition(".")[0]) >= NODE_MIN


def pack(into: Path) -> Path:
    """The tarball. Raises `ReleaseError` if a file that package.json exports is not in it."""
    run("make", "--no-print-directory", "js", env=clean_environment())
    into.mkdir(parents=True, exist_ok=True)
    said = run("npm", "pack", "--silent", "--pack-destination", into.resolve(), cwd=FOLDER)
    tarball = into / said.strip().splitlines()[-1]
    if missing := exported() - contents(tarball):
        raise ReleaseError(f"{tarball.name}: {', '.join(sorted(missing))} not in it")
    return tarball


def contents(tarball: Path) -> set[str]:
    """Its files, without the folder that npm puts them in."""
    with tarfile.open(tarball) as archive:
        return {one.name.removeprefix("package/") for one in archive if one.isfile()}


def exported() -> set[str]:
    """The files that package.json promises."""
    package = json.loads((FOLDER / "package.json").read_text("utf-8"))
    found = {"README.md", "LICENSE", "package.json"}
    for target in package["exports"].values():
        paths = target.values() if isinstance(target, dict) else [target]
        found |= {path.removeprefix("./") for path in paths}
    return found


class Application:
    """One with the packed client in it."""

    def __init__(self, folder: Path, tarball: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True)
        package = {"name": "example", "private": True, "type": "module"}
        (folder / "package.json").write_text(json.dumps(package))
        (folder / "example.mjs").write_text(_APPLICATION)
        shutil.copy(tarball, folder)
        run("npm", "install", "--silent", "--no-audit", "--no-fund", tarball.name, cwd=folder)

    def watch(self, url: str, operation: str) -> dict[str, Any]:
        """Types of the frames, the status and the result, once the operation has ended."""
        said = run("node", "example.mjs", url, operation, cwd=self._folder, timeout_s=60)
        found: dict[str, Any] = json.loads(said)
        return found
