"""The sdist and the wheel. In the wheel is every tracked file of the packages, and no other.

The wheel is built from the unpacked sdist, as anyone does who installs from it. The sdist is built
a second time from there: the same bytes, or it depends on more than its files.
"""

from __future__ import annotations

import email
import hashlib
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from email.message import Message
from pathlib import Path
from typing import NamedTuple

from release.command import ROOT, ReleaseError, run

#: Source folder -> package. The folder is not part of a name in the wheel.
PACKAGES = {"service": "tidegate", "operator": "tidegate_operator"}
#: In an sdist, of the build backend's making.
MADE = frozenset({"PKG-INFO", ".gitignore"})
NEEDED = frozenset({"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "constraints.txt"})
URLS = frozenset({"Repository", "Documentation", "Changelog", "Issues", "Security"})


class Distributions(NamedTuple):
    """The two files."""

    sdist: Path
    wheel: Path


def build(python: Path, into: Path, work: Path) -> Distributions:
    """With the hatchling of `python`. Raises `ReleaseError` if one has the wrong contents."""
    sdist = _built(python, "sdist", ROOT, into)
    with tarfile.open(sdist) as archive:
        archive.extractall(work, filter="data")
    unpacked = work / sdist.name.removesuffix(".tar.gz")
    again = _built(python, "sdist", unpacked, work / "again")
    if _digest(again) != _digest(sdist):
        raise ReleaseError(f"{sdist.name} built from itself has other bytes")
    made = Distributions(sdist, _built(python, "wheel", unpacked, into))
    if found := list(faults(made, tracked())):
        raise ReleaseError("\n".join(found))
    return made


def tracked() -> list[str]:
    """The files of the checkout that are under version control and there."""
    names = run("git", "ls-files", "-z").split("\0")
    return [name for name in names if name and (ROOT / name).is_file()]


def faults(made: Distributions, of: Iterable[str]) -> Iterator[str]:
    """What is missing and what is too much, one line each."""
    names = list(of)
    with tarfile.open(made.sdist) as archive:
        files = (member.name.partition("/")[2] for member in archive if member.isfile())
        inside = set(files) - MADE
    yield from (f"sdist: {name} is not under version control" for name in inside - set(names))
    yield from (f"sdist: {name} is missing" for name in NEEDED - inside)
    with zipfile.ZipFile(made.wheel) as wheel:
        contents = {name for name in wheel.namelist() if not name.endswith("/")}
        info = next(name for name in contents if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(wheel.read(info))
    folder = info.rpartition("/")[0] + "/"
    code = {name for name in contents if not name.startswith(folder)}
    wanted = in_wheel(names)
    yield from (f"wheel: {name} is missing" for name in sorted(wanted - code))
    yield from (f"wheel: {name} does not belong there" for name in sorted(code - wanted))
    if f"{folder}licenses/LICENSE" not in contents:
        yield "wheel: it has no license file"
    yield from (f"metadata: {fault}" for fault in metadata_faults(metadata))


def in_wheel(names: Iterable[str]) -> set[str]:
    """Of tracked files those of the packages, as a wheel names them."""
    return {
        name.partition("/")[2]
        for name in names
        for folder, package in PACKAGES.items()
        if name.startswith(f"{folder}/{package}/")
    }


def metadata_faults(metadata: Message) -> Iterator[str]:
    """What a package index would show as missing."""
    for field in ("Summary", "License-Expression", "License-File", "Requires-Python", "Keywords"):
        if not metadata.get(field):
            yield f"no {field}"
    if "markdown" not in metadata.get("Description-Content-Type", ""):
        yield "the description is not Markdown"
    urls = {one.partition(",")[0] for one in metadata.get_all("Project-URL", [])}
    yield from (f"no address {name}" for name in sorted(URLS - urls))
    if not any(one.startswith("Typing ::") for one in metadata.get_all("Classifier", [])):
        yield "no classifier says that it is typed"


def _built(python: Path, target: str, source: Path, into: Path) -> Path:
    into.mkdir(parents=True, exist_ok=True)
    before = set(into.iterdir())
    run(python, "-m", "hatchling", "build", "--target", target, "--directory", into, cwd=source)
    (made,) = set(into.iterdir()) - before
    return made


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
